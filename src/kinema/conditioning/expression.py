"""What a face shows: named, or read frame by frame from a driving video."""

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError
from kinema.world.faces import EXPRESSIONS

NAMES = tuple(EXPRESSIONS)
VALUES = len(NAMES) + 1  # a frame: the strength of each expression, and how far the lids are shut
RISE = 6  # frames in which a named expression comes up


def prompt_for(expression: str) -> str:
    """The text that avatars are trained with."""
    mood = "" if expression == "neutral" else f"{expression} "
    return f"Close-up of a {mood}face that looks at the camera and speaks."


def named_track(name: str, frames: int, began: bool = False) -> Float[Tensor, "T 6"]:
    """A named expression, coming up from the first frame on; `began`: it is there already. Raises InputError for an unknown name."""
    if name not in NAMES:
        raise InputError(f"expression={name!r} is not known: use one of {', '.join(NAMES)}")
    come = torch.ones(frames) if began else (torch.arange(frames) / RISE).clamp(0, 1)
    track = torch.zeros(frames, VALUES)
    track[:, NAMES.index("neutral")] += 1 - come
    track[:, NAMES.index(name)] += come
    return track
