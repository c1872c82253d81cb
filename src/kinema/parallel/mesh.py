"""Which process does what: one mesh of four axes, and the process group that torchrun started.

data      copies of the model, each on other samples
shard     ranks that share one copy's weights (FSDP2), each on other samples
sequence  ranks that share one sample's tokens; they share the weights as well
tensor    ranks that share every matrix of one sample's blocks
Neighbours in rank lie next to each other on the last axis, so that tensor and sequence stay within a machine.
"""

import logging
import os
from dataclasses import dataclass, fields
from datetime import timedelta
from types import TracebackType
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from kinema.errors import InputError

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
        if self.method not in ("ulysses", "ring"):
            raise InputError(f"mesh method={self.method!r} is not known: use ulysses or ring")

    @property
    def size(self) -> int:
        return self.data * self.shard * self.sequence * self.tensor

    @classmethod
    def parse(cls, text: str) -> "MeshConfig":
        """From a command line: 'sequence=2,tensor=2,method=ring'.

        Raises InputError where a word is no axis or a value no number.
        """
        known = [field.name for field in fields(cls)]
        chosen = {}
        for name, _, value in (word.partition("=") for word in text.split(",")):
            chosen[name] = value
            if name not in known or not (value.isdigit() or name == "method"):
                raise InputError(f"mesh={text!r}: {name}={value} is not understood; write it as sequence=2,data=2 with {', '.join(known)}")
        return cls(**{name: value if name == "method" else int(value) for name, value in chosen.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class World:
    """This process among the others; closes its process group when the block that opened it ends.

    mesh: all four axes. weights: the same ranks as (data, weights, tensor), the axes that weights lie on: sequence shares them too.
    Both are None for a single process.
    """

    config: MeshConfig
    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh | None = None
    weights: DeviceMesh | None = None
    store: dist.Store | None = None

    @property
    def data_ranks(self) -> int:
        """Ranks that see different samples: data x shard."""
        return self.config.data * self.config.shard

    @property
    def data_rank(self) -> int:
        """Which of them this is; ranks of one sequence or tensor group share it."""
        return self.rank // (self.config.sequence * self.config.tensor)

    @property
    def leads(self) -> bool:
        """Whether this rank speaks for those that work on the same sample."""
        return self.rank % (self.config.sequence * self.config.tensor) == 0

    def claim_failure(self) -> bool:
        """Whether this rank is the first that fails: it alone then says why."""
        if self.store is None:
            return True
        try:
            return self.store.compare_set(CLAIM, "", str(self.rank)) == str(self.rank).encode()
        except RuntimeError:  # the store went with the rank that kept it, which has spoken
            return False

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.mesh is not None and dist.is_initialized():
            dist.destroy_process_group()


def launched_ranks() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def open_world(config: MeshConfig, device: str = "auto") -> World:
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
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # it finds gathering of two axes slow, at length
    store, rank, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("world", store), rank=rank, world_size=size, timeout=TIMEOUT)
    mesh = init_device_mesh(place.type, tuple(getattr(config, name) for name in AXES), mesh_dim_names=AXES)
    shape = (config.data, config.shard * config.sequence, config.tensor)
    weights = init_device_mesh(place.type, shape, mesh_dim_names=("data", "weights", "tensor"))
    return World(config, rank, size, place, mesh, weights, store)


def local_device(name: str) -> torch.device:
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
