"""Which way the thing that moves in a video goes, by dense optical flow (Kroeger et al. 2016, "DIS", as OpenCV has it).

The flow of the background (the median along the frame's border) is taken off; what is left is averaged over all pixels that move,
so what is large counts more than what is small, and a gait's ups and downs cancel.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kinema.errors import MissingExtraError

DIRECTIONS = ("left", "right", "up", "down")
FLOW_HEIGHT = 192  # pixels at which flow is found: small videos are enlarged, else small subjects have none
BORDER = 0.08  # frame heights
MOVING = 0.004  # frame heights a frame from which a pixel counts as moving
LEAST_TRAVEL = 0.04  # frame heights in all below which nothing went anywhere


def grey_frames(frames: UInt8[Tensor, "T H W 3"]) -> list[UInt8[np.ndarray, "h w"]]:
    """Frames as OpenCV wants them, FLOW_HEIGHT high."""
    cv2 = opencv()
    wide = round(frames.shape[2] / frames.shape[1] * FLOW_HEIGHT)
    return [cv2.resize(cv2.cvtColor(frame.numpy(), cv2.COLOR_RGB2GRAY), (wide, FLOW_HEIGHT)) for frame in frames.cpu()]


def opencv():
    """The cv2 module. Raises MissingExtraError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "world") from error
    return cv2


def border(height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """The outer BORDER of a frame's height on every side: what a subject seldom fills."""
    inside, edge = np.zeros((height, width), bool), round(BORDER * height)
    inside[edge:-edge, edge:-edge] = True
    return ~inside


def moving_flow(flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "n 2"]:
    """The flow against the background of the pixels that move: (right, down), in frame heights a frame."""
    apart = (flow - np.median(flow[border(*flow.shape[:2])], axis=0)) / flow.shape[0]
    return apart[np.linalg.norm(apart, axis=-1) > MOVING]


def travel(frames: UInt8[Tensor, "T H W 3"]) -> Float[np.ndarray, " 2"]:
    """How far the subject went in the whole video: (right, down), in frame heights."""
    finder = opencv().DISOpticalFlow_create(opencv().DISOPTICAL_FLOW_PRESET_MEDIUM)
    steps = [moving_flow(finder.calc(before, after, None)) for before, after in pairwise(grey_frames(frames))]
    moved = np.concatenate([np.zeros((0, 2)), *steps])
    return moved.mean(axis=0) * len(steps) if len(moved) else np.zeros(2)


def direction(frames: UInt8[Tensor, "T H W 3"]) -> str:
    """One of DIRECTIONS, or "none" where the subject stays about where it is."""
    right, down = travel(frames)
    if max(abs(right), abs(down)) < LEAST_TRAVEL:
        return "none"
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"
