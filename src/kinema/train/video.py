"""Train the DiT on encoded clips, stage by stage; the objective is in objective.py, the stages' rows in stages.py."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from kinema.data.buckets import Bucket
from kinema.data.feed import hashed
from kinema.data.loader import Batch, Loader, LoaderConfig
from kinema.data.store import MadeBy
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.media.files import whole_file
from kinema.train.flops import training_flops
from kinema.train.loop import Task
from kinema.train.objective import Draws, FlowConfig, by_sigma, draw, drop_text, flow_loss
from kinema.train.samples import Sampler
from kinema.train.speed import Work
from kinema.train.stages import STAGES, Stage, StageName, Walk


@dataclass(frozen=True, kw_only=True)
class VideoTask:
    """What a DiT run reads, and when.

    Raises InputError where a row wants approved clips and there is no folder of them, or focus is below 0.
    """

    folders: tuple[Path, ...]  # as `kinema encode` writes them
    stages: tuple[Stage, ...] | StageName  # rows, or the name of a table
    weights: tuple[float, ...] = ()  # of each folder: how often its clips come in an epoch; default: once
    reviewed: tuple[Path, ...] = ()  # folders of the clips that people have approved
    compute: float | None = None  # C: the most that B·L^exponent may be, beside a row's limit of tokens
    exponent: float = 1.0  # as `kinema train --plan --calibrate` measures it
    sample: bool = True  # draw latents from the posterior; False reads only its mean
    references: bool = False  # the model sees a picture of what a clip shows, where the folders have one
    focus: float = 0.0  # a latent cell that shows a subject counts so much more than 1 in the loss, where the folders know of them
    workers: int = 2  # threads that read
    follow: float = 0.0  # above 0: folders are still being written; wait so many seconds for the first clips, take in more as they come
    start_samples: int = 32  # clips to wait for, where folders are followed
    compile: bool = False  # the model sees texts padded to one length, so that a size is compiled once

    def __post_init__(self):
        if self.focus < 0:
            raise InputError(f"focus={self.focus} must be 0 or more: 0 counts all of a picture alike, 4 its subjects five times")
        if any(row.reviewed for row in self.rows) and not self.reviewed:
            raise InputError("a stage trains on approved clips: name their folders in task.reviewed, or leave that row out")

    @property
    def rows(self) -> tuple[Stage, ...]:
        return STAGES[self.stages] if isinstance(self.stages, str) else self.stages

    def loader(self, row: Stage) -> LoaderConfig:
        """What one row reads."""
        same = {name: getattr(self, name) for name in ("compute", "exponent", "sample", "references", "workers", "follow", "start_samples")}
        of_row = {name: getattr(row, name) for name in ("tokens", "image_share", "sides", "frames")}
        where = {"folders": self.reviewed} if row.reviewed else {"folders": self.folders, "weights": self.weights}
        return LoaderConfig(**where, **same, **of_row, focus=self.focus > 0)

    @property
    def text_len(self) -> int:
        """Longest text in the folders, tokens."""
        return MadeBy.read(self.folders[0]).text_len


class Batches:
    """Batches of the row that a run is in; where it is belongs to the checkpoint.

    Raises InputError where folders do not fit the rows.
    """

    def __init__(self, task: VideoTask, device: torch.device | str, seed: int, rank: int = 0, ranks: int = 1):
        self.task, self.device, self.seed, self.rank, self.ranks = task, torch.device(device), seed, rank, ranks
        self.place, self.loader = 0, self.open(0)
        self.null = self.loader.null
        self.text_len = task.text_len if task.compile else 0

    @property
    def row(self) -> Stage:
        return self.task.rows[self.place]

    def enter(self, place: int) -> None:
        """Go to the row of this number, at its beginning."""
        self.loader.close()
        self.place, self.loader = place, self.open(place)

    def open(self, place: int) -> Loader:
        return Loader(self.task.loader(self.task.rows[place]), hashed(self.seed, place), self.rank, self.ranks, self.device)

    def next(self) -> tuple[Batch, Draws]:
        """A batch on the device, and what chance decides for it; texts are padded to one length where the model is compiled."""
        key, batch = hashed(self.seed, self.place, self.loader.consumed), self.loader.next()
        first = batch.total * self.rank // self.ranks
        flow = FlowConfig(
            shift=self.row.shift, shift_tokens=self.row.largest.tokens, text_dropout=self.row.text_dropout, given_share=self.row.given_share
        )
        draws = draw(batch.latents.shape, batch.bucket.tokens, batch.total, first, key, flow, self.device)
        return (padded(batch, self.text_len) if self.text_len else batch), draws

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "loader": self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.enter(state["place"])
        self.loader.load_state_dict(state["loader"])


def padded(batch: Batch, length: int) -> Batch:
    """With texts of one length, whose mask tells what is real."""
    missing = length - batch.text.shape[1]
    mask = batch.text.new_ones(batch.text.shape[:2], dtype=torch.bool) if batch.text_mask is None else batch.text_mask
    return replace(batch, text=F.pad(batch.text, (0, 0, 0, missing)), text_mask=F.pad(mask, (0, missing)))


class VideoTraining(Task):
    """The Task that trains a DiT."""

    model: DiT

    def __init__(self, model: DiT, batches: Batches, walk: Walk, sampler: Sampler | None = None):
        """Raises InputError where the model wants what this training does not give."""
        if model.config.guidance or model.config.image_condition == "latent_concat":
            raise InputError(
                "model.guidance and latent_concat cannot be trained from clips: train without a guidance scale and distil it "
                "afterwards (kinema distill); an image is given as clean latent frames (given_share)"
            )
        self.model, self.batches, self.walk, self.sampler = model, batches, walk, sampler
        self.last = Work()

    def refresh(self, step: int, progress: float = 0.0) -> None:
        """Go on to the next row when its time has come."""
        place, _ = self.walk.place(progress)
        if place != self.batches.place:
            self.batches.enter(place)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        batch, draws = self.batches.next()
        text, mask, pooled = drop_text(batch.text, batch.text_mask, batch.pooled, self.batches.null, draws.dropped)
        counts = None if batch.focus is None else 1 + self.batches.task.focus * batch.focus
        each = flow_loss(self.model, batch.latents, text, mask, pooled, draws, batch.reference, counts)
        self.last = self.work_of(batch.bucket, len(each), text.shape[1])
        mean = each.sum() * self.batches.ranks / batch.total  # the mean over ranks is the mean over samples, however they were cut
        stage = torch.tensor(float(self.batches.place))
        return mean, {**by_sigma(each, draws.sigma), "stage": stage}

    def work(self) -> Work:
        return self.last

    def work_of(self, bucket: Bucket, samples: int, text: int) -> Work:
        seen = bucket.tokens // bucket.latent.t if self.batches.task.references else 0
        flops = training_flops(self.model.config, samples, bucket.tokens + seen, text)
        return Work(samples=samples, tokens=samples * bucket.tokens, flops=flops, size=str(bucket))

    def sample(self, weights: dict[str, Tensor], step: int) -> None:
        if self.sampler:
            self.sampler.sample(weights, step)

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write the averaged weights in bfloat16: a whole model's folder where the recipe names a VAE, dit.safetensors otherwise."""
        if self.sampler:
            self.sampler.write_model(weights, folder)
        else:
            save_weights(weights, folder / "dit.safetensors")

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """In bfloat16, atomically."""
    with whole_file(path) as draft:
        save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}, draft)
