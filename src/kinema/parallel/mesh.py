"""Which process does what: one mesh of four axes, and the process group that torchrun started.

data      copies of the model, each on other samples
shard     ranks that share one copy's weights (FSDP2), each on other samples
sequence  ranks that share one sample's tokens; they share the weights as well
tensor    ranks that share every matrix of one sample's blocks
Neighbours in rank lie next to each other on the last axis, so that tensor and sequence stay within a machine.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from kinema.config import override
from kinema.errors import InputError

T = TypeVar("T")
Method = Literal["ulysses", "ring"]
AXES = ("data", "shard", "sequence", "tensor")
TIMEOUT = timedelta(minutes=30)  # a rank may wait as long for another one: a 13B checkpoint takes minutes to read
CLAIM = "kinema/failed"  # in the store: which rank failed first


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many ranks lie on each axis; the product is the number of processes."""

    data: int = 1
    shard: int = 1
    sequence: int = 1
    tensor: int = 1
    method: Method = "ulysses"  # of the sequence axis: exchange heads for tokens, or pass keys and values round

    def __post_init__(self):
        low = [f"{name}={getattr(self, name)}" for name in AXES if getattr(self, name) < 1]
        if low:
            raise InputError(f"mesh {', '.join(low)} must be 1 or more; 1 leaves an axis out")

    @property
    def size(self) -> int:
        return self.data * self.shard * self.peers

    @property
    def peers(self) -> int:
        """Ranks that work on the same sample."""
        return self.sequence * self.tensor

    @classmethod
    def parse(cls, text: str) -> "MeshConfig":
        """From a command line: 'sequence=2,tensor=2,method=ring'.

        Raises InputError where a word is no axis or a value no number.
        """
        return override(cls(), text.split(","))


@dataclass(frozen=True)
class World:
    """This process among the others; as a context manager, it ends the process group that it started.

    mesh: all four axes. weights: the same ranks as (data, weights, tensor), the axes that weights lie on: sequence shares them too.
    peers: the ranks that work on the same sample, sequence x tensor. All three are None for a single process.
    store: where ranks leave word for each other; None where the process group was there before.
    """

    config: MeshConfig
    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh | None = None
    weights: DeviceMesh | None = None
    peers: dist.ProcessGroup | None = None
    store: dist.Store | None = None

    @property
    def data_ranks(self) -> int:
        """Ranks that see different samples: data x shard."""
        return self.config.data * self.config.shard

    @property
    def data_rank(self) -> int:
        """Which of them this is; peers share it."""
        return self.rank // self.config.peers

    @property
    def leads(self) -> bool:
        """Whether this rank speaks for its peers."""
        return self.rank % self.config.peers == 0

    def share(self, make: Callable[[], T]) -> T:
        """What the leader makes, on all its peers, which wait for it."""
        return made_by(self.data_rank * self.config.peers, make, self.peers) if self.config.peers > 1 else make()

    def agree(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on all ranks, which wait for it."""
        return made_by(0, make, dist.group.WORLD) if self.size > 1 else make()

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over the ranks that work on the same sample, on all of them."""
        if self.config.peers > 1:
            dist.all_reduce(numbers, group=self.peers)
        return numbers

    def fails_first(self) -> bool:
        """Whether no other rank has failed before: this one then says why."""
        if self.store is None:
            return self.rank == 0
        try:
            return self.store.compare_set(CLAIM, "", str(self.rank)) == str(self.rank).encode()
        except RuntimeError:  # the store went with the process that kept it, which has spoken
            return False

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception):
            error.speaks = self.fails_first()  # type: ignore[attr-defined]  # the command line tells of one failure, not of all that follow
        elif error is None and self.store is not None:
            dist.destroy_process_group()


def made_by(rank: int, make: Callable[[], T], group: dist.ProcessGroup | None) -> T:
    box: list[Any] = [make() if dist.get_rank() == rank else None]
    dist.broadcast_object_list(box, rank, group, device=torch.device("cpu"))
    return box[0]


def launched_ranks() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def open_world(config: MeshConfig, device: str | torch.device = "auto") -> World:
    """Join the processes that torchrun started, or be a plain single process.

    device: auto, cpu, cuda: on CUDA each rank takes the GPU of its local rank.
    Raises InputError where the mesh and the number of processes differ.
    """
    size = launched_ranks()
    if config.size != size:
        product = " x ".join(f"{name}={getattr(config, name)}" for name in AXES)
        raise InputError(
            f"mesh {product} needs {config.size} processes, and there {'is 1' if size == 1 else f'are {size}'}: "
            f"start with torchrun --nproc-per-node {config.size} -m kinema ..., or change the mesh"
        )
    place = local_device(device)
    if size == 1:
        return World(config, 0, 1, place)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    store = None if dist.is_initialized() else join_processes(place)
    mesh = init_device_mesh(place.type, tuple(getattr(config, name) for name in AXES), mesh_dim_names=AXES)
    shape = (config.data, config.shard * config.sequence, config.tensor)
    weights = init_device_mesh(place.type, shape, mesh_dim_names=("data", "weights", "tensor"))
    peers = dist.new_subgroups(config.peers)[0]
    return World(config, dist.get_rank(), size, place, mesh, weights, peers, store)


def join_processes(device: torch.device) -> dist.Store:
    """Start the process group; returns the store through which it found itself."""
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # it finds gathering of two axes slow, at length
    common, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt-{attempt}", common)  # torchrun keeps its store: it holds the addresses of ranks that died
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("world", store), rank=rank, world_size=size, timeout=TIMEOUT)
    return store


def local_device(name: str | torch.device) -> torch.device:
    """Where this rank works.

    Raises InputError where the device is absent, or there are more ranks than GPUs.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda" or launched_ranks() == 1:
        return device
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= gpus:
        raise InputError(f"device={name!r}: rank {local} of this machine finds {gpus} GPUs: start one process a GPU, or use --device cpu")
    return torch.device("cuda", local)
