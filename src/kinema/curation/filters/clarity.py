"""How sharp a clip is.

The variance of the Laplacian depends on what is shown and on the frame's size: it compares frames of one clip, which is how
HunyuanVideo uses it (a clear first frame, arXiv 2412.03603 §3.1). To compare clips, the width of their edges is estimated.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import gray, spread

CLEAR_SHARE = 0.8  # of the first second's median: from there on the clip is clear
REBLUR = 1.0  # pixels: how much an edge is blurred again to see how much it changes
EDGE_FLOOR = 6.0  # luma levels a pixel: weaker slopes are noise
FEWEST_EDGES = 40  # pixels of a frame
SHARPEST_SHARE = 25  # percent: a shallow focus leaves the background soft, which is no fault
FRAMES = 8


def laplacian_variance(luma: UInt8[np.ndarray, "h w"]) -> float:
    """Variance of the discrete Laplacian; comparable only between frames of one size (here: 256 pixels on the shorter side)."""
    return float(cv2.Laplacian(luma, cv2.CV_32F, ksize=1).var())


def sharpness(frames: UInt8[np.ndarray, "T h w 3"]) -> float:
    """Median of the Laplacian's variance over 8 frames of 256 pixels."""
    return float(np.median([laplacian_variance(luma) for luma in gray(spread(frames, FRAMES))]))


def clear_start(variances: Float[np.ndarray, " T"], fps: float) -> int:
    """The first frame of the first second whose variance reaches 0.8 of that second's median; 0 where none does."""
    second = variances[: max(1, round(fps))]
    clear = np.flatnonzero(second >= CLEAR_SHARE * np.median(second))
    return int(clear[0]) if len(clear) else 0


def slope(luma: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Steepness in luma levels a pixel."""
    return cv2.magnitude(cv2.Scharr(luma, cv2.CV_32F, 1, 0, scale=1 / 32), cv2.Scharr(luma, cv2.CV_32F, 0, 1, scale=1 / 32))


def edge_blur(luma: UInt8[np.ndarray, "h w"]) -> float | None:
    """The sigma, in pixels, of the Gaussian that would have made this frame's sharper edges out of steps; None without edges.

    Each edge is blurred once more by a known sigma; the fall of its slope tells how soft it was (Zhuo & Sim 2011, "Defocus map
    estimation from a single image"). The 25th percentile over the edges is taken.
    """
    image = luma.astype(np.float32)
    sharp, soft = slope(image), slope(cv2.GaussianBlur(image, (0, 0), REBLUR))
    ridge = (soft >= cv2.dilate(soft, np.ones((3, 3), np.uint8)) * 0.999) & (soft > EDGE_FLOOR)
    if ridge.sum() < FEWEST_EDGES:
        return None
    ratio = np.maximum(sharp[ridge] / soft[ridge], 1.001)
    return float(np.percentile(REBLUR / np.sqrt(ratio**2 - 1), SHARPEST_SHARE))


def blur(frames: UInt8[np.ndarray, "K H W 3"]) -> float | None:
    """Median of `edge_blur` over at least 4 frames as large as the clip; None where no frame has edges."""
    found = [value for value in map(edge_blur, gray(spread(frames, FRAMES // 2))) if value is not None]
    return float(np.median(found)) if found else None
