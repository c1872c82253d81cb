"""Rotary positions in three axes.

A token at latent (t, h, w) turns each head's channels by three angles, one share of K an axis; neighbours (2i, 2i+1) form a pair.
Angles are float32 on any device: in bfloat16, positions past 256 collide.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

Grid = tuple[int, int, int]  # tokens along t, h, w
Turns = tuple[Float[Tensor, "L K"], Float[Tensor, "L K"]]  # cosine and sine of every token's angles


def axis_angles(positions: int, channels: int, theta: float, device: torch.device | None = None) -> Float[Tensor, "P K"]:
    """Angles of one axis at positions 0 ... positions - 1; the two channels of a pair share theirs.

    Source: RoFormer (arXiv 2104.09864), frequencies theta^(-2i / channels).
    """
    even = torch.arange(0, channels, 2, dtype=torch.float32, device=device)
    frequencies = 1 / theta ** (even / channels)
    place = torch.arange(positions, dtype=torch.float32, device=device)
    return torch.outer(place, frequencies).repeat_interleave(2, dim=1)


def rope_table(grid: Grid, axes: Grid, theta: float, device: torch.device | None = None) -> Turns:
    """Cosine and sine for every token of a grid, tokens in (t, h, w) order, channels in axis order.

    axes: channels of a head that turn with t, h and w; each even.
    """
    angles = [axis_angles(size, channels, theta, device) for size, channels in zip(grid, axes, strict=True)]
    t, h, w = (
        a.view(*(size if axis == own else 1 for axis, size in enumerate(grid)), -1).expand(*grid, -1)
        for own, (a, size) in enumerate(zip(angles, grid, strict=True))
    )
    whole = torch.cat([t, h, w], dim=-1).flatten(0, 2)
    return whole.cos(), whole.sin()


@lru_cache(maxsize=16)
def _stored_table(grid: Grid, axes: Grid, theta: float, device: torch.device) -> Turns:
    with torch.inference_mode(False):  # a table made during sampling must also serve training
        return rope_table(grid, axes, theta, device)


def rope_for(grid: Grid, axes: Grid, theta: float, device: torch.device) -> Turns:
    """`rope_table`, kept from one step to the next; a compiled model computes it in its graph instead."""
    if torch.compiler.is_compiling():
        return rope_table(grid, axes, theta, device)
    return _stored_table(grid, axes, theta, device)


def rotate(x: Float[Tensor, "B L N K"], turns: Turns) -> Float[Tensor, "B L N K"]:
    """Turn every pair of channels by its token's angles, in float32."""
    cos, sin = (table[:, None, :] for table in turns)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    quarter = torch.stack([-odd, even], dim=-1).flatten(-2)
    return (x.float() * cos + quarter * sin).to(x.dtype)
