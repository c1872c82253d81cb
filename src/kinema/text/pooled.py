"""One vector a prompt: the mean of its token states, or CLIP's text embedding.

Source: Radford et al. 2021 (arXiv 2103.00020) for CLIP; HunyuanVideo (arXiv 2412.03603) feeds its pooled output to the modulation.
"""

from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.errors import WeightsError

CLIP_LEN = 77


def masked_mean(states: Float[Tensor, "B L d"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B d"]:
    """Mean over real tokens; every row must have one."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


class CLIPPooled:
    """The pooled output of a CLIP text tower: raw prompts, no template, at most 77 tokens."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype):
        """Raises WeightsError where the folder holds no CLIP text model with its tokeniser."""
        if not (folder / "config.json").is_file():
            raise WeightsError(f"{folder} holds no config.json: put clip-vit-large-patch14 there")
        from transformers import AutoTokenizer, CLIPTextModel

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            model: nn.Module = CLIPTextModel.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError) as error:
            raise WeightsError(f"cannot read a CLIP text model from {folder}: {str(error).splitlines()[0]}") from error
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> Float[Tensor, "B p"]:
        """Padding cannot matter: attention is causal, and the vector is read at the first end-of-text token."""
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, max_length=CLIP_LEN, return_tensors="pt").to(self.device)
        return self.model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
