"""The offline captioner: what `sight.py` is sure of, in sentences. It says less than a large model, and invents nothing.

Its card, with accuracy by field on held-out clips of the world and on real footage: `pretrained/captioner/README.md`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8

from kinema.caption.schema import Reading
from kinema.caption.sight import Eyes, Seen
from kinema.records import Caption
from kinema.world.grammar import is_plural, sentence, with_article
from kinema.world.light import LIGHTS
from kinema.world.scenes import PLACES
from kinema.world.style import STYLES
from kinema.world.weather import WEATHERS

FILMED_LIGHT = {"bright": "bright light", "dim": "dim light", "": ""}


def where(seen: Seen) -> str:
    """ "on the grass"; "" where not sure."""
    return PLACES[seen.place].phrases[0] if seen.is_world and seen.place else seen.place


def around(seen: Seen) -> list[str]:
    """Weather and light, as they are added to a sentence."""
    if not seen.is_world:
        return [f"in {FILMED_LIGHT[seen.light]}"] if seen.light else []
    weather = WEATHERS[seen.weather].phrases[:1] if seen.weather else ()
    light = LIGHTS[seen.light].phrases[:1] if seen.light and seen.light != "daylight" else ()
    return [*weather, *light]


def short(seen: Seen) -> str:
    """One sentence; "" where nothing is sure but style and framing."""
    place, words = where(seen), around(seen)
    if seen.subject:
        return sentence(" ".join([with_article(seen.subject), "are" if is_plural(seen.subject) else "is", place or "in view", *words[:1]]))
    return sentence(f"a scene {' '.join([place, *words[:1]])}") if place or words else ""


def fields(seen: Seen) -> Caption:
    """A caption whose unsure fields are empty."""
    style = STYLES[seen.style].phrases[0] if seen.style in STYLES else seen.style
    light = LIGHTS[seen.light] if seen.is_world and seen.light else None
    first = short(seen) or (sentence(f"{style} clip") if style else "")
    more = [
        sentence(words) for words in (*around(seen)[1:], style and f"the look is {style}", seen.shot and f"it is a {seen.shot}") if words
    ]
    background = sentence(PLACES[seen.place].background[0]) if seen.is_world and seen.place else ""
    lighting = light.lighting[0] if light else sentence(FILMED_LIGHT[seen.light]) if seen.light else ""
    return Caption(
        short=first,
        dense=" ".join([first, *more, background] if background else [first, *more]) if first else "",
        background=background,
        style=sentence(style) if style else "",
        shot_type=sentence(seen.shot) if seen.shot else "",
        lighting=lighting,
        atmosphere=sentence(f"{light.atmosphere[0]} mood") if light and seen.weather == "clear" else "",
        camera_movement="",
    )


class OfflineCaptioner:
    """Needs no network. The camera's movement is told by `camera.py`, which sees how fast frames follow one another."""

    name = "offline:1"

    def __init__(self) -> None:
        self.eyes = Eyes()

    def caption(self, clips: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]) -> list[Reading]:
        """Raises WeightsError or MissingExtraError where a network is missing."""
        return [self.one(frames) for frames in clips]

    def one(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Reading:
        caption = fields(self.eyes.see(rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "T H W C -> T C H W")))
        if not caption.short:
            return Reading(None, 0, "nothing in this clip is sure enough to be told")
        return Reading(caption, 0)
