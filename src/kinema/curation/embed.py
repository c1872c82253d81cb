"""What a clip shows, as a vector: ImageNet features of a few frames, for near-duplicates and concept clusters."""

from functools import cache
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import spread

SIDE, FRAMES = 224, 4
WIDTH = 1280  # numbers of a vector


@cache
def backbone() -> Any:
    """EfficientNet-Lite0, kept for the process."""
    from kinema.media.imagenet import EfficientNetLite0

    return EfficientNetLite0.load()


def embed(frames: UInt8[np.ndarray, "T h w 3"]) -> Float[np.ndarray, " 1280"]:
    """The mean of 4 frames' pooled features, of length 1."""
    import torch

    pictures = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in spread(frames, FRAMES)]
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        mean = backbone().embed(batch).mean(dim=0).numpy()
    return mean / max(float(np.linalg.norm(mean)), 1e-9)
