"""Weights over several ranks: FSDP2 over the ranks of one copy, and every matrix over the ranks of a tensor group.

Weights lie as DTensors of the published shape, whatever the mesh: names, checkpoints, averages and Muon see the same matrices as a
single process does, and a run goes on with another mesh.

Under tensor parallelism a rank computes with its heads' rows of the fused q, k, v (and hidden) matrices, which are not one run of the
stored rows. Ranks therefore exchange rows as they come into use: at most 1 / T of a block a rank and pass, far less than the tokens
they add up, in exchange for a state that no degree permutes.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.func import functional_call

from kinema.dit.layers import ForkLinear
from kinema.dit.model import DiT, DiTConfig
from kinema.errors import InputError
from kinema.kernels.linear import linear
from kinema.parallel.collectives import Exchange, Join, Shared, Sum
from kinema.parallel.mesh import World


def shard_weights(dit: DiT, mesh: DeviceMesh) -> None:
    """Share the weights of every block, and of all that is no block, over the axis `weights`, with copies along `data` (FSDP2)."""
    over = mesh["data", "weights"] if mesh["data"].size() > 1 else mesh["weights"]
    for name in dit.plan().blocks:
        fully_shard(dit.get_submodule(name), mesh=over)
    for block in dit.txt_in.individual_token_refiner.blocks:
        fully_shard(block, mesh=over)
    fully_shard(dit, mesh=over, reshard_after_forward=True)  # else embedders stay whole from one sampling step to the next


def average_gradients(module: nn.Module, world: World) -> None:
    """For a small module that every rank holds whole, such as adapters: gradients come out as the mean over data ranks.

    Raises InputError where ranks share samples: each would know a part of its gradient alone.
    """
    if world.config.peers > 1:
        raise InputError(f"{world.config} shares samples between ranks: a module that is not split needs data and shard alone")
    if world.size > 1:
        for weight in module.parameters():
            weight.register_post_accumulate_grad_hook(average_over_ranks)


def average_over_ranks(weight: Tensor) -> None:
    assert weight.grad is not None
    dist.all_reduce(weight.grad)  # what earlier backwards have averaged stays the same
    weight.grad /= dist.get_world_size()


def split_matrices(dit: DiT, mesh: DeviceMesh) -> None:
    """Give every rank of a tensor group its share of heads and hidden channels in every block.

    Raises InputError where they do not divide.
    """
    check_split(dit.config, mesh.size())
    plan = dit.plan()
    for name, parts in plan.outputs.items():
        replace(dit, name, RowSplit(dit.get_submodule(name), parts, mesh))  # type: ignore[arg-type]
    for name, parts in plan.inputs.items():
        replace(dit, name, ColumnSplit(dit.get_submodule(name), parts, mesh))  # type: ignore[arg-type]
    for name in plan.whole:
        replace(dit, name, GatheredRows(dit.get_submodule(name), mesh))  # type: ignore[arg-type]
    for name in plan.per_head:
        replace(dit, name, HeadNorm(dit.get_submodule(name), mesh))
    for name in plan.blocks:
        dit.get_submodule(name).heads = dit.config.heads // mesh.size()  # type: ignore[assignment]


def check_split(config: DiTConfig, ranks: int) -> None:
    if config.heads % ranks or config.hidden % ranks:
        raise InputError(
            f"mesh tensor={ranks} does not divide the model's {config.heads} heads and {config.hidden} hidden channels: "
            "use a degree that divides both, or sequence, which takes any"
        )


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def stored(weight: Tensor, mesh: DeviceMesh, placement: Placement) -> nn.Parameter:
    """A weight that all ranks have read, of which each keeps its part."""
    there = distribute_tensor(weight.detach().to(mesh.device_type), mesh, [placement], src_data_rank=None)
    if isinstance(placement, Shard):  # a copy, so that the whole can go
        there = DTensor.from_local(there.to_local().clone(), mesh, [placement], run_check=False, shape=there.shape, stride=there.stride())
    return nn.Parameter(there, requires_grad=weight.requires_grad)


def local(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight


class Hidden(nn.Module):
    """A layer that lends its arithmetic and keeps no weights of its own."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layers = (layer.to("meta"),)  # in a tuple it is not registered: its weights have no names any more

    def call(self, x: Tensor, **weights: Tensor) -> Any:
        return functional_call(self.layers[0], weights, x)


class Rows:
    """Which rows of a matrix in stored order a rank works with, and how they reach it."""

    def __init__(self, parts: Sequence[int], mesh: DeviceMesh):
        self.group, ranks, rank = mesh.get_group(), mesh.size(), mesh.get_local_rank()
        total = sum(parts)
        kept = [set(range(total * r // ranks, total * (r + 1) // ranks)) for r in range(ranks)]
        starts = [0, *accumulate(parts)]
        wanted = [
            [
                row
                for start, size in zip(starts, parts, strict=False)
                for row in range(start + size * r // ranks, start + size * (r + 1) // ranks)
            ]
            for r in range(ranks)
        ]
        mine = total * rank // ranks
        self.order = torch.tensor([row - mine for rows in wanted for row in rows if row in kept[rank]])
        self.sent = [sum(row in kept[rank] for row in rows) for rows in wanted]
        self.received = [sum(row in rows for row in wanted[rank]) for rows in kept]
        self.stay = len(parts) == 1

    def __call__(self, weight: Float[Tensor, " r *rest"]) -> Float[Tensor, " r *rest"]:
        if self.stay:
            return weight
        return Exchange.apply(weight[self.order.to(weight.device)], self.sent, self.received, self.group)


class RowSplit(Hidden):
    """A linear that gives this rank's share of each part of its outputs."""

    def __init__(self, layer: nn.Linear, parts: Sequence[int], mesh: DeviceMesh):
        self_parts = Rows(parts, mesh)
        weight, bias = layer.weight, layer.bias
        super().__init__(layer)
        self.rows, self.group = self_parts, mesh.get_group()
        self.weight, self.bias = (stored(each, mesh, Shard(0)) for each in (weight, bias))
        if isinstance(layer, ForkLinear):
            layer.plain //= mesh.size()

    def forward(self, x: Float[Tensor, "*any i"]) -> Tensor | tuple[Tensor, ...]:
        held = {name: self.rows(local(getattr(self, name))) for name in ("weight", "bias")}
        return self.call(Shared.apply(x, self.group), **held)


class GatheredRows(Hidden):
    """A linear whose rows are shared and whose outputs come together."""

    def __init__(self, layer: nn.Linear, mesh: DeviceMesh):
        weight, bias = layer.weight, layer.bias
        super().__init__(layer)
        self.group, self.counts = mesh.get_group(), [len(weight) // mesh.size()] * mesh.size()
        self.weight, self.bias = (stored(each, mesh, Shard(0)) for each in (weight, bias))

    def forward(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        part = linear(Shared.apply(x, self.group), local(self.weight), local(self.bias))
        return Join.apply(part, x.ndim - 1, self.counts, self.group, 1.0)


class ColumnSplit(Hidden):
    """A linear that takes this rank's share of each part of its inputs; the ranks' results add up."""

    def __init__(self, layer: nn.Linear, parts: Sequence[int], mesh: DeviceMesh):
        weight, bias = layer.weight, layer.bias
        super().__init__(layer)
        self.columns, self.group = Rows(parts, mesh), mesh.get_group()
        self.weight, self.bias = stored(weight, mesh, Shard(1)), stored(bias, mesh, Replicate())

    def forward(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        weight = self.columns(local(self.weight).T).T
        return Sum.apply(linear(x, weight), self.group) + local(self.bias)


class HeadNorm(Hidden):
    """A norm of which this rank sees some heads."""

    def __init__(self, layer: nn.Module, mesh: DeviceMesh):
        weight = layer.weight
        super().__init__(layer)
        self.group = mesh.get_group()
        self.weight = stored(weight, mesh, Replicate())  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any K"]:
        return self.call(x, weight=Shared.apply(local(self.weight), self.group))


def gather(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict (of a model, or its average) with every tensor whole, on the CPU of rank 0; other ranks get none.

    All ranks call it together.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    whole: dict[str, Tensor] = {}
    for name, tensor in state.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if first:
            whole[name] = full.detach().to("cpu", copy=True)
    return whole


def resident_bytes(model: nn.Module) -> int:
    """Bytes of the weights that this rank holds."""
    return sum(local(weight).untyped_storage().nbytes() for weight in model.parameters())
