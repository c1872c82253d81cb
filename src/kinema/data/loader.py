"""Batches for training, from stores of encoded clips.

What a step holds depends on the seed, the data and the number of steps consumed, and on nothing else (`feed.py`, `order.py`). A damaged
or missing sample is named, counted and replaced; a shard that cannot be opened at the start stops the run before its first step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kinema.data.buckets import Bucket
from kinema.data.feed import Feed, Planned, noise_of
from kinema.data.index import Index, LoaderConfig, wait_for
from kinema.data.order import Pick, Stream
from kinema.data.store import Shard
from kinema.errors import InputError

__all__ = ["Batch", "Loader", "LoaderConfig", "Planned"]

LOOK_EVERY = 20  # steps between looks for new shards, where folders are followed


@dataclass(frozen=True)
class Batch:
    """One rank's slice of a step's global batch."""

    latents: Float[Tensor, "B C t h w"]  # float32
    text: Float[Tensor, "B L d"]  # 0 where the mask is False
    text_mask: Bool[Tensor, "B L"] | None  # True at real tokens, which come first; None: all are
    pooled: Float[Tensor, "B p"]
    ids: list[str]
    bucket: Bucket
    total: int  # samples of the global batch: a rank's mean counts len(ids) / total
    reference: Float[Tensor, "B C one h w"] | None = None  # pictures of what is shown, float32; zeros where there is none
    focus: Float[Tensor, "B t h w"] | None = None  # the share of each cell that subjects cover, float32; zeros where nothing is known

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor)}

    def to(self, device: torch.device | str) -> "Batch":
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors().items()})  # type: ignore[arg-type]

    def pin(self) -> "Batch":
        """In page-locked memory, from where a GPU takes it without waiting."""
        return replace(self, **{name: tensor.pin_memory() for name, tensor in self.tensors().items()})  # type: ignore[arg-type]


class Row(NamedTuple):
    """One sample of a batch."""

    latents: Float[Tensor, "C t h w"]
    text: Float[Tensor, "L d"]
    pooled: Float[Tensor, " p"]
    id: str
    reference: Float[Tensor, "C one h w"] | None
    focus: Float[Tensor, "t h w"] | None


def batch_texts(
    texts: Sequence[Float[Tensor, "_ d"]], longest: int, even: bool
) -> tuple[Float[Tensor, "B L d"], Bool[Tensor, "B L"] | None]:
    """Texts padded, or cut, to the longest of the global batch, and their mask; no mask where no text of the global batch is shorter."""
    padded = pad_sequence([states[:longest] for states in texts], batch_first=True)
    padded = F.pad(padded, (0, 0, 0, longest - padded.shape[1]))
    mask = torch.arange(longest) < torch.tensor([len(states) for states in texts])[:, None]
    return padded, None if even and bool(mask.all()) else mask


class Loader(Feed[Batch]):
    """One rank's batches of encoded clips."""

    def __init__(self, config: LoaderConfig, seed: int, rank: int = 0, ranks: int = 1, device: torch.device | str = "cpu"):
        """Raises InputError where folders do not fit the config, or a batch has fewer samples than there are ranks."""
        if config.follow and ranks > 1:
            raise InputError(
                f"follow={config.follow} with {ranks} ranks: each would see other clips; end the writer first, or use one rank"
            )
        self.config, self.device = config, torch.device(device)
        self.index = wait_for(config) if config.follow else Index(config)
        super().__init__(seed, rank, ranks, config.workers, config.ahead, config.image_share)

    def streams(self) -> list[Stream]:
        return self.index.streams()

    def names(self) -> list[str]:
        return self.index.names()

    def next(self) -> Batch:
        """The next step's batch. Raises TooManyDamagedError where too much of the data is."""
        if self.config.follow and self.consumed % LOOK_EVERY == 0 and self.index.refresh():
            self.restart(self.consumed)
        return self.take().to(self.device)

    def read(self, pick: Pick) -> Batch:
        rows = [self.attempt(pick, place, lambda row, text, place=place: self.row(pick, row, text, place)) for place in self.slice_of(pick)]  # type: ignore[misc]
        longest = int(pick.lengths.max())
        text, mask = batch_texts([row.text for row in rows], longest, even=bool((pick.lengths == longest).all()))
        latents, pooled = torch.stack([row.latents for row in rows]), torch.stack([row.pooled for row in rows])
        beside = {"reference": self.references(rows), "focus": self.focus(rows)}
        batch = Batch(latents, text, mask, pooled, [row.id for row in rows], pick.bucket, len(pick.rows), **beside)
        return batch.pin() if self.device.type == "cuda" else batch

    def row(self, pick: Pick, row: int, text: int, place: int) -> Row:
        shard, there = self.index.shard_of(row)
        states, pooled = shard.text(there, text)
        shown = shard.reference(there) if self.config.references else None
        where = shard.focus(there, pick.bucket.latent.t) if self.config.focus else None
        return Row(self.latents(shard, there, pick, place), states, pooled, shard.rows[there]["id"], shown, where)

    def references(self, rows: Sequence[Row]) -> Float[Tensor, "B C one h w"] | None:
        if not self.config.references:
            return None
        nothing = torch.zeros_like(rows[0].latents[:, :1])
        return torch.stack([nothing if row.reference is None else row.reference.float() for row in rows])

    def focus(self, rows: Sequence[Row]) -> Float[Tensor, "B t h w"] | None:
        if not self.config.focus:
            return None
        nothing = torch.zeros_like(rows[0].latents[0])
        return torch.stack([nothing if row.focus is None else row.focus.float() for row in rows])

    def latents(self, shard: Shard, row: int, pick: Pick, place: int) -> Float[Tensor, "C t h w"]:
        """Drawn from the posterior with the place's own noise, or its mean."""
        frames = pick.bucket.latent.t
        latents = shard.latents("mean", row, frames).float()
        if self.config.sample:
            deviation = (0.5 * shard.latents("logvar", row, frames).float()).exp_()
            latents.addcmul_(deviation, noise_of(tuple(latents.shape), self.order.seed, pick.step, place))
        return latents.movedim(0, 1)

    @property
    def null(self) -> tuple[Float[Tensor, "one L d"], Float[Tensor, " p"]]:
        """States and pooled vector of the empty prompt, on the device."""
        text, pooled = self.index.stores[0].null
        return text.to(self.device), pooled.to(self.device)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. A folder that is followed has grown since: the order is then a new one, from the step that was reached."""
        if not self.config.follow:
            super().load_state_dict(state)
            return
        self.consumed = state["consumed"]
        self.restart(self.consumed)
