"""Rotary positions in three axes.

A token at latent (t, h, w) turns each head's channels by three angles, one share of K an axis; neighbours (2i, 2i+1) form a pair.
Angles are float32 on any device: in bfloat16, positions past 256 collide.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kinema.shapes import TIME_STRIDE

Grid = tuple[int, int, int]  # tokens along t, h, w
Turns = Float[Tensor, "S P 2"]  # cosine and sine for every token and pair of channels


def axis_angles(
    positions: int, channels: int, theta: float, device: torch.device | None, slowed: int = 0, before: int = 0
) -> Float[Tensor, "n P"]:
    """Angles of one axis at positions -before ... n - before - 1, one for each pair of channels.

    slowed: which frequency, counted from 1, turns by nine tenths of a circle over all positions from 0 on instead; 0: none.
    Source: RoFormer (arXiv 2104.09864), frequencies theta^(-2i / channels).
    """
    even = torch.arange(0, channels, 2, dtype=torch.float32, device=device)
    frequencies = 1 / theta ** (even / channels)
    if slowed:
        frequencies[slowed - 1] = 0.9 * 2 * math.pi / (positions - before)
    return torch.outer(torch.arange(-before, positions - before, dtype=torch.float32, device=device), frequencies)


def slowed_frequency(latents: int, channels: int, above: int) -> int:
    """Which temporal frequency would come round within a video longer than the model knows, and so repeat it; 0 for shorter ones.

    latents: frames of the video. above: as many need nothing; 0: any number.
    Source: RIFLEx (arXiv 2502.15894); the choice by length as published with HunyuanVideo, k = clip(2 + (F + 3) // 100, 4, 8) at F frames.
    """
    if not above or latents <= above:
        return 0
    frames = TIME_STRIDE * (latents - 1) + 1
    return min(max(2 + (frames + 3) // 100, 4), 8, channels // 2)


def rope_table(
    grid: Grid, still: int, axes: Grid, theta: float, device: torch.device | None = None, riflex_above: int = 0, before: int = 0
) -> Turns:
    """Turns of a grid's tokens in (t, h, w) order, then of `still` tokens without a position (text), which do not turn.

    axes: channels of a head that turn with t, h and w; each even. riflex_above: as in `DiTConfig`.
    before: how many of the grid's frames are no part of the video but stand before it, at times -before ... -1.
    """
    t = axis_angles(grid[0], axes[0], theta, device, slowed_frequency(grid[0] - before, axes[0], riflex_above), before)
    h, w = (axis_angles(size, channels, theta, device) for size, channels in zip(grid[1:], axes[1:], strict=True))
    shape = (*grid, -1)
    angles = torch.cat([t[:, None, None].expand(shape), h[None, :, None].expand(shape), w[None, None].expand(shape)], dim=-1)
    angles = F.pad(angles.flatten(0, 2), (0, 0, 0, still))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


@lru_cache(maxsize=8)
def _stored_table(grid: Grid, still: int, axes: Grid, theta: float, device: torch.device, riflex_above: int, before: int) -> Turns:
    with torch.inference_mode(False):  # a table made during sampling must also serve training
        return rope_table(grid, still, axes, theta, device, riflex_above, before)


forget_tables = _stored_table.cache_clear
"""For rehearsals, whose tables hold no numbers."""


def rope_for(grid: Grid, still: int, axes: Grid, theta: float, device: torch.device, riflex_above: int, before: int = 0) -> Turns:
    """`rope_table`, kept from one step to the next; a compiled model computes it in its graph instead."""
    if torch.compiler.is_compiling():
        return rope_table(grid, still, axes, theta, device, riflex_above, before)
    return _stored_table(grid, still, axes, theta, device, riflex_above, before)


def rotate(x: Float[Tensor, "B S N K"], turns: Turns) -> Float[Tensor, "B S N K"]:
    """Turn every pair of channels by its token's angles; x in float32."""
    pairs = x.unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic and leaves complex alone; eagerly, complex is one kernel
        (a, b), (cos, sin) = pairs.unbind(-1), turns[:, None].unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(turns)[:, None]
    return torch.view_as_real(turned).flatten(-2)
