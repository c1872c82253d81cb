"""What a clip shows, as a vector: ImageNet features of a few frames, for near-duplicates and concept clusters."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import spread
from kinema.curation.networks import network

SIDE, FRAMES = 224, 4
WIDTH = 1280  # numbers of a vector


def embed(frames: UInt8[np.ndarray, "T h w 3"]) -> Float[np.ndarray, " 1280"]:
    """The mean of 4 frames' pooled features, of length 1."""
    pictures = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in spread(frames, FRAMES)]
    features = [network("efficientnet").run(None, {"seen": picture[None]})[0][0] for picture in pictures]  # one by one: less memory
    mean = np.mean(features, axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)
