"""One vector a prompt: the mean of its token states, or CLIP's text embedding.

Source: Radford et al. 2021 (arXiv 2103.00020) for CLIP; HunyuanVideo (arXiv 2412.03603) feeds its pooled output to the modulation.
"""

from pathlib import Path

import torch
from jaxtyping import Bool, Float
from tokenizers import Tokenizer
from torch import Tensor

from kinema.errors import WeightsError

CLIP_LEN = 77


def masked_mean(states: Float[Tensor, "B L d"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B d"]:
    """Mean over real tokens; every row must have one."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


class CLIPPooled:
    """The pooled output of a CLIP text tower: raw prompts, no template, at most 77 tokens."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype):
        """Raises WeightsError where the folder holds no CLIP text model with its tokenizer.json."""
        from transformers import CLIPTextModel

        if not (folder / "tokenizer.json").is_file():
            raise WeightsError(f"{folder} holds no tokenizer.json: put clip-vit-large-patch14 there")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model = CLIPTextModel.from_pretrained(folder, dtype=dtype).to(device).eval().requires_grad_(False)
        self.tokenizer.enable_truncation(CLIP_LEN)
        self.tokenizer.enable_padding(length=CLIP_LEN, pad_id=self.model.config.pad_token_id or 0)

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> Float[Tensor, "B p"]:
        rows = self.tokenizer.encode_batch(prompts)
        ids = torch.tensor([row.ids for row in rows], device=self.model.device)
        mask = torch.tensor([row.attention_mask for row in rows], device=self.model.device)
        return self.model(ids, attention_mask=mask).pooler_output
