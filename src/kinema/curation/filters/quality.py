"""Technical quality without a reference: BRISQUE (Mittal et al. 2012, "No-reference image quality assessment in the spatial domain").

The features are computed here with OpenCV; the regressor's numbers, trained on the LIVE data set, are those in the package brisque
(Apache-2.0), whose own code is slow and fails under numpy 2.4: a test compares the two.
"""

import pickle
from functools import cache
from math import gamma
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import gray, spread
from kinema.media.packaged import Packed, located

SVM = Packed("brisque", "brisque", "models/svm.txt", "19526fb799c4c7992ccc109fcfecddb25976ba024b194cd3ee275d27e8909c8d", "curate")
RANGES = Packed(
    "brisque", "brisque", "models/normalize.pickle", "a91753fe7088efe0b40e4d091315201fdb067966fc6785cf465e1eab060acda9", "curate"
)
SHORT_SIDE = 360  # pixels: larger frames are shrunk, so that scores compare
FRAMES = 3
SIGMA, WINDOW = 7 / 6, 7
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # across, down, and both diagonals
SHAPES = np.arange(0.2, 10.0, 0.001)  # of the generalised Gaussian
RATIOS = np.array([gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) for a in SHAPES])


class Regressor(NamedTuple):
    """A support vector regression with a radial kernel, and the ranges its features are scaled by."""

    vectors: Float[np.ndarray, "n 36"]
    weights: Float[np.ndarray, " n"]
    gamma: float
    rho: float
    low: Float[np.ndarray, " 36"]
    high: Float[np.ndarray, " 36"]

    def __call__(self, features: Float[np.ndarray, " 36"]) -> float:
        scaled = 2 * (features - self.low) / (self.high - self.low) - 1
        return float(self.weights @ np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(axis=1)) - self.rho)


@cache
def regressor() -> Regressor:
    head, body = located(SVM).read_text().split("\nSV\n")
    fields = dict(line.split(maxsplit=1) for line in head.splitlines())
    rows = [line.split() for line in body.splitlines()]
    vectors = np.array([[float(pair.split(":")[1]) for pair in row[1:]] for row in rows])
    with located(RANGES).open("rb") as file:
        ranges = pickle.load(file)  # its bytes are known: `located` checked them
    low, high = (np.array(ranges[name], float) for name in ("min_", "max_"))
    return Regressor(vectors, np.array([float(row[0]) for row in rows]), float(fields["gamma"]), float(fields["rho"]), low, high)


def normalised(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Each pixel less its neighbourhood's mean, over its deviation. image: in [0, 1]."""
    smooth = lambda picture: cv2.GaussianBlur(picture, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_CONSTANT)  # noqa: E731
    mean = smooth(image)
    return (image - mean) / (np.sqrt(np.abs(smooth(image * image) - mean * mean)) + 1 / 255)


def asymmetric_fit(values: Float[np.ndarray, "_ _"]) -> tuple[float, float, float, float]:
    """Shape, mean, left and right variance of the asymmetric generalised Gaussian with these values' moments."""
    values = np.ascontiguousarray(values).ravel()
    positive = np.maximum(values, 0)
    size, fewer = values.size, int(np.count_nonzero(values < 0))
    square, above_zero = float(np.vdot(values, values)), float(np.vdot(positive, positive))
    below = (max(0.0, square - above_zero) / max(1, fewer)) ** 0.5 or 1e-6
    above = (above_zero / max(1, size - fewer)) ** 0.5 or 1e-6
    skew = below / above
    flat = (float(2 * positive.sum() - values.sum()) / size) ** 2 / max(square / size, 1e-12)
    wanted = flat * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = float(SHAPES[np.abs(RATIOS - wanted).argmin()])
    mean = (above - below) * np.sqrt(gamma(1 / shape) / gamma(3 / shape)) * gamma(2 / shape) / gamma(1 / shape)
    return shape, float(mean), below**2, above**2


def shifted_product(field: Float[np.ndarray, "h w"], down: int, across: int) -> Float[np.ndarray, "_ _"]:
    """Products of pixels and their neighbours."""
    height = field.shape[0]
    here = field[max(0, -down) : height - max(0, down), : field.shape[1] - across]
    there = field[max(0, down) : height - max(0, -down), across:]
    return here * there


def features(image: Float[np.ndarray, "h w"]) -> list[float]:
    """18 numbers of one scale."""
    field = normalised(image)
    shape, _, below, above = asymmetric_fit(field)
    numbers = [shape, (below + above) / 2]
    for down, across in NEIGHBOURS:
        numbers += asymmetric_fit(shifted_product(field, down, across))
    return numbers


def brisque_score(luma: UInt8[np.ndarray, "h w"]) -> float:
    """About 0 (clean) to 100 (ruined)."""
    image = luma.astype(np.float32) / 255
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return regressor()(np.array(features(image) + features(half)))


def brisque(frames: UInt8[np.ndarray, "K H W 3"]) -> float:
    """Median of 3 frames whose shorter side is 360 pixels, or less where the clip is smaller."""
    lumas = gray(spread(frames, FRAMES))
    scale = min(1.0, SHORT_SIDE / min(lumas.shape[1:]))
    if scale < 1:
        lumas = np.stack([cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for luma in lumas])
    return float(np.median([brisque_score(luma) for luma in lumas]))
