"""Which tokens of a video see each other in sparse attention: blocks of tokens, and for each block the blocks that it sees.

Tokens of a grid lie in (t, h, w) order, as the model has them. Text is no part of a pattern: it sees all and all see it.
"""

from dataclasses import dataclass
from math import ceil, prod

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kinema.errors import InputError

Grid = tuple[int, int, int]  # tokens along t, h, w
Blocks = list[Int[Tensor, " _"]]
"""Every token of a grid in exactly one block."""


def cuts(length: int, size: int) -> list[int]:
    """Nearly equal parts of at most `size`."""
    count = ceil(length / size)
    return [length // count + (i < length % count) for i in range(count)]


@dataclass(frozen=True)
class SlidingTile:
    """Every tile sees the window of tiles around it; at a border the window moves inwards, so that it is always whole.

    Source: Zhang et al. 2025 (arXiv 2502.04507). Raises InputError for a window that has no middle.
    """

    window: Grid = (3, 3, 3)  # tiles
    tile: Grid = (6, 8, 8)  # tokens; tiles of a grid that they do not divide are a token smaller
    dense: float = 0.95  # noise level above which all tokens see each other; 1: nowhere

    def __post_init__(self):
        if min(self.tile) < 1 or any(size < 1 or size % 2 == 0 for size in self.window):
            raise InputError(
                f"window={self.window} tile={self.tile}: a window is an odd number of tiles an axis, and a tile 1 token or more"
            )

    def blocks(self, grid: Grid) -> Blocks:
        places = torch.arange(prod(grid)).view(grid)
        parts = [cuts(length, size) for length, size in zip(grid, self.tile, strict=True)]
        rows = (row for slab in places.split(parts[0], 0) for row in slab.split(parts[1], 1))
        return [tile.flatten() for row in rows for tile in row.split(parts[2], 2)]

    def seen(self, grid: Grid) -> Bool[Tensor, "n n"]:
        axes = [len(cuts(length, size)) for length, size in zip(grid, self.tile, strict=True)]
        t, h, w = (within(count, size) for count, size in zip(axes, self.window, strict=True))
        both = t[:, None, None, :, None, None] & h[None, :, None, None, :, None] & w[None, None, :, None, None, :]
        return both.reshape(prod(axes), prod(axes))


def within(count: int, window: int) -> Bool[Tensor, "n n"]:
    """Along one axis: the window around each tile, moved inwards at the ends."""
    reach, places = window // 2, torch.arange(count)
    middle = places.clamp(min(reach, count - 1), max(count - 1 - reach, 0)) if window < count else places
    near = (middle[:, None] - places).abs() <= reach
    return near if window < count else torch.ones_like(near)


@dataclass(frozen=True)
class Radial:
    """The further apart two frames, the narrower the band of places that see each other: half as wide at twice the distance.

    Bands narrower than a block keep the block itself, in every second, fourth ... frame. All see the first frame.
    The cost grows with frames as n log n. Source: Li et al. 2025 (arXiv 2506.19852).
    """

    block: int = 450  # tokens of a frame in (h, w) order that stay together
    width: float = 1.0  # of the band at distance 1, in frames
    dense: float = 0.95  # noise level above which all tokens see each other; 1: nowhere

    def __post_init__(self):
        if self.block < 1 or not 0 < self.width <= 8:
            raise InputError(
                f"block={self.block} width={self.width}: a block has 1 token or more, and the band is above 0, at most 8, wide"
            )

    def blocks(self, grid: Grid) -> Blocks:
        frame = cuts(grid[1] * grid[2], self.block)
        return list(torch.arange(prod(grid)).split(frame * grid[0]))

    def seen(self, grid: Grid) -> Bool[Tensor, "n n"]:
        count = len(cuts(grid[1] * grid[2], self.block))
        frame, place = torch.arange(grid[0]).repeat_interleave(count), torch.arange(count).repeat(grid[0])
        apart, offset = (frame[:, None] - frame).abs(), (place[:, None] - place).abs()
        band = self.width * count / 2 ** apart.clamp_min(1).log2().floor()
        kept = torch.where(band < 1, (offset == 0) & (apart % (1 / band).ceil() == 0), offset < band)
        return kept | (apart == 0) | (frame == 0)[None, :]


Pattern = SlidingTile | Radial
PATTERNS: dict[str, type[Pattern]] = {"sliding-tile": SlidingTile, "radial": Radial}
