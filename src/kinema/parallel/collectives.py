"""What ranks say to each other, with the gradient that each saying needs.

Every rank of a group calls each of these in the same order, whether or not it has something to give.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed import ProcessGroup

Context = Any  # of an autograd function


def shares(count: int, ranks: int) -> list[int]:
    """`count` things over `ranks`, as evenly as can be, the first ranks taking what is left over."""
    return [count // ranks + (rank < count % ranks) for rank in range(ranks)]


def sum_over(x: Tensor, group: ProcessGroup) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x, group=group)
    return x


def gather_rows(x: Float[Tensor, " n *rest"], counts: Sequence[int], group: ProcessGroup) -> Float[Tensor, " m *rest"]:
    """Every rank's rows, one after the other; rank r brings counts[r] of them."""
    parts = [x.new_empty((max(counts), *x.shape[1:])) for _ in counts]
    padded = x.new_zeros((max(counts), *x.shape[1:]))
    padded[: len(x)] = x
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class Shared(torch.autograd.Function):
    """A tensor that all ranks hold alike and use each in its own way: gradients add up, times `scale`."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, group: ProcessGroup, scale: float = 1.0) -> Tensor:  # type: ignore[override]
        ctx.group, ctx.scale = group, scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Any:  # type: ignore[override]
        return sum_over(grad, ctx.group) * ctx.scale, None, None


class Sum(torch.autograd.Function):
    """The sum of what the ranks hold, which all of them then use alike."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, group: ProcessGroup) -> Tensor:  # type: ignore[override]
        return sum_over(x, group)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Any:  # type: ignore[override]
        return grad, None


class Split(torch.autograd.Function):
    """This rank's part of an axis of a tensor that all hold alike; gradients come together again, times `scale`."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, axis: int, counts: Sequence[int], group: ProcessGroup, scale: float) -> Tensor:  # type: ignore[override]
        ctx.axis, ctx.counts, ctx.group, ctx.scale = axis, counts, group, scale
        return x.split(list(counts), axis)[dist.get_rank(group)].contiguous()

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Any:  # type: ignore[override]
        whole = gather_rows(grad.movedim(ctx.axis, 0), ctx.counts, ctx.group).movedim(0, ctx.axis)
        return whole * ctx.scale, None, None, None, None


class Join(torch.autograd.Function):
    """The parts of an axis, put together on all ranks, which then use them alike; each takes its own gradient, times `scale`."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, axis: int, counts: Sequence[int], group: ProcessGroup, scale: float) -> Tensor:  # type: ignore[override]
        ctx.axis, ctx.counts, ctx.group, ctx.scale = axis, counts, group, scale
        return gather_rows(x.movedim(axis, 0), counts, group).movedim(0, axis)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Any:  # type: ignore[override]
        return grad.split(list(ctx.counts), ctx.axis)[dist.get_rank(ctx.group)] * ctx.scale, None, None, None, None


class Exchange(torch.autograd.Function):
    """Rows to every rank and from every rank: sent[p] of them go to rank p, received[p] come from it."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, sent: Sequence[int], received: Sequence[int], group: ProcessGroup) -> Tensor:  # type: ignore[override]
        ctx.sent, ctx.received, ctx.group = sent, received, group
        return exchanged(x, sent, received, group)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Any:  # type: ignore[override]
        return exchanged(grad, ctx.received, ctx.sent, ctx.group), None, None, None


def exchanged(x: Tensor, sent: Sequence[int], received: Sequence[int], group: ProcessGroup) -> Tensor:
    out = x.new_empty((sum(received), *x.shape[1:]))
    dist.all_to_all_single(out, x.contiguous(), list(received), list(sent), group=group)
    return out
