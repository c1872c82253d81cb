"""Where clips happen: every place by name, drawn on demand.

Places are drawn procedurally (places/): nothing is loaded from disk, and a scene is a pure function of its place, its
variant and the resolution.
"""

import zlib

import numpy as np

from kinema.errors import InputError
from kinema.world.light import LIGHTS, apply_light
from kinema.world.places import table
from kinema.world.places.scene import GROUND_Y, Ground, Layer, Place, Scene
from kinema.world.weather import WEATHERS, weather_overlay

__all__ = [
    "GROUND_Y",
    "LIGHTS",
    "PLACES",
    "VARIANTS",
    "WEATHERS",
    "Ground",
    "Layer",
    "Place",
    "Scene",
    "apply_light",
    "draw_scene",
    "weather_overlay",
]

VARIANTS = 32
PLACES: dict[str, Place] = {place.name: place for place in table.PLACES}


def draw_scene(place: str, variant: int, px: int) -> Scene:
    """A place drawn at `px` pixels a frame height; a pure function of its arguments.

    variant: 0..VARIANTS - 1 changes colours, weather-worn shapes and where things stand.
    Raises InputError for an unknown place or variant.
    """
    if place not in PLACES:
        raise InputError(f"place={place!r} is unknown: use one of {', '.join(PLACES)}")
    if not 0 <= variant < VARIANTS:
        raise InputError(f"variant={variant} is out of range: use 0 to {VARIANTS - 1}")
    return PLACES[place].draw(np.random.default_rng([zlib.crc32(place.encode()), variant]), px)
