"""Brightness and contrast."""

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.curation.decode import gray, spread

FRAMES = 16


def brightness(frames: UInt8[np.ndarray, "T h w 3"]) -> float:
    """Mean luma, 0 to 255. Usual range kept: 20 to 180 (Allegro, arXiv 2410.15458)."""
    return float(gray(spread(frames, FRAMES)).mean())


def contrast(frames: UInt8[np.ndarray, "T h w 3"]) -> float:
    """Standard deviation of luma within a frame, mean over frames, 0 to 127.5; below 8 there is little to see."""
    return float(np.mean([cv2.meanStdDev(luma)[1] for luma in gray(spread(frames, FRAMES))]))
