"""A transformer larger than memory: its blocks are read from disk as they work, and only the rest stays."""

from pathlib import Path

import torch
from torch import Tensor, nn

from kinema.dit.attending import set_attention
from kinema.dit.model import DiT, DiTConfig
from kinema.dit.quantise import make_room
from kinema.errors import InputError, WeightsError
from kinema.parallel.mesh import World
from kinema.parallel.offload import BlockStream
from kinema.parallel.sequence import split_sequence
from kinema.pipelines.placement import Placement
from kinema.weights.fit import misfits
from kinema.weights.lazy import LazyState
from kinema.weights.read import State


def load_streamed(path: Path, key: str | None, config: DiTConfig, placement: Placement, world: World) -> DiT:
    """A DiT that works on `placement.device` and reads each block from `path` when it needs it, the next one meanwhile.

    Ranks that share a video's tokens each read the blocks.
    Raises WeightsError where the file does not fit, of a block when it is first read; InputError for a tensor mesh.
    """
    if world.config.tensor > 1:
        raise InputError("offload=blocks reads whole blocks, which a tensor mesh splits: use a sequence mesh, or another --offload")
    state = LazyState(path, key)
    with torch.device("meta"):
        dit = DiT(config).to(placement.dtype).eval()
        make_room(dit, state.mapped)
    blocks = dit.plan().blocks
    groups = {*blocks, ""}
    if groups != state.groups.keys():
        missing, unknown = sorted(groups - state.groups.keys()), sorted(state.groups.keys() - groups)
        raise WeightsError(f"{path} does not fit the model: blocks missing: {missing or 'none'}, unknown: {unknown or 'none'}")
    assign_rest(dit, state.read("", placement.dtype), placement, path)
    set_attention(dit, placement.attention.make(placement.device, placement.dtype))
    if world.mesh is not None and world.config.sequence > 1:
        split_sequence(dit, world.mesh["sequence"].get_group(), world.config.method)

    def fetch(name: str) -> State:
        return checked(state.read(name, placement.dtype), shapes[name], path, name)

    shapes = {name: dict(dit.get_submodule(name).state_dict()) for name in blocks}
    BlockStream(dit, fetch, placement.device)
    return dit


def assign_rest(dit: nn.Module, rest: State, placement: Placement, path: Path) -> None:
    """All weights but the blocks', onto the device."""
    wanted = {name: tensor for name, tensor in dit.state_dict().items() if not name.startswith(("double_blocks.", "single_blocks."))}
    checked(rest, wanted, path, "layers beside the blocks")
    moved = {name: tensor.to(placement.device) for name, tensor in rest.items()}
    dit.load_state_dict(moved, strict=False, assign=True)


def checked(found: State, wanted: dict[str, Tensor], path: Path, what: str) -> State:
    wrong = misfits(wanted, found)
    if wrong:
        raise WeightsError(f"{path} does not fit the model in {what}: {'; '.join(wrong)}")
    return found
