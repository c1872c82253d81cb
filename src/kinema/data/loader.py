"""Batches for training, from stores of encoded clips.

Every rank asks for the same steps and reads its own slice of each; the slices of any number of ranks join to the same batch, to the
bit. What a step holds depends on the seed, the data and the number of steps consumed, which is the whole state. Reading, checking
and sampling run ahead in threads.
A damaged or missing sample is named, counted and replaced by another of its batch; a shard that cannot be opened at the start
stops the run before its first step.
"""

import hashlib
import logging
import struct
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kinema.data.buckets import Bucket
from kinema.data.index import Index, LoaderConfig, shares_of, wait_for
from kinema.data.order import Order, Pick
from kinema.data.store import DamagedShardError, Shard
from kinema.errors import InputError

__all__ = ["Batch", "Loader", "LoaderConfig", "Planned"]

log = logging.getLogger(__name__)

MAX_DAMAGED = 100  # samples; more of them is no accident
LOOK_EVERY = 20  # steps between looks for new shards, where folders are followed


@dataclass(frozen=True)
class Batch:
    """One rank's slice of a step's global batch."""

    latents: Float[Tensor, "B C t h w"]  # float32
    text: Float[Tensor, "B L d"]  # bfloat16; 0 where the mask is False
    text_mask: Bool[Tensor, "B L"] | None  # True at real tokens, which come first; None: all are
    pooled: Float[Tensor, "B p"]
    ids: list[str]
    bucket: Bucket
    total: int  # samples of the global batch: a rank's mean counts len(ids) / total

    def to(self, device: torch.device | str) -> "Batch":
        moved = {field.name: getattr(self, field.name) for field in fields(self) if isinstance(getattr(self, field.name), Tensor)}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in moved.items()})

    def pin(self) -> "Batch":
        """In page-locked memory, from where a GPU takes it without waiting."""
        moved = {field.name: getattr(self, field.name) for field in fields(self) if isinstance(getattr(self, field.name), Tensor)}
        return replace(self, **{name: tensor.pin_memory() for name, tensor in moved.items()})


@dataclass(frozen=True)
class Planned:
    """What a bucket gives a run."""

    bucket: Bucket
    batch: int
    clips: int
    share: float  # of the steps


class Loader:
    """A rank's batches, one after another."""

    def __init__(self, config: LoaderConfig, seed: int, rank: int = 0, ranks: int = 1, device: torch.device | str = "cpu"):
        """Raises InputError where folders do not fit the config, or a batch has fewer samples than there are ranks."""
        if config.follow and ranks > 1:
            raise InputError(
                f"follow={config.follow} with {ranks} ranks: each would see other clips; let the writer end first, or use one rank"
            )
        self.config, self.seed, self.rank, self.ranks, self.device = config, seed, rank, ranks, torch.device(device)
        self.damaged: list[str] = []  # what could not be read, in words
        self.index = wait_for(config) if config.follow else Index(config)
        self.consumed = self.base = 0  # steps; the number at which the present order began
        self.order = self.make_order()
        self.threads = ThreadPoolExecutor(config.workers, "loader")
        self.reading: deque[Future[Batch]] = deque()

    def make_order(self) -> Order:
        streams = self.index.streams()
        for stream in streams:
            if stream.batch < self.ranks:
                raise InputError(f"a batch of {stream.bucket} has {stream.batch} samples for {self.ranks} ranks: raise tokens or compute")
        return Order(streams, shares_of(streams, self.config.image_share), hashed(self.seed, self.base))

    def plan(self) -> list[Planned]:
        """The buckets, largest share first."""
        rows = zip(self.order.streams, self.order.shares, strict=True)
        planned = [Planned(stream.bucket, stream.batch, stream.clips, float(share)) for stream, share in rows]
        return sorted(planned, key=lambda row: -row.share)

    @property
    def null(self) -> tuple[Float[Tensor, "one L d"], Float[Tensor, "p"]]:
        """States and pooled vector of the empty prompt, on the device."""
        text, pooled = self.index.stores[0].null
        return text.to(self.device), pooled.to(self.device)

    def next(self) -> Batch:
        """The next step's batch. Raises InputError where too many samples are damaged."""
        if self.config.follow and self.consumed % LOOK_EVERY == 0 and self.index.refresh():
            self.restart(self.consumed)
        while len(self.reading) < self.config.ahead:
            self.reading.append(self.threads.submit(self.read, self.order.pick(self.consumed - self.base + len(self.reading))))
        batch = self.reading[0].result()  # one that fails stays, and fails again
        self.reading.popleft()
        self.consumed += 1
        return batch.to(self.device)

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

    def read(self, pick: Pick) -> Batch:
        """This rank's slice of a global batch."""
        low, high = (len(pick.rows) * each // self.ranks for each in (self.rank, self.rank + 1))
        reader = Reader(self, pick)
        samples = [reader.sample(place) for place in range(low, high)]
        longest = int(pick.lengths.max())
        text = pad_sequence([states[:longest] for _, states, _, _ in samples], batch_first=True)
        text = F.pad(text, (0, 0, 0, longest - text.shape[1]))
        lengths = torch.tensor([len(states) for _, states, _, _ in samples])
        whole = bool((pick.lengths == longest).all() and (lengths >= longest).all())
        mask = None if whole else torch.arange(longest) < lengths[:, None]
        latents, pooled = torch.stack([row[0] for row in samples]), torch.stack([row[2] for row in samples])
        batch = Batch(latents, text, mask, pooled, [row[3] for row in samples], pick.bucket, len(pick.rows))
        return batch.pin() if self.device.type == "cuda" else batch

    def note_damage(self, error: Exception) -> None:
        """Count a sample that cannot be read. Raises InputError where there are too many."""
        self.damaged.append(str(error))
        log.warning("skipped a sample (%d so far): %s", len(self.damaged), error)
        if len(self.damaged) > MAX_DAMAGED:
            raise InputError(f"{len(self.damaged)} samples cannot be read, the last: {error}")

    def state_dict(self) -> dict[str, Any]:
        """Where this loader is; it fits a loader of any number of ranks and workers."""
        return {"consumed": self.consumed, "base": self.base, "seed": self.seed, "data": self.data}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises InputError where the data or the seed are others, so that other samples would follow."""
        ours = {"seed": self.seed, "data": self.data}
        if not self.config.follow and (differ := [name for name, value in ours.items() if state[name] != value]):
            raise InputError(
                f"the loader's {' and '.join(differ)} changed since the checkpoint: give the same, or begin a new run from its weights"
            )
        self.consumed = state["consumed"]
        self.restart(self.consumed if self.config.follow else state["base"])

    @property
    def data(self) -> str:
        """Changes with whatever decides the order of samples."""
        streams = [
            (str(stream.bucket), stream.batch, [(len(each.rows), each.weight) for each in stream.sources]) for stream in self.order.streams
        ]
        return hashlib.sha256(repr((streams, self.config.image_share)).encode()).hexdigest()[:16]

    def close(self) -> None:
        """Stop reading ahead."""
        self.drop()
        self.threads.shutdown(cancel_futures=True)


class Reader:
    """Reads the samples of one pick."""

    def __init__(self, loader: Loader, pick: Pick):
        self.loader, self.pick, self.index = loader, pick, loader.index

    def sample(self, place: int) -> tuple[Tensor, Tensor, Tensor, str]:
        """Latents [C t h w], text states [L d], pooled vector [p] and id; another clip of the batch where this one is damaged."""
        for step in range(len(self.pick.rows)):
            other = (place + step) % len(self.pick.rows)
            try:
                return self.read(int(self.pick.rows[other]), int(self.pick.texts[other]), place)
            except DamagedShardError as error:
                self.loader.note_damage(error)
        raise InputError(f"no sample of a batch of {self.pick.bucket} can be read: {self.loader.damaged[-1]}")

    def read(self, row: int, text: int, place: int) -> tuple[Tensor, Tensor, Tensor, str]:
        shard, row_there = self.index.shard_of(row)
        states, pooled = shard.text(row_there, text)
        return self.latents(shard, row_there, place), states, pooled, shard.rows[row_there]["id"]

    def latents(self, shard: Shard, row: int, place: int) -> Float[Tensor, "C t h w"]:
        frames = self.pick.bucket.latent.t
        mean = shard.latents("mean", row, frames).float()
        if self.loader.config.sample:
            noise = torch.Generator().manual_seed(hashed(self.loader.order.seed, self.pick.step, place))
            deviation = (0.5 * shard.latents("logvar", row, frames).float()).exp()
            mean = mean + deviation * torch.randn(mean.shape, generator=noise)
        return mean.movedim(0, 1).contiguous()


def hashed(*numbers: int) -> int:
    """A seed that depends on these numbers alone, below 2^63."""
    return int.from_bytes(hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()) >> 1
