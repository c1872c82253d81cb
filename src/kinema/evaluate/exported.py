"""Published networks whose architecture stands in other people's packages: as an exported program, which needs none of them.

A program is a file of `torch.export.save` (.pt2) or `torch.jit.save` (.pt), made where the network's own package is installed. It takes
plain tensors and folds its own normalisation in; docs/evaluation.md says what each has to take and give.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from kinema.errors import InputError, WeightsError

VICLIP_FRAMES, VICLIP_SIDE, VICLIP_TOKENS = 8, 224, 77
LARGEST = 512  # pixels of the longer side of what MUSIQ sees, as in VBench


class Program:
    """A file's callable."""

    def __init__(self, path: str):
        """Raises WeightsError where the file is not here or holds no program."""
        if not Path(path).is_file():
            raise WeightsError(f"{path} is not on this machine")
        self.path = path
        try:
            self.call: Any = torch.export.load(path).module() if path.endswith(".pt2") else torch.jit.load(path, "cpu").eval()
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            raise WeightsError(f"{path} holds no program of torch.export or torch.jit: {first_line(error)}") from error

    @torch.inference_mode()
    def number(self, *inputs: Tensor) -> float:
        """What the program gives, which has to be one number. Raises InputError where it does not take this."""
        try:
            given = self.call(*inputs)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise InputError(f"{self.path} does not take {shapes}: {first_line(error)}: export it for these shapes") from error
        if not isinstance(given, Tensor) or given.numel() != 1:
            raise InputError(f"{self.path} gives {str(getattr(given, 'shape', given))[:80]}: one number is needed")
        return float(given)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class MUSIQ(Program):
    """Ke et al. 2021 (arXiv 2108.05997): pictures [1, 3, H, W] in [0, 1] to a mean opinion score of 0 to 100."""

    def score(self, frames: UInt8[Tensor, "n 3 H W"]) -> float:
        """Mean over frames, shrunk to LARGEST where they are larger."""
        scale = LARGEST / max(frames.shape[2:])
        pictures = frames.float() / 255
        if scale < 1:
            pictures = F.interpolate(pictures, scale_factor=scale, mode="bilinear", antialias=True)
        return sum(self.number(picture[None]) for picture in pictures) / len(pictures)


class ViCLIP(Program):
    """Wang et al. 2023 (arXiv 2307.06942): a video [1, 8, 3, 224, 224] in [0, 1] and a prompt [1, 77] to their cosine."""

    @cached_property
    def tokenizer(self) -> Any:
        """CLIP's, from where CLIP lies."""
        from transformers import AutoTokenizer

        from kinema.evaluate.published import BACKBONES

        folder = BACKBONES["clip"].source
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"ViCLIP reads text with CLIP's tokenizer, and {folder} is not on this machine: --backbone clip=DIR"
            ) from error

    def similarity(self, frames: UInt8[Tensor, "T 3 H W"], prompt: str) -> float:
        """8 evenly spread frames against the first 77 tokens of the prompt."""
        places = torch.linspace(0, len(frames) - 1, VICLIP_FRAMES).round().long()
        small = F.interpolate(frames[places].float() / 255, (VICLIP_SIDE, VICLIP_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        tokens = self.tokenizer([prompt], truncation=True, max_length=VICLIP_TOKENS, return_tensors="pt")["input_ids"]
        return self.number(rearrange(small, "T c h w -> 1 T c h w"), F.pad(tokens, (0, VICLIP_TOKENS - tokens.shape[1])))
