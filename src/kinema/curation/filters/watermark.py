"""Watermarks and logos that stand still while the picture moves.

Two ways. `static_overlay` needs no weights: steep, steady pixels in a clip that moves. `Detector` is our own network, an anchor-free
one-stage detector in the manner of YOLOX (arXiv 2107.08430, named by HunyuanVideo §3.1) that reads maps of a whole clip, not frames:
how bright, how steady, and how lasting its edges are. It also finds marks where nothing moves, by their looks.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import gray, spread
from kinema.curation.filters.session import onnx_session
from kinema.errors import WeightsError

FRAMES = 12
STRIDE = 8  # pixels of the maps a cell of the detector
PRETRAINED = Path(__file__).parents[2] / "pretrained" / "watermark" / "watermark.onnx"
OVERLAP = 0.4  # of two boxes for one mark
FAINTEST = 0.05  # probability: boxes below are not reported

STEADY, STEEP = 3.0, 24.0  # the baseline: levels of temporal deviation at most, levels of gradient at least
LEAST_MOTION = 4.0  # levels: temporal deviation of the picture as a whole, below which steadiness says nothing
AREAS = (0.0005, 0.05)  # shares of the frame that a mark's box may cover
EDGE_BAND = 0.25  # of height and width, where marks are


class Found(NamedTuple):
    """A mark: its probability and its box in shares of the frame."""

    score: float
    left: float
    top: float
    right: float
    bottom: float


class Maps(NamedTuple):
    """What a clip's frames have in common; luma levels."""

    mean: Float[np.ndarray, "h w"]
    deviation: Float[np.ndarray, "h w"]  # temporal
    lasting: Float[np.ndarray, "h w"]  # slope of the mean: only edges that stay are steep in it
    passing: Float[np.ndarray, "h w"]  # mean of the slopes: every edge
    colour: Float[np.ndarray, "2 h w"]  # mean of red - luma and blue - luma

    def stacked(self) -> Float[np.ndarray, "6 h w"]:
        """As the detector wants them, each near [-1, 2]."""
        mean, spread_, lasting, passing = self.mean / 128 - 1, self.deviation / 32, self.lasting / 32, self.passing / 32
        return np.concatenate([np.minimum(np.stack([mean, spread_, lasting, passing]), 3), self.colour / 64]).astype(np.float32)


def slopes(luma: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    return cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=1 / 4), cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=1 / 4)


def maps(frames: UInt8[np.ndarray, "T h w 3"]) -> Maps:
    """frames: 256 pixels on the shorter side; 12 of them are read."""
    chosen = spread(frames, FRAMES)
    lumas = gray(chosen)
    total, square, passing = (np.zeros(lumas.shape[1:], np.float32) for _ in range(3))
    colour = np.zeros(chosen.shape[1:], np.float32)
    for frame, luma in zip(chosen, lumas, strict=True):
        cv2.accumulate(frame, colour)
        cv2.accumulate(luma, total)
        cv2.accumulateSquare(luma, square)
        passing += cv2.magnitude(*slopes(luma.astype(np.float32)))
    mean = total / len(chosen)
    deviation = np.sqrt(np.maximum(square / len(chosen) - mean * mean, 0))
    tint = np.stack([colour[..., 0] / len(chosen) - mean, colour[..., 2] / len(chosen) - mean])
    return Maps(mean, deviation, cv2.magnitude(*slopes(mean)), passing / len(chosen), tint)


def static_overlay(seen: Maps) -> list[Found]:
    """The baseline: pieces of steady, steep pixels near the edges of a clip that moves; score 1. Nothing where too little moves."""
    height, width = seen.mean.shape
    if np.median(seen.deviation) < LEAST_MOTION:
        return []
    pixels = ((seen.deviation < STEADY) & (seen.lasting > STEEP)).astype(np.uint8)
    joined = cv2.morphologyEx(pixels, cv2.MORPH_CLOSE, np.ones((5, 11), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    boxes = []
    for left, top, wide, tall, _ in stats[1:count].tolist():
        right, bottom = left + wide, top + tall
        at_edge = min(top, height - bottom) < EDGE_BAND * height and min(left, width - right) < EDGE_BAND * width
        if at_edge and AREAS[0] <= wide * tall / (height * width) <= AREAS[1]:
            boxes.append(Found(1.0, left / width, top / height, right / width, bottom / height))
    return boxes


@cache
def detector() -> Any:
    """The shipped network, kept for the process. Raises WeightsError where it is missing."""
    if not PRETRAINED.is_file():
        raise WeightsError(f"no watermark detector at {PRETRAINED}: reinstall kinema, or train one with runs/watermark.sh")
    return onnx_session(PRETRAINED)


def padded(stacked: Float[np.ndarray, "6 h w"]) -> Float[np.ndarray, "1 6 H W"]:
    """Up to whole cells, by repeating the rim."""
    height, width = stacked.shape[1:]
    return np.pad(stacked, ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE)), mode="edge")[None]


def overlap(one: Found, other: Found) -> float:
    """Intersection over union."""
    wide = min(one.right, other.right) - max(one.left, other.left)
    tall = min(one.bottom, other.bottom) - max(one.top, other.top)
    if wide <= 0 or tall <= 0:
        return 0.0
    area = lambda box: (box.right - box.left) * (box.bottom - box.top)  # noqa: E731
    return wide * tall / (area(one) + area(other) - wide * tall)


def boxes_of(cells: Float[np.ndarray, "5 a b"], height: int, width: int) -> list[Found]:
    """The network's cells as boxes, the best of each heap: probability, then how far the box reaches left, up, right and down."""
    found = []
    for row, column in np.argwhere(cells[0] > FAINTEST).tolist():
        score, left, up, right, down = cells[:, row, column].tolist()
        x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
        edges = ((x - left) / width, (y - up) / height, (x + right) / width, (y + down) / height)
        found.append(Found(score, *(min(1.0, max(0.0, edge)) for edge in edges)))
    kept: list[Found] = []
    for box in sorted(found, reverse=True):
        if all(overlap(box, other) < OVERLAP for other in kept):
            kept.append(box)
    return kept


def watermarks(seen: Maps, model: Any = None) -> list[Found]:
    """Marks in a clip, the surest first. model: an ONNX session, by default the shipped one."""
    model = model or detector()
    (cells,) = model.run(None, {"maps": padded(seen.stacked())})
    return boxes_of(cells[0], *seen.mean.shape)
