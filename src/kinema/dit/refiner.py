"""The token refiner: the language model's states become text tokens that look at each other and know the time.

Published as `txt_in`; attribute names are its checkpoint's.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.dit.layers import EPS, Linear, MeanTextEmbedder, ScalarEmbedder
from kinema.kernels.attend import attend


def masked_mean(text: Float[Tensor, "B L d"], mask: Bool[Tensor, "B L"] | None) -> Float[Tensor, "B d"]:
    """Mean over the real tokens; a prompt without any gives zeros."""
    if mask is None:
        return text.mean(dim=1)
    weight = mask[:, :, None].to(text.dtype)
    return (text * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


MLP_RATIO = 4  # whatever the blocks of the trunk have


class RefinerMLP(nn.Module):
    """Widen, SiLU, narrow."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = Linear(width, MLP_RATIO * width)
        self.fc2 = Linear(MLP_RATIO * width, width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return self.fc2(F.silu(self.fc1(x)))


class RefinerBlock(nn.Module):
    """Self-attention and an MLP, each behind a gate that the condition opens; no shift, no scale, no positions."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.self_attn_qkv = Linear(width, 3 * width)
        self.self_attn_proj = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = RefinerMLP(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(width, 2 * width))
        self.attend = attend

    def forward(
        self, x: Float[Tensor, "B L D"], condition: Float[Tensor, "B D"], key_mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B L D"]:
        gate_attention, gate_mlp = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        q, k, v = rearrange(self.self_attn_qkv(self.norm1(x)), "B L (three N K) -> three B L N K", three=3, N=self.heads).unbind(0)
        mixed = self.attend(q, k, v, key_mask).flatten(2)
        x = torch.addcmul(x, self.self_attn_proj(mixed), gate_attention)
        return torch.addcmul(x, self.mlp(self.norm2(x)), gate_mlp)


class RefinerStack(nn.Module):
    """The refiner's blocks, one level down as the checkpoint has them."""

    def __init__(self, width: int, heads: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList(RefinerBlock(width, heads) for _ in range(blocks))

    def forward(
        self, x: Float[Tensor, "B L D"], condition: Float[Tensor, "B D"], key_mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B L D"]:
        for block in self.blocks:
            x = block(x, condition, key_mask)
        return x


class TokenRefiner(nn.Module):
    """Text states [B L d] of any width d -> text tokens [B L D].

    Padding never reaches a real token: keys are masked. As published, column 0 stays visible even where it is padding,
    so that an empty prompt has something to look at.
    """

    def __init__(self, text_width: int, width: int, heads: int, blocks: int):
        super().__init__()
        self.input_embedder = Linear(text_width, width)
        self.t_embedder = ScalarEmbedder(width)
        self.c_embedder = MeanTextEmbedder(text_width, width)
        self.individual_token_refiner = RefinerStack(width, heads, blocks)

    def forward(self, text: Float[Tensor, "B L d"], time: Float[Tensor, " B"], mask: Bool[Tensor, "B L"] | None) -> Float[Tensor, "B L D"]:
        condition = self.t_embedder(time) + self.c_embedder(masked_mean(text, mask))
        key_mask = None if mask is None else F.pad(mask[:, 1:], (1, 0), value=True)
        return self.individual_token_refiner(self.input_embedder(text), condition, key_mask)
