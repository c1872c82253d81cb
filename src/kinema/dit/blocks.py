"""The two kinds of transformer block.

A double block gives video and text weights of their own and lets them meet in attention; a single block treats both as one sequence.
Attribute names are the published checkpoint's ("img" is video).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.dit.added import Cross
from kinema.dit.layers import MLP, ForkLinear, Given, Linear, Modulation, RMSNorm, add_gated, modulate
from kinema.dit.rope import Turns, rotate
from kinema.kernels.attend import attend


class Context(NamedTuple):
    """What every block needs beside its tokens."""

    vector: Float[Tensor, "B S D"]  # the condition; S = 2 where frames are given: theirs, then that of the rest
    turns: Turns  # rotary table of [video, text]
    key_mask: Bool[Tensor, "B S"] | None  # over [video, text]; None: no padding
    given: Given  # which video tokens belong to frames that are given
    cross: Mapping[int, Cross] = {}  # what conditions add to the video's tokens after the blocks of these numbers


def split_heads(qkv: Float[Tensor, "B L E"], heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The published packing [q | k | v], each [B L N K]."""
    q, k, v = rearrange(qkv, "B L (three N K) -> three B L N K", three=3, N=heads).unbind(0)
    return q, k, v


class DoubleBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.attend = attend
        self.img_mod, self.txt_mod = (Modulation(width, parts=6) for _ in range(2))
        self.img_attn_qkv, self.txt_attn_qkv = (Linear(width, 3 * width) for _ in range(2))
        self.img_attn_q_norm, self.txt_attn_q_norm = (RMSNorm(width // heads) for _ in range(2))
        self.img_attn_k_norm, self.txt_attn_k_norm = (RMSNorm(width // heads) for _ in range(2))
        self.img_attn_proj, self.txt_attn_proj = (Linear(width, width) for _ in range(2))
        self.img_mlp, self.txt_mlp = (MLP(width, hidden) for _ in range(2))

    def forward(
        self, video: Float[Tensor, "B L D"], text: Float[Tensor, "B M D"], context: Context
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B M D"]]:
        given = context.given
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.img_mod(context.vector)
        text_shift_a, text_scale_a, text_gate_a, text_shift_m, text_scale_m, text_gate_m = self.txt_mod(context.vector[:, -1:])

        q, k, v = split_heads(self.img_attn_qkv(modulate(video, shift_a, scale_a, given)), self.heads)
        text_q, text_k, text_v = split_heads(self.txt_attn_qkv(modulate(text, text_shift_a, text_scale_a)), self.heads)
        q = torch.cat([self.img_attn_q_norm(q), self.txt_attn_q_norm(text_q)], dim=1)
        k = torch.cat([self.img_attn_k_norm(k), self.txt_attn_k_norm(text_k)], dim=1)
        v = torch.cat([v, text_v], dim=1)

        q, k = rotate(q, context.turns), rotate(k, context.turns)
        mixed = self.attend(q, k, v, context.key_mask).flatten(2)
        del q, k, v  # of a long video gigabytes
        mixed, text_mixed = mixed[:, : video.shape[1]], mixed[:, video.shape[1] :]

        video = add_gated(video, gate_a, self.img_attn_proj(mixed), given)
        video = add_gated(video, gate_m, self.img_mlp(modulate(video, shift_m, scale_m, given)), given)
        text = add_gated(text, text_gate_a, self.txt_attn_proj(text_mixed))
        text = add_gated(text, text_gate_m, self.txt_mlp(modulate(text, text_shift_m, text_scale_m)))
        return video, text


class SingleBlock(nn.Module):
    """Attention and MLP side by side from one linear into one linear."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.attend = attend
        self.modulation = Modulation(width, parts=3)
        self.linear1 = ForkLinear(width, plain=3 * width, bent=hidden)
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)
        self.linear2 = Linear(width + hidden, width)

    def forward(self, tokens: Float[Tensor, "B L D"], context: Context) -> Float[Tensor, "B L D"]:
        """tokens: [video, text], video first."""
        shift, scale, gate = self.modulation(context.vector)
        given = None if context.given is None else F.pad(context.given, (0, 0, 0, tokens.shape[1] - context.given.shape[1]))
        qkv, hidden = self.linear1(modulate(tokens, shift, scale, given))
        q, k, v = split_heads(qkv, self.heads)
        q, k = (rotate(norm(x), context.turns) for norm, x in ((self.q_norm, q), (self.k_norm, k)))
        mixed = self.attend(q, k, v, context.key_mask).flatten(2)
        del qkv, q, k, v  # of a long video gigabytes
        branch = self.linear2(torch.cat([mixed, hidden], dim=-1))
        return add_gated(tokens, gate, branch, given)
