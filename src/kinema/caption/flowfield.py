"""How a clip's picture moves: median optical flow in 6 x 8 cells of the frame, a few pairs of frames a second.

Flow: dense inverse search (Kroeger et al. 2016, arXiv 1603.03590). Lengths are frame heights, so that a clip measures alike at any size.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from kinema.errors import InputError, MissingExtraError

ROWS, COLUMNS = 6, 8  # cells
CELL = 24  # pixels of a cell's side, once the frame is shrunk to 144 x 192
RATE = 6.0  # pairs a second
MOST_PAIRS = 48  # of a clip; a longer one is sampled more thinly
TEXTURE = 4.0  # luma levels a pixel: with a weaker gradient than this, flow is a guess


@dataclass(frozen=True)
class FlowField:
    """Speeds in frame heights a second, x to the right and y down, and how much there was to see in each cell."""

    speed: Float[np.ndarray, "P 6 8 2"]
    trust: Float[np.ndarray, "P 6 8"]  # 0 (a plain wall) to 1
    aspect: float  # width / height
    step: float  # seconds between the two frames of a pair


def measure(frames: UInt8[np.ndarray, "T H W 3"], fps: float) -> FlowField:
    """The flow field of a clip of one shot. Raises InputError for fewer than three frames; MissingExtraError without OpenCV."""
    if len(frames) < 3 or fps <= 0:
        raise InputError(f"frames={len(frames)} at fps={fps}: a camera movement needs 3 frames or more and a rate above 0")
    cv2 = opencv()
    stride = max(1, round(fps / RATE), -(-len(frames) // MOST_PAIRS))
    stride = min(stride, (len(frames) - 1) // 2)
    height, width = frames.shape[1:3]
    size = (COLUMNS * CELL, ROWS * CELL)
    luma = [cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for frame in frames[::stride]]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = np.stack([medians(search.calc(before, after, None)) for before, after in pairwise(luma)])
    step = stride / fps
    to_heights = np.array([width / height / size[0], 1 / size[1]]) / step
    return FlowField(flows * to_heights, np.stack([texture(picture) for picture in luma[:-1]]), width / height, step)


def opencv():
    """Imported late, so that `--help` answers at once."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "caption") from error
    return cv2


def in_cells(picture: np.ndarray) -> np.ndarray:
    """[144 192 ...] -> [6 8 576 ...]"""
    tail = picture.shape[2:]
    return picture.reshape(ROWS, CELL, COLUMNS, CELL, *tail).swapaxes(1, 2).reshape(ROWS, COLUMNS, CELL * CELL, *tail)


def medians(flow: Float[np.ndarray, "144 192 2"]) -> Float[np.ndarray, "6 8 2"]:
    return np.median(in_cells(flow), axis=2)


def texture(luma: UInt8[np.ndarray, "144 192"]) -> Float[np.ndarray, "6 8"]:
    """Share of a cell's pixels whose gradient stands out."""
    down, right = np.gradient(luma.astype(np.float32))
    return np.clip((in_cells(np.hypot(down, right)) > TEXTURE).mean(axis=2) * 4, 0, 1)


def places(aspect: float) -> Float[np.ndarray, "6 8 2"]:
    """Where the cells' middles lie, in frame heights from the middle of the frame."""
    x = ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * aspect
    y = (np.arange(ROWS) + 0.5) / ROWS - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1)


def affine(field: FlowField, rounds: int = 8) -> Float[np.ndarray, "P 3 2"]:
    """For each pair the affine motion that most of the frame follows: speed = [1, x, y] @ result.

    Fitted by least squares, then again with less weight on what does not fit (Cauchy's weights), so that a subject counts little.
    """
    where = places(field.aspect).reshape(-1, 2)
    basis = np.concatenate([np.ones((len(where), 1)), where], axis=1)  # [48 3]
    speed = field.speed.reshape(len(field.speed), -1, 2)
    weights = field.trust.reshape(len(speed), -1) + 0.02
    ease, fit = np.eye(3) * 1e-3, np.zeros((len(speed), 3, 2))
    robust = np.ones_like(weights)
    for _ in range(rounds):
        weighted = (weights * robust)[..., None] * basis  # [P 48 3]
        fit = np.linalg.solve(weighted.swapaxes(1, 2) @ basis + ease, weighted.swapaxes(1, 2) @ speed)
        miss = np.linalg.norm(speed - basis @ fit, axis=2)
        scale = 1.5 * np.median(miss, axis=1, keepdims=True) + 1e-3
        robust = 1 / (1 + (miss / scale) ** 2)
    return fit
