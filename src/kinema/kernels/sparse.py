"""Sparse attention as dense attention of blocks: each block of queries over the keys that it sees, gathered.

Blocks with equally many queries and keys go together through whatever dense kernel there is, so no mask is ever made, of any size.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.errors import InputError
from kinema.kernels.patterns import Grid, Pattern

Attend = Callable[..., Tensor]
GATHERED = {"cpu": 1 << 23}  # numbers of keys gathered at once
GATHERED_LARGE = 1 << 28  # on an accelerator


class Group(NamedTuple):
    """Blocks that are alike: which tokens ask, and which they see."""

    queries: Int[Tensor, "g a"]
    keys: Int[Tensor, "g b"]


def groups_of(pattern: Pattern, grid: Grid, text: int) -> list[Group]:
    """All blocks of a grid's tokens, followed by `text` tokens that all see."""
    blocks, seen = pattern.blocks(grid), pattern.seen(grid)
    words = torch.arange(prod(grid), prod(grid) + text)
    alike = defaultdict(list)
    for block, row in zip(blocks, seen, strict=True):
        keys = torch.cat([*(blocks[i] for i in row.nonzero()[:, 0]), words])
        alike[len(block), len(keys)].append((block, keys))
    return [Group(*(torch.stack(each).int() for each in zip(*pairs, strict=True))) for pairs in alike.values()]


def pairs_of(pattern: Pattern, grid: Grid, text: int) -> int:
    """How many queries meet keys, text included: dense attention has the square of all tokens."""
    blocks = torch.tensor([len(block) for block in pattern.blocks(grid)])
    tokens = prod(grid) + text
    return int(blocks @ (pattern.seen(grid).long() @ blocks)) + text * (tokens + prod(grid))


def gathered(device: torch.device) -> int:
    return GATHERED.get(device.type, GATHERED_LARGE)


class Sparse:
    """`attend` in a pattern; `grid` says what the tokens are, and None that all of them see each other for now."""

    def __init__(self, pattern: Pattern, attend: Attend):
        """attend: the dense kernel."""
        self.pattern, self.attend = pattern, attend
        self.grid: Grid | None = None
        self.made: tuple[tuple[Grid, int, torch.device], list[Group]] | None = None

    def __call__(
        self,
        q: Float[Tensor, "B L N K"],
        k: Float[Tensor, "B L N K"],
        v: Float[Tensor, "B L N K"],
        key_mask: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L N K"]:
        """Tokens are [video, text]. Raises InputError for text with padding, which sampling never has."""
        if self.grid is None:
            return self.attend(q, k, v, key_mask)
        if key_mask is not None:
            raise InputError("sparse attention takes text without padding: trim it (text_mask=None), one sample at a time")
        q, k, video = q.to(v.dtype), k.to(v.dtype), prod(self.grid)
        mixed = torch.empty_like(v)
        if v.shape[1] > video:
            mixed[:, video:] = self.attend(q[:, video:], k, v)
        for group in self.chunks(self.groups(v.shape[1] - video, v.device), v):
            found = self.attend(*(take(x, places) for x, places in ((q, group.queries), (k, group.keys), (v, group.keys))))
            mixed.index_copy_(1, group.queries.flatten().long(), found.unflatten(0, (len(v), -1)).flatten(1, 2))
        return mixed

    def groups(self, text: int, device: torch.device) -> list[Group]:
        """Kept from block to block and step to step."""
        assert self.grid is not None
        key = (self.grid, text, device)
        if self.made is None or self.made[0] != key:
            self.made = key, [Group(*(each.to(device) for each in group)) for group in groups_of(self.pattern, self.grid, text)]
        return self.made[1]

    def chunks(self, groups: list[Group], v: Float[Tensor, "B L N K"]) -> Iterator[Group]:
        """As many blocks at once as memory should hold."""
        for group in groups:
            most = max(1, gathered(v.device) // (len(v) * group.keys.shape[1] * v.shape[2] * v.shape[3]))
            yield from map(Group, group.queries.split(most), group.keys.split(most))


def rehearsed(pattern: Pattern, grid: Grid, text: int, attend: Attend) -> Attend:
    """What takes as much memory as `Sparse`, the largest blocks and the text standing for all. attend: the dense kernel's rehearsal."""
    seen, blocks, asked = max((group.keys.shape[1], *group.queries.shape) for group in groups_of(pattern, grid, text))

    def dry(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        q, k, mixed = q.to(v.dtype), k.to(v.dtype), torch.empty_like(v)
        attend(q[:, prod(grid) :], k, v)
        count = min(blocks, max(1, gathered(v.device) // (seen * v.shape[2] * v.shape[3])))
        rows, keys, values = (v.new_empty((count, size, *v.shape[2:])) for size in (asked, seen, seen))
        attend(rows, keys, values)
        return mixed

    return dry


def take(x: Float[Tensor, "B L N K"], places: Int[Tensor, "g a"]) -> Float[Tensor, "Bg a N K"]:
    """The tokens of each block; blocks become samples."""
    return x.index_select(1, places.flatten()).unflatten(1, places.shape).flatten(0, 1)
