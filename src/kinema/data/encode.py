"""Clips into what the DiT trains on: posteriors of latents and states of texts, in a store.

Encoding may run beside rendering and training: it follows the folder of clips, and the loader follows the store. A clip that cannot
be read is skipped, counted and named; a run that was killed goes on with what is missing.
"""

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.data.buckets import Bucket, assign, bucket_grid, fitting_length
from kinema.data.clips import Clip, Clips, View
from kinema.data.focus import focus_of
from kinema.data.store import MadeBy, Sample, StoreWriter
from kinema.errors import InputError
from kinema.media.video import VideoInfo
from kinema.shapes import SIZE_STEP
from kinema.text.encoder import TextEncoder
from kinema.vae.model import CausalVAE

OnClip = Callable[[int, int], None]
States = tuple[Float[Tensor, "L d"], Float[Tensor, " p"]]
KNOWN_TEXTS = 4096  # 6 KB for a name, 40 KB for a sentence
SETTLE = 5.0  # seconds that a file must have been left alone, where a folder is followed


@dataclass(frozen=True, kw_only=True)
class EncodeJob:
    """Which clips to encode, and at which sizes."""

    clips: Path
    out: Path
    tier: str = "256p"  # of a curated dataset, which clips: those that reached it
    sides: tuple[int, ...] = ()  # a clip is encoded once at each; default: its own size
    frames: tuple[int, ...] = ()  # lengths of buckets; default: each clip's own
    fps: float | None = None  # frames a second to thin clips to; None: all frames
    windows: int = 1  # pieces of a clip that is longer than its bucket, spread evenly
    consume: bool = False  # delete a rendered shard once it is encoded
    follow_seconds: float = 0.0  # wait this long for further clips before ending
    batch: int = 16
    per_shard: int = 32

    def __post_init__(self):
        if min(self.batch, self.per_shard, self.windows) < 1 or (self.fps is not None and self.fps <= 0):
            raise InputError(f"batch={self.batch}, per_shard={self.per_shard}, windows={self.windows}, fps={self.fps}: all must be above 0")


@dataclass(frozen=True)
class Piece:
    """What is to be encoded of a clip."""

    clip: Clip
    info: VideoInfo
    bucket: Bucket
    start: int  # frame
    stride: int  # frames
    focus: Float[Tensor, "t h w"] | None = None  # the share of each latent cell that subjects cover

    @property
    def id(self) -> str:
        return f"{self.clip.id}@{self.start}/{self.bucket}"

    @property
    def view(self) -> View:
        return View(self.start, self.bucket.frames, self.stride, (self.bucket.height, self.bucket.width))

    @property
    def facts(self) -> dict[str, Any]:
        """What the store keeps about it."""
        size = {"frames": self.info.frames, "height": self.info.height, "width": self.info.width, "fps": self.info.fps / self.stride}
        return {"clip": self.clip.id, "source": self.clip.source, "texts": list(self.clip.texts), "start": self.start, **size}


def stride_of(info: VideoInfo, fps: float | None) -> int:
    """Every how many frames of a clip are used, so that there are about `fps` a second."""
    return max(1, round(info.fps / fps)) if fps and info.frames > 1 else 1


def best_buckets(sides: tuple[int, ...], lengths: tuple[int, ...], frames: int, height: int, width: int) -> list[Bucket]:
    """The best bucket of each side that is not too large; without sides, the clip's own size cut to what the models take."""
    lengths = lengths or (fitting_length(frames),)
    if sides:
        found = [assign(bucket_grid([side], lengths), frames, height, width) for side in sides]
    else:
        whole = [max(side // SIZE_STEP, 1) * SIZE_STEP for side in (height, width)]
        found = [assign([Bucket(length, *whole) for length in lengths], frames, height, width)]
    return list(dict.fromkeys(bucket for bucket in found if bucket is not None))


def pieces_of(job: EncodeJob, clip: Clip) -> list[Piece]:
    """Raises InputError where the clip cannot be read, or is too small for every bucket."""
    info = clip.probe()
    stride = stride_of(info, job.fps)
    frames = -(-info.frames // stride)
    buckets = best_buckets(job.sides, job.frames, frames, info.height, info.width)
    if not buckets:
        wanted = f"sides={job.sides}, frames={job.frames}"
        raise InputError(f"{clip.id} has {frames} frames of {info.height}x{info.width} pixels, too small for {wanted}")
    return [Piece(clip, info, bucket, start * stride, stride) for bucket in buckets for start in starts(frames, bucket.frames, job.windows)]


def starts(frames: int, length: int, windows: int) -> list[int]:
    """Where the pieces of a clip begin: one in the middle, or several that do not overlap, spread evenly."""
    count = min(windows, frames // length)
    return [round((2 * number + 1) * frames / (2 * count) - length / 2) for number in range(count)]


def weights_of(part: object) -> dict[str, Tensor]:
    """The tensors that a model, or an object made of models, computes with."""
    if isinstance(part, nn.Module):
        return part.state_dict()
    if isinstance(part, Tensor):
        return {"": part}
    inner = getattr(part, "__dict__", {})
    return {f"{name}.{key}": tensor for name, value in inner.items() for key, tensor in weights_of(value).items()}


def hash_of(part: object) -> str:
    """A short hash of weights, as bfloat16: the same on every device and in every dtype that they are loaded in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights_of(part).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().data)
    return digest.hexdigest()[:16]


@dataclass
class Encoder:
    """The models that turn pieces into samples."""

    vae: CausalVAE
    text: TextEncoder
    made_by: MadeBy = field(init=False)
    known: dict[str, States] = field(default_factory=dict)  # of the last KNOWN_TEXTS texts: names of things come again and again

    def __post_init__(self):
        config = self.text.config
        self.made_by = MadeBy(vae=hash_of(self.vae), text_encoder=hash_of(self.text), template=config.template, text_len=config.text_len)

    @torch.inference_mode()
    def posterior(self, pixels: Float[Tensor, "B 3 T H W"]) -> tuple[Float[Tensor, "B C t h w"], Float[Tensor, "B C t h w"]]:
        """Mean and log-variance of latents, at the scale that the DiT sees; pixels in [-1, 1]."""
        like = next(self.vae.parameters())
        found = self.vae.encode(pixels.to(like.device, like.dtype, memory_format=torch.channels_last_3d))
        scale = self.vae.config.scaling_factor
        return found.mean.float() * scale, found.logvar.float() + 2 * math.log(scale)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> list[States]:
        """States of each text without padding, and its pooled vector."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        found = self.text.encode(new) if new else None
        if found:
            each = zip(new, found.states, found.mask, found.pooled, strict=True)
            self.known |= {text: (states[: int(mask.sum())].clone(), pooled.clone()) for text, states, mask, pooled in each}
        answer = [self.known[text] for text in texts]
        for text in list(self.known)[: max(len(self.known) - KNOWN_TEXTS, 0)]:
            del self.known[text]
        return answer

    def references(self, pieces: Sequence[Piece]) -> dict[int, Float[Tensor, "C one h w"]]:
        """Latents of the pictures that show what the pieces do, by the pieces' places, where they have one."""
        shown = {number: picture for number, piece in enumerate(pieces) if (picture := piece.clip.reference(piece.view.size)) is not None}
        if not shown:
            return {}
        latents, _ = self.posterior(torch.stack(list(shown.values())))
        return dict(zip(shown, latents.half().cpu(), strict=True))

    def samples(self, pieces: Sequence[Piece], pixels: Float[Tensor, "B 3 T H W"]) -> Iterator[Sample]:
        """Raises InputError where the VAE gives numbers that are not finite in half precision."""
        mean, logvar = (each.half().cpu() for each in self.posterior(pixels))
        references = self.references(pieces)
        states = iter(self.texts([text for piece in pieces for text in piece.clip.texts]))
        for number, piece in enumerate(pieces):
            text, pooled = zip(*(next(states) for _ in piece.clip.texts), strict=True)
            yield Sample(
                id=piece.id,
                bucket=piece.bucket,
                mean=mean[number],
                logvar=logvar[number],
                text=list(text),
                pooled=torch.stack(pooled),
                facts=piece.facts,
                reference=references.get(number),
                focus=piece.focus,
            )


@dataclass
class Report:
    """What came of a job."""

    written: dict[Bucket, int] = field(default_factory=lambda: defaultdict(int))
    there: int = 0  # pieces that an earlier run had written
    failed: list[str] = field(default_factory=list)  # what could not be encoded, and why


class EncodeRun:
    """One run of a job: it reads pieces, gathers batches of one bucket, and writes samples."""

    def __init__(self, job: EncodeJob, encoder: Encoder, writer: StoreWriter, on_clip: OnClip):
        self.job, self.encoder, self.writer, self.on_clip = job, encoder, writer, on_clip
        self.report = Report()
        self.waiting: dict[Bucket, list[tuple[Piece, Tensor]]] = defaultdict(list)

    def take(self, clip: Clip) -> None:
        """Read a clip's missing pieces; a full batch is encoded."""
        try:
            for piece in pieces_of(self.job, clip):
                if piece.id in self.writer.ids:
                    self.report.there += 1
                    continue
                focused = replace(piece, focus=focus_of(clip, piece.info, piece.view))
                self.waiting[piece.bucket].append((focused, clip.read(piece.view)))
                if len(self.waiting[piece.bucket]) >= self.job.batch:
                    self.encode(piece.bucket)
        except InputError as error:
            self.report.failed.append(str(error))

    def encode(self, bucket: Bucket) -> None:
        pieces, pixels = zip(*self.waiting.pop(bucket), strict=True)
        for sample in self.encoder.samples(pieces, torch.stack(pixels)):
            if not (sample.mean.isfinite().all() and sample.logvar.isfinite().all()):
                self.report.failed.append(f"{sample.id}: the VAE gave numbers that are not finite")
                continue
            self.writer.add(sample)
            self.report.written[bucket] += 1

    def flush(self) -> None:
        for bucket in list(self.waiting):
            self.encode(bucket)

    def sweep(self, clips: Clips) -> bool:
        """Encode what is new; returns whether anything was."""
        came = False
        for group in clips.fresh():
            came = True
            self.report.failed += map(str, group.failed)
            for number, clip in enumerate(group.clips, start=1):
                self.take(clip)
                self.on_clip(number, len(group.clips))
            self.finish(group.path)
        return came

    def finish(self, path: Path | None) -> None:
        """A rendered shard is written as soon as it is encoded, so that it can be trained on, and deleted."""
        self.flush()
        if path is not None:
            self.writer.flush()
        if path is not None and self.job.consume:
            path.unlink(missing_ok=True)


def encode_folder(job: EncodeJob, encoder: Encoder, on_clip: OnClip = lambda done, total: None) -> Report:
    """Encode every clip that the store does not hold yet.

    Raises InputError where `job.out` was made by other models, or another process writes there.
    """
    if job.follow_seconds:
        job.clips.mkdir(parents=True, exist_ok=True)  # its writer may not have begun
    clips = Clips(job.clips, settle=min(SETTLE, job.follow_seconds / 2), tier=job.tier)
    with StoreWriter(job.out, encoder.made_by, job.per_shard) as writer:
        text, pooled = encoder.texts([""])[0]
        writer.write_null(text[None], pooled)
        run, heard = EncodeRun(job, encoder, writer, on_clip), time.monotonic()
        while True:
            if run.sweep(clips):
                heard = time.monotonic()
            if time.monotonic() - heard >= job.follow_seconds:
                break
            time.sleep(0.5)
        clips.settle = 0.0  # what was left for later
        run.sweep(clips)
    return run.report
