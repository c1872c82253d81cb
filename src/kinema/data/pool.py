"""Batches drawn from the newest samples of a growing folder of shards, held on the training device.

A pool is a ring: it fills up to its capacity, then new samples replace the oldest. On a machine whose renderers work while
the model trains, samples are seen once or a few times each; on a finished folder the pool simply holds everything it can.
"""

import time
from pathlib import Path

import torch
from torch import Tensor

from kinema.data.shards import follow, read_shard


class Pool:
    """A ring of samples: named tensors with one leading axis, on one device."""

    def __init__(self, folder: Path, capacity: int, device: torch.device | str, names: tuple[str, ...]):
        self.folder, self.capacity, self.device, self.names = folder, capacity, torch.device(device), names
        self.tensors: dict[str, Tensor] = {}
        self.taken = 0  # samples ever put in
        self.seen: set[Path] = set()

    @classmethod
    def of(cls, folder: Path, device: torch.device | str, name: str) -> Tensor:
        """One tensor of all samples of a finished folder."""
        return torch.cat([read_shard(path)[0][name] for path in follow(folder, set())]).to(device)

    def __len__(self) -> int:
        return min(self.taken, self.capacity)

    def refresh(self, limit: int | None = None) -> int:
        """Take in up to `limit` new shards (all of them by default); returns how many samples came."""
        before = self.taken
        for count, path in enumerate(follow(self.folder, self.seen), start=1):
            self.put(read_shard(path)[0])
            if limit is not None and count >= limit:
                break
        return self.taken - before

    def wait(self, samples: int, seconds: float = 600.0) -> None:
        """Wait until a writer beside us has delivered `samples`; raises TimeoutError when nothing comes for `seconds`."""
        heard = time.monotonic()
        while len(self) < samples:
            if self.refresh():
                heard = time.monotonic()
            elif time.monotonic() - heard > seconds:
                raise TimeoutError(
                    f"{self.folder} holds {len(self)} samples of {samples} and none came for {seconds:.0f} s: is its writer running?"
                )
            time.sleep(0.2)

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Write samples over the oldest ones."""
        count = len(tensors[self.names[0]])
        slots = (self.taken + torch.arange(count)) % self.capacity
        for name in self.names:
            if name not in self.tensors:
                self.tensors[name] = torch.zeros((self.capacity, *tensors[name].shape[1:]), dtype=tensors[name].dtype, device=self.device)
            self.tensors[name][slots.to(self.device)] = tensors[name].to(self.device, non_blocking=True)
        self.taken += count

    def draw(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """`batch` samples, uniformly and with replacement; the generator lives on the pool's device."""
        index = torch.randint(len(self), (batch,), generator=generator, device=self.device)
        return {name: tensor[index] for name, tensor in self.tensors.items()}
