"""Portraits: a subject whole, upright and alone before a plain ground, as a reference picture shows it."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from kinema.world.sprites import premultiplied

GROUND = 178  # gray level behind a portrait
MARGIN = 0.06  # of its longer side, around the subject
SEEN = 13  # alpha from which a pixel belongs to the subject


def portrait(
    frames: UInt8[Tensor, "F 4 S S"], number: int, height: int, width: int, mirrored: bool = False, ground: int = GROUND
) -> UInt8[Tensor, "3 H W"]:
    """One frame of a sprite's loop, cut to what the whole loop covers and put in the middle.

    frames: straight alpha. ground: gray level behind it.
    """
    square = premultiplied(framed(frames)[number][None], min(height, width))[0].float()
    square = square.flip(-1) if mirrored else square
    seen = square[:3] + (1 - square[3:] / 255) * ground
    canvas = torch.full((3, height, width), float(ground))
    top, left = ((whole - part) // 2 for whole, part in zip((height, width), square.shape[1:], strict=True))
    canvas[:, top : top + square.shape[1], left : left + square.shape[2]] = seen
    return canvas.round().clamp(0, 255).to(torch.uint8)


def framed(frames: UInt8[Tensor, "F 4 S S"]) -> UInt8[Tensor, "F 4 s s"]:
    """Cut, or padded, to a square with a margin around everything that the loop ever shows."""
    covered = frames[:, 3].amax(0) >= SEEN
    (top, bottom), (left, right) = (extent(covered.any(axis).numpy()) for axis in (1, 0))
    side = max(bottom - top, right - left)
    side += 2 * (int(MARGIN * side) + 1)
    up, before = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    pads = (before, side - (right - left) - before, up, side - (bottom - top) - up)
    return F.pad(frames[:, :, top:bottom, left:right], pads)


def extent(flags: np.ndarray) -> tuple[int, int]:
    """[first, last + 1) of what is true; the whole where nothing is."""
    places = np.flatnonzero(flags)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(flags))
