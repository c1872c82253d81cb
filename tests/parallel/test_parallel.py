"""What parallelism promises within one process: the mesh, the plan, recomputing, offloading."""

from dataclasses import asdict

import pytest
import torch
from ranks import SIX_HEADS, Case, batches, loss_of, seeded
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from kinema.config import parse_config, to_toml
from kinema.dit.layers import RMSNorm
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.parallel import apply
from kinema.parallel.collectives import shares
from kinema.parallel.memory import offload_moments
from kinema.parallel.mesh import MeshConfig, open_world
from kinema.parallel.sequence import part_of
from kinema.parallel.shard import check_split, gather
from kinema.presets import MODELS


@pytest.mark.parametrize("words", ["data=2,sequence=4", "tensor=8", "sequence=3,method=ring"])
def test_a_mesh_survives_the_command_line_and_a_recipe(words: str):
    mesh = MeshConfig.parse(words)
    assert parse_config(MeshConfig, to_toml(mesh)) == mesh
    assert MeshConfig.parse(",".join(f"{name}={value}" for name, value in asdict(mesh).items())) == mesh


@pytest.mark.parametrize(
    ("words", "message"),
    [("sequnce=2", "did you mean 'sequence'"), ("data", "key=value"), ("data=x", "must be int"), ("data=0", "1 or more"),
     ("method=star", "'ulysses', 'ring'")],
)  # fmt: skip
def test_a_mesh_that_makes_no_sense_is_refused(words: str, message: str):
    with pytest.raises(InputError, match=message):
        MeshConfig.parse(words)


def test_a_mesh_needs_its_number_of_processes():
    with pytest.raises(InputError, match="needs 6 processes, and there is 1: start with torchrun --nproc-per-node 6"):
        open_world(MeshConfig(data=3, sequence=2))


def test_one_process_is_a_world_of_its_own():
    dit = DiT(SIX_HEADS)
    with open_world(MeshConfig(), "cpu") as world:
        assert (world.rank, world.size, world.data_rank, world.data_ranks, world.leads, world.mesh) == (0, 1, 0, 1, True, None)
        assert world.share(lambda: 5) == world.agree(lambda: 5) == 5
        names = list(dit.state_dict())
        assert list(apply(dit, world).state_dict()) == names
        assert list(gather(dit.state_dict())) == names


@pytest.mark.parametrize("count", [0, 1, 5, 7, 12])
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_shares_are_even_and_complete(count: int, ranks: int):
    each = shares(count, ranks)
    assert sum(each) == count
    assert max(each) - min(each) <= 1
    assert [i for rank in range(ranks) for i in range(count)[part_of(each, rank)]] == list(range(count))


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_knows_every_matrix_and_norm_of_the_blocks(name: str):
    with torch.device("meta"):
        dit = DiT(MODELS[name]().dit)
    plan = dit.plan()
    inside = {f"{block}.{each}": module for block in plan.blocks for each, module in dit.get_submodule(block).named_modules()}
    linears = {each: module for each, module in inside.items() if isinstance(module, nn.Linear)}
    assert sorted([*plan.outputs, *plan.inputs, *plan.whole]) == sorted(linears)
    assert sorted(plan.per_head) == sorted(each for each, module in inside.items() if isinstance(module, RMSNorm))
    assert all(sum(parts) == linears[each].out_features for each, parts in plan.outputs.items())
    assert all(sum(parts) == linears[each].in_features for each, parts in plan.inputs.items())
    assert len(plan.blocks) == dit.config.double_blocks + dit.config.single_blocks


class Norms(TorchDispatchMode):
    """Counts layer norms."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation is torch.ops.aten.native_layer_norm.default
        return operation(*args, **(kwargs or {}))


def step(checkpointing: str, offload: bool = False) -> tuple[dict, int, int]:
    """Gradients of one step, the FLOPs of its backward pass, and how often it normalised again."""
    case = Case(MeshConfig())
    with open_world(MeshConfig(), "cpu") as world:
        dit = apply(seeded(DiT(case.model)), world, checkpointing=checkpointing, offload_activations=offload)
    loss = loss_of(dit, list(batches(case, 2)))
    with Norms() as norms, FlopCounterMode(display=False) as flops:
        loss.backward()
    return {name: weight.grad for name, weight in dit.named_parameters()}, flops.get_total_flops(), norms.count


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_recomputing_and_offloading_change_no_gradient(checkpointing: str, offload: bool):
    plain, saving = step("none")[0], step(checkpointing, offload)[0]
    assert all(torch.equal(saving[name], each) for name, each in plain.items())


def test_selective_recomputes_what_is_cheap_and_full_recomputes_all():
    (_, plain, never), (_, selective, again), (_, full, too) = (step(kind) for kind in ("none", "selective", "full"))
    assert plain == selective < full
    assert never == 0 < again == too


def test_moments_that_wait_elsewhere_step_alike():
    weights = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)]
    plain, waiting = (torch.optim.AdamW([weight]) for weight in weights)
    offload_moments(waiting)
    for each in range(3):
        for weight, optimizer in zip(weights, (plain, waiting), strict=True):
            weight.grad = torch.full_like(weight, each + 1.0)
            optimizer.step()
    assert torch.equal(*weights)


def test_heads_that_tensor_does_not_divide_are_refused_with_a_way_out():
    with pytest.raises(InputError, match="sequence, which takes any"):
        check_split(SIX_HEADS, 4)
