"""Colour and contrast as a poor man's beauty, and the published predictor where its weights are at hand.

`colour_contrast` is a composite of our own, named for what it is: it ranks grey, flat pictures low and says nothing of composition.
`LAIONPredictor` is the published score (CLIP ViT-L/14 and one linear layer); its weights come in no package, so a folder must hold them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinema.curation.decode import gray, spread
from kinema.errors import WeightsError

FULL_COLOUR, FULL_CONTRAST = 80.0, 64.0  # at which either half of the composite is full: "highly colourful"; a quarter of the range
FRAMES = 4
LINEAR_HEAD = "sa_0_4_vit_l_14_linear.pth"  # as LAION named it


def colourfulness(frames: UInt8[np.ndarray, "T h w 3"]) -> float:
    """0 (grey) to about 110 (garish), mean over 4 frames (Hasler & Süsstrunk 2003, "Measuring colourfulness in natural images")."""
    values = []
    for frame in spread(frames, FRAMES):
        red, green, blue = np.moveaxis(frame[::2, ::2].astype(np.float32), -1, 0)
        rg, yb = red - green, 0.5 * (red + green) - blue
        values.append(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))
    return float(np.mean(values))


def colour_contrast(frames: UInt8[np.ndarray, "T h w 3"]) -> float:
    """Half colourfulness, half spread of luma (its 5th to 95th percentile), 0 to 1."""
    low, high = np.percentile(gray(spread(frames, FRAMES))[:, ::2, ::2], (5, 95))
    return float(0.5 * min(1.0, colourfulness(frames) / FULL_COLOUR) + 0.5 * min(1.0, (high - low) / 2 / FULL_CONTRAST))


class LAIONPredictor:
    """The aesthetic predictor of LAION (Schuhmann 2022): 1 to 10, usual thresholds 4.5 to 5.5.

    folder: a CLIP ViT-L/14 as transformers saves it, with LAION's linear layer beside it.
    """

    def __init__(self, folder: Path):
        """Raises WeightsError where the folder does not hold both."""
        import torch
        from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

        try:
            self.processor = AutoImageProcessor.from_pretrained(folder)
            self.tower: Any = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
            state = torch.load(folder / LINEAR_HEAD, map_location="cpu", weights_only=True)
            self.head = torch.nn.Linear(self.tower.config.projection_dim, 1)
            self.head.load_state_dict(state)
        except (OSError, RuntimeError, KeyError) as error:
            wanted = f"a CLIP ViT-L/14 in transformers' format and {LINEAR_HEAD}"
            raise WeightsError(f"{folder} must hold {wanted}: {str(error).splitlines()[0]}") from error

    def score(self, frames: UInt8[np.ndarray, "T h w 3"]) -> float:
        """The lowest of 4 frames' scores, as NVIDIA's and Allegro's pipelines take it."""
        import torch

        with torch.inference_mode():
            pictures = self.processor(images=list(spread(frames, FRAMES)), return_tensors="pt")
            features = self.tower(**pictures).image_embeds
            return float(self.head(torch.nn.functional.normalize(features, dim=-1)).min())
