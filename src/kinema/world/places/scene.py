"""What a place is made of: planes at depths, a ground, and the words for it.

The camera is a pinhole at the origin looking along +z, x right, y down. At depth z the frame is exactly z high, so a
point is seen at (u, v) = (x / z, y / z): v runs from -0.5 (top) to 0.5 (bottom), u to the right. Sizes named "frame
heights" are measured on that screen with the camera at rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

GROUND_Y = 0.5  # the ground is the plane y = GROUND_Y, half a unit under the camera


@dataclass(frozen=True)
class Layer:
    """An upright picture at one depth; width, height and center in frame heights as seen at rest."""

    depth: float
    texture: Float[Tensor, "4 h w"]  # premultiplied RGBA in [0, 1]
    width: float
    height: float
    center: tuple[float, float]  # (u, v) of its middle


@dataclass(frozen=True)
class Ground:
    """The plane y = GROUND_Y, tiled without seams.

    Row r of the texture lies at z = r / h x tile and column c at x = c / w x tile: rows go away from the camera.
    Beyond haze_start the ground turns into its haze colour, wholly so at the horizon; a share of 1 - haze_start / z is
    linear down the screen.
    """

    texture: Float[Tensor, "3 h w"]
    tile: float  # world units a period, along x and along z
    haze: tuple[float, float, float]
    haze_start: float  # depth


@dataclass(frozen=True)
class Scene:
    """A drawn place, its layers far to near; the first is an opaque backdrop, and the ground lies over it."""

    place: str
    layers: tuple[Layer, ...]
    ground: Ground | None
    horizon: float  # screen v of the horizon at rest; feet at depth z are seen at v = GROUND_Y / z + horizon


Draw = Callable[[np.random.Generator, int], Scene]
"""(random numbers, pixels a frame height) -> scene; the same numbers give the same picture at any resolution."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place by name: how to draw it and how to speak of it."""

    name: str
    phrases: tuple[str, ...]  # where it happens: "on the grass"
    background: tuple[str, ...]  # sentences for the caption's background field
    draw: Draw
    has_ground: bool  # subjects stand; otherwise they float
    lights: tuple[str, ...]  # names in LIGHTS that suit it, the most natural first
    weathers: tuple[str, ...] = ("clear",)  # names in WEATHERS that suit it
    places_match: tuple[str, ...] = ()  # words of the subjects' `places` field that it satisfies
