"""Where a head is and how it is turned, frame by frame: from a JSON file or a driving video."""

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError

COLUMNS = ("yaw", "pitch", "roll", "x", "y")
VALUES = len(COLUMNS)
SCALE = torch.tensor([1 / 10, 1 / 10, 1 / 10, 10.0, 10.0])  # degrees and half-heights -> about 1
LIMITS = (60.0, 60.0, 60.0, 2.0, 2.0)


def scaled(track: Float[Tensor, "*B T 5"]) -> Float[Tensor, "*B T 5"]:
    """For the network: since the first frame, which the picture shows."""
    return (track - track[..., :1, :]) * SCALE.to(track)


def read_pose(path: Path | str) -> Float[Tensor, "T 5"]:
    """A JSON object of lists, one number a frame: yaw, pitch, roll in degrees, x and y in half-heights of the picture; what is
    missing stays 0. The truth file of `kinema world speak` is one.

    Raises InputError where it is no such file, lists differ in length, or a number is out of range.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as a pose track: {error}") from error
    tracks = {name: found[name] for name in COLUMNS if name in found} if isinstance(found, dict) else {}
    if not tracks or len({len(track) if isinstance(track, list) else 0 for track in tracks.values()} - {0}) != 1:
        raise InputError(f"{path} holds no pose track: give lists of one length under some of {', '.join(COLUMNS)}")
    length = len(next(iter(tracks.values())))
    for name, limit in zip(COLUMNS, LIMITS, strict=True):
        if not all(isinstance(value, int | float) and abs(value) <= limit for value in tracks.get(name, [])):
            raise InputError(f"{path}: {name} must hold numbers from {-limit:g} to {limit:g}")
    return torch.tensor([tracks.get(name, [0.0] * length) for name in COLUMNS]).T
