"""The processes of one run, where torchrun started several: who is first, and what they agree on.

Every function is the plain thing in a single process, without torch.distributed.
"""

from functools import cache

import torch
from torch import distributed as dist


def together() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if together() else 0


def size() -> int:
    return dist.get_world_size() if together() else 1


def is_first() -> bool:
    return rank() == 0


@cache
def cpu_group(world: object, purpose: str) -> dist.ProcessGroup:
    return dist.new_group(backend="gloo")


def group(purpose: str = "flags") -> dist.ProcessGroup | None:
    """All ranks over gloo, which waits for no GPU; one group a purpose, as each belongs to a thread of its own."""
    return cpu_group(dist.group.WORLD, purpose) if together() else None


def barrier() -> None:
    if together():
        dist.barrier(group())


def most(*values: float | bool) -> tuple[float, ...]:
    """The largest of each over all ranks: who one rank tells to stop, all stop."""
    if not together():
        return tuple(map(float, values))
    found = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX, group())
    return tuple(found.tolist())


def mean(figures: dict[str, float]) -> dict[str, float]:
    """Means over all ranks, which bring the same names; NaN marks what a rank did not measure."""
    if not together():
        return figures
    values = torch.tensor(list(figures.values()), dtype=torch.float64)
    sums = torch.stack([values.nan_to_num(0.0), (~values.isnan()).double()])
    dist.all_reduce(sums, group=group())
    return dict(zip(figures, (sums[0] / sums[1]).tolist(), strict=True))
