"""What every loader shares: one order of steps for all ranks, slices of it read ahead in threads, and a state of one number.

Every rank asks for the same steps and reads its own slice of each; the slices of any number of ranks join to the same batch, to the
bit. A sample that cannot be read is named, counted and replaced by another of its bucket.
"""

import hashlib
import logging
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinema.data.buckets import Bucket
from kinema.data.order import Order, Pick, Stream, generator
from kinema.errors import InputError, KinemaError

B = TypeVar("B")
S = TypeVar("S")
log = logging.getLogger(__name__)

MAX_DAMAGED = 100  # clips or shards met while training; more of them is no accident
SUBSTITUTES = 10  # other clips to try in place of one


class TooManyDamagedError(KinemaError, RuntimeError):
    """So much of the data cannot be read that training on the rest would be training on something else."""


@dataclass(frozen=True)
class Planned:
    """What a bucket gives a run."""

    bucket: Bucket
    batch: int  # B, of all ranks together
    clips: int
    share: float  # of the steps


def hashed(*numbers: int) -> int:
    """A seed that depends on these numbers alone, below 2^63."""
    return int.from_bytes(hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()) >> 1


def noise_of(shape: tuple[int, ...], *key: int) -> Float[Tensor, " ..."]:
    """Standard normal numbers that depend on the key alone; drawn on the CPU, so that the device does not matter."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(hashed(*key)))


def shares_of(streams: list[Stream], image_share: float | None) -> Float[np.ndarray, " s"]:
    """How often each stream's turn comes: as often as it has batches an epoch, images and videos apart where their share is given."""
    shares = np.array([stream.epoch_samples / stream.batch for stream in streams])
    if image_share is not None:
        images = np.array([stream.bucket.frames == 1 for stream in streams])
        for kind, mask, share in (("images", images, image_share), ("videos", ~images, 1 - image_share)):
            if share and not mask.any():
                raise InputError(f"image_share={image_share}, but there are no {kind}: encode some, or let `frames` cut them from clips")
            shares[mask] *= share / max(shares[mask].sum(), 1e-12)
    return shares / shares.sum()


class Feed(ABC, Generic[B]):
    """One rank's batches, one after another. A subclass says what there is, and reads a pick."""

    def __init__(self, seed: int, rank: int, ranks: int, workers: int, ahead: int, image_share: float | None):
        """Raises InputError where a batch has fewer samples than there are ranks."""
        if not 0 <= rank < ranks:
            raise InputError(f"rank={rank} of ranks={ranks}: it must be 0 or more, and below their number")
        self.seed, self.rank, self.ranks, self.ahead, self.image_share = seed, rank, ranks, ahead, image_share
        self.damaged: list[str] = []  # what could not be read, in words
        self.known_damage = 0  # how many of them are from before the first step
        self.skipped = 0  # samples that others stood in for
        self.counting = Lock()
        self.consumed = self.base = 0  # steps; the number at which the present order began
        self.order = self.make_order()
        self.threads = ThreadPoolExecutor(workers, "loader")
        self.reading: deque[Future[B]] = deque()

    @abstractmethod
    def streams(self) -> list[Stream]:
        """What is drawn from, bucket by bucket."""

    @abstractmethod
    def names(self) -> list[str]:
        """What there is to draw from, in the order of its numbers."""

    @abstractmethod
    def read(self, pick: Pick) -> B:
        """This rank's slice of a global batch; called in a thread."""

    def make_order(self) -> Order:
        streams = self.streams()
        for stream in streams:
            if stream.batch < self.ranks:
                raise InputError(f"a batch of {stream.bucket} has {stream.batch} samples for {self.ranks} ranks: raise tokens or compute")
        return Order(streams, shares_of(streams, self.image_share), hashed(self.seed, self.base))

    def plan(self) -> list[Planned]:
        """The buckets, largest share first."""
        rows = zip(self.order.streams, self.order.shares, strict=True)
        planned = [Planned(stream.bucket, stream.batch, stream.clips, float(share)) for stream, share in rows]
        return sorted(planned, key=lambda row: -row.share)

    def take(self) -> B:
        """The next step's batch. Raises TooManyDamagedError where too much of the data is."""
        while len(self.reading) < self.ahead:
            self.reading.append(self.threads.submit(self.read, self.order.pick(self.consumed - self.base + len(self.reading))))
        batch = self.reading[0].result()  # one that fails stays, and fails again
        self.reading.popleft()
        self.consumed += 1
        return batch

    def slice_of(self, pick: Pick) -> range:
        """This rank's places in a global batch."""
        low, high = (len(pick.rows) * each // self.ranks for each in (self.rank, self.rank + 1))
        return range(low, high)

    def attempt(self, pick: Pick, place: int, read: Callable[[int, int], S]) -> S:
        """`read(row, text)` for one place of a pick, or for another clip of the bucket where that cannot be read."""
        try:
            return read(int(pick.rows[place]), int(pick.texts[place]))
        except InputError as error:
            self.note_damage(error)
        for row in self.substitutes(pick, place):
            try:
                return read(row, 0)
            except InputError as error:
                self.note_damage(error)
        raise InputError(f"no clip of {pick.bucket} can be read, the last: {self.damaged[-1]}")

    def substitutes(self, pick: Pick, place: int) -> list[int]:
        """Some other clips of a pick's bucket, the same on every rank."""
        stream = next(stream for stream in self.order.streams if stream.bucket == pick.bucket)
        rows = np.concatenate([source.rows for source in stream.sources])
        return generator(self.order.seed, pick.step, place).permutation(rows[rows != pick.rows[place]])[:SUBSTITUTES].tolist()

    def note_damage(self, error: InputError) -> None:
        """Count a sample that cannot be read. Raises TooManyDamagedError where there are too many."""
        with self.counting:
            if str(error) not in self.damaged:
                self.damaged.append(str(error))
                log.warning("skipped what cannot be read (%d so far): %s", len(self.damaged), error)
            self.skipped += 1
        if len(self.damaged) - self.known_damage > MAX_DAMAGED:
            raise TooManyDamagedError(f"{len(self.damaged)} clips or shards cannot be read, the last: {error}")

    def restart(self, base: int) -> None:
        """Begin a new order, over what is there now."""
        self.drop()
        self.base = base
        self.order = self.make_order()

    def drop(self) -> None:
        """Forget what was read ahead."""
        for future in self.reading:
            future.cancel()
        self.reading.clear()

    def state_dict(self) -> dict[str, Any]:
        """Where this loader is; it fits a loader of any number of ranks and workers."""
        return {"consumed": self.consumed, "base": self.base, "seed": self.seed, "data": self.data}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises InputError where data or seed are others than then, so that other samples would follow."""
        ours = {"seed": self.seed, "data": self.data}
        if differ := [name for name, value in ours.items() if state[name] != value]:
            what = " and ".join(differ)
            raise InputError(f"the loader's {what} changed since the checkpoint: give the same, or begin a new run from its weights")
        self.consumed = state["consumed"]
        self.restart(state["base"])

    @property
    def data(self) -> str:
        """Changes with whatever decides the order of samples."""
        streams = [(str(stream.bucket), stream.batch, [each.weight for each in stream.sources]) for stream in self.order.streams]
        return hashlib.sha256(repr((streams, self.image_share, self.names())).encode()).hexdigest()[:16]

    def close(self) -> None:
        """Stop reading ahead."""
        self.drop()
        self.threads.shutdown(cancel_futures=True)
