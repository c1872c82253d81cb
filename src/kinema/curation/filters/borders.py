"""Black borders: letterbox, pillarbox, window box."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from kinema.curation.decode import gray

BLACK = 16  # luma: what stays below it at all times is black
SPREAD = 10  # luma levels that coding noise may put between the frames of a border
EDGE = 32  # luma that the picture reaches just inside its border; a night sky does not
FLAT = 1.0  # luma levels of deviation over a border; the dark part of a picture is less even


class Borders(NamedTuple):
    """Rows and columns of black at each edge, in pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def area(self, height: int, width: int) -> float:
        """Share of the frame that is black, 0 to 1."""
        return 1 - (height - self.top - self.bottom) * (width - self.left - self.right) / (height * width)


def run_of(black: Bool[np.ndarray, " n"], bright: UInt8[np.ndarray, " n"], mean: Float[np.ndarray, "n m"]) -> int:
    """How many lines from the start are border: black ones, alike, where the picture begins with a step and not with a slow dusk."""
    if black.all():
        return 0
    length = int(np.argmin(black))
    steps = length > 0 and bright[length : length + 3].max() >= EDGE
    return length if steps and float(mean[:length].std()) < FLAT else 0


def borders(frames: UInt8[np.ndarray, "K H W 3"]) -> Borders:
    """Lines black and steady in all frames and joined to an edge; frames as large as the clip, 8 spread over it.

    A clip that is black all over has no borders: its brightness rejects it.
    """
    luma = gray(frames)
    brightest = luma.max(axis=0)
    steady = brightest - luma.min(axis=0) < SPREAD
    black = (brightest < BLACK) & steady
    mean, lines = luma.mean(axis=0, dtype=np.float32), []
    for axis, rows in ((1, mean), (0, mean.T)):
        dark, bright = black.all(axis=axis), brightest.max(axis=axis)
        lines += [run_of(dark, bright, rows), run_of(dark[::-1], bright[::-1], rows[::-1])]
    return Borders(*lines)
