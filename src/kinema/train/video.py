"""Train the DiT by flow matching on encoded clips.

Loss: the squared error of the velocity, at logit-normal times shifted towards noise; the text is dropped now and then so that
classifier-free guidance has an unconditional model. Some samples keep a few latent frames clean: the model then continues or
fills in what is given (HunyuanVideo's token replacement), and the loss leaves those frames out.
Source: HunyuanVideo (arXiv 2412.03603, §4.3-4.5); Esser et al. 2024 (arXiv 2403.03206).
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.data.pool import Pool
from kinema.data.shards import read_shard
from kinema.dit.model import DiT
from kinema.flow.path import interpolate, training_sigmas, velocity_target
from kinema.train.loop import Task

SIGMA_BINS = 4


@dataclass(frozen=True, kw_only=True)
class VideoTask:
    """What a DiT run reads and how noise and text are drawn."""

    latents: Path  # folder written by `kinema.data.encode`
    scale: int = 1  # which of the encoded sizes
    batch: int = 128
    capacity: int = 65_536  # samples held on the device
    shift: float = 2.0  # of the training times
    text_dropout: float = 0.1
    clean_share: float = 0.15  # samples that keep some latent frames clean
    refresh_every: int = 20  # steps between looks for new shards
    start_samples: int = 32  # samples to wait for before the first step
    compile: bool = False


class VideoTraining(Task):
    """The Task that trains a DiT."""

    model: DiT

    def __init__(self, model: DiT, task: VideoTask, device: str):
        self.model, self.task, self.device = model.to(device), task, device
        self.latents = f"latents_{task.scale}"
        self.pool = Pool(task.latents, task.capacity, device, (self.latents, "text", "text_lengths", "pooled"))
        self.null: dict[str, Tensor] = {}
        self.forward = torch.compile(model) if task.compile else model

    def wait_for_data(self) -> None:
        """Wait for the first samples, where a renderer or an encoder is still at work; the empty prompt came before them."""
        self.pool.wait(min(self.task.start_samples, self.task.capacity))
        self.null = read_shard(self.task.latents / "null" / "null.safetensors", device=self.device)[0]

    def refresh(self, step: int, progress: float = 0.0) -> None:
        if step % self.task.refresh_every == 0 and self.pool.refresh(limit=None if step == 0 else 8) + (step == 0):
            self.by_length = TextLengths.of(self.pool.tensors["text_lengths"][: len(self.pool)])

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        data, text, mask, pooled = self.draw(generator)
        noise = torch.randn(data.shape, device=self.device, generator=generator)
        sigma = training_sigmas(len(data), self.task.shift, generator)
        clean = clean_frames(len(data), data.shape[2], self.task.clean_share, generator)
        noisy = torch.where(clean[:, None, :, None, None], data, interpolate(data, noise, sigma))
        with torch.autocast(data.device.type, torch.bfloat16):
            velocity = self.forward(noisy, 1000 * sigma, text, mask, pooled, given=clean)
        error = (velocity.float() - velocity_target(data, noise)).square().mean((1, 3, 4))
        each = (error * ~clean).sum(1) / (~clean).sum(1)
        return each.mean(), by_sigma(each, sigma)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Latents [B C t h w], text states [B L d], their mask or None, pooled vectors [B p].

        A compiled model sees texts padded to one length, and their mask; otherwise all texts of a batch have the same number
        of tokens, so that none is padding. A dropped text is the empty prompt's state, as often as the others have tokens.
        """
        tensors = self.pool.tensors
        rows, texts, length = self.by_length.draw(self.task.batch, generator, same=not self.task.compile)
        length = length or tensors["text"].shape[2]
        dropped = torch.rand(self.task.batch, device=self.device, generator=generator) < self.task.text_dropout
        text = torch.where(dropped[:, None, None], self.null["text"][:, :1], tensors["text"][rows, texts, :length])
        pooled = torch.where(dropped[:, None], self.null["pooled"], tensors["pooled"][rows, texts])
        real = torch.arange(length, device=self.device) < tensors["text_lengths"][rows, texts, None]
        return tensors[self.latents][rows].float(), text, real if self.task.compile else None, pooled

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write the averaged weights: dit.safetensors in bfloat16."""
        from safetensors.torch import save_file

        partial = folder / "dit.part"
        save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}, partial)
        partial.replace(folder / "dit.safetensors")


class TextLengths:
    """Which texts of a pool have how many tokens."""

    def __init__(self, order: Int[Tensor, "n"], starts: list[int], texts: int):
        self.order, self.starts, self.texts = order, starts, texts

    @classmethod
    def of(cls, lengths: Int[Tensor, "n k"]) -> "TextLengths":
        """lengths: tokens of each of the k texts of n samples."""
        order = lengths.flatten().argsort(stable=True)
        starts = torch.bincount(lengths.flatten()).cumsum(0).tolist()
        return cls(order, [0, *starts], lengths.shape[1])

    def draw(self, batch: int, generator: torch.Generator, same: bool) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"], int]:
        """Rows and texts: of one length, which comes up as often as it has texts, and that length; or of any, and 0."""
        device, low, high, length = self.order.device, 0, len(self.order), 0
        if same:
            length = bisect_right(self.starts, int(torch.randint(high, (), generator=generator, device=device))) - 1
            low, high = self.starts[length], self.starts[length + 1]
        chosen = self.order[torch.randint(low, high, (batch,), generator=generator, device=device)]
        return chosen // self.texts, chosen % self.texts, length


def clean_frames(batch: int, frames: int, share: float, generator: torch.Generator) -> Bool[Tensor, "B t"]:
    """Which latent frames a sample is given: none for most; else the first, the last, both, or the first half, equally often."""
    device = generator.device
    index = torch.arange(frames, device=device)
    first, last = index == 0, (index == frames - 1) & (index > 0)
    patterns = torch.stack([first, last, first | last, index < max(frames // 2, 1)])
    if frames == 1:
        return torch.zeros(batch, 1, dtype=torch.bool, device=device)
    pick = torch.randint(len(patterns), (batch,), device=device, generator=generator)
    given = torch.rand(batch, device=device, generator=generator) < share
    return patterns[pick] & given[:, None]


def by_sigma(loss: Float[Tensor, "B"], sigma: Float[Tensor, "B"]) -> dict[str, Tensor]:
    """The mean loss in each quarter of the noise range; NaN where a batch has no sample in it."""
    place = (sigma * SIGMA_BINS).long().clamp(max=SIGMA_BINS - 1)
    return {f"loss_{bin}": torch.where(place == bin, loss.detach(), torch.nan).nanmean() for bin in range(SIGMA_BINS)}
