"""Rotary positions in three axes.

A token at latent (t, h, w) turns each head's channels by three angles, one share of K an axis; neighbours (2i, 2i+1) form a pair.
Angles are float32 on any device: in bfloat16, positions past 256 collide.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int, int]  # tokens along t, h, w
Turns = Float[Tensor, "S P 2"]  # cosine and sine for every token and pair of channels


def axis_angles(positions: int, channels: int, theta: float, device: torch.device | None) -> Float[Tensor, "n P"]:
    """Angles of one axis at positions 0 ... n - 1, one for each pair of channels.

    Source: RoFormer (arXiv 2104.09864), frequencies theta^(-2i / channels).
    """
    even = torch.arange(0, channels, 2, dtype=torch.float32, device=device)
    place = torch.arange(positions, dtype=torch.float32, device=device)
    return torch.outer(place, 1 / theta ** (even / channels))


def rope_table(grid: Grid, still: int, axes: Grid, theta: float, device: torch.device | None = None) -> Turns:
    """Turns of a grid's tokens in (t, h, w) order, then of `still` tokens without a position (text), which do not turn.

    axes: channels of a head that turn with t, h and w; each even.
    """
    t, h, w = (axis_angles(size, channels, theta, device) for size, channels in zip(grid, axes, strict=True))
    shape = (*grid, -1)
    angles = torch.cat([t[:, None, None].expand(shape), h[None, :, None].expand(shape), w[None, None].expand(shape)], dim=-1)
    angles = F.pad(angles.flatten(0, 2), (0, 0, 0, still))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


@lru_cache(maxsize=8)
def _stored_table(grid: Grid, still: int, axes: Grid, theta: float, device: torch.device) -> Turns:
    with torch.inference_mode(False):  # a table made during sampling must also serve training
        return rope_table(grid, still, axes, theta, device)


forget_tables = _stored_table.cache_clear
"""For rehearsals, whose tables hold no numbers."""


def rope_for(grid: Grid, still: int, axes: Grid, theta: float, device: torch.device) -> Turns:
    """`rope_table`, kept from one step to the next; a compiled model computes it in its graph instead."""
    if torch.compiler.is_compiling():
        return rope_table(grid, still, axes, theta, device)
    return _stored_table(grid, still, axes, theta, device)


def rotate(x: Float[Tensor, "B S N K"], turns: Turns) -> Float[Tensor, "B S N K"]:
    """Turn every pair of channels by its token's angles; x in float32."""
    pairs = x.unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic and leaves complex alone; eagerly, complex is one kernel
        (a, b), (cos, sin) = pairs.unbind(-1), turns[:, None].unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(turns)[:, None]
    return torch.view_as_real(turned).flatten(-2)
