"""Batches straight from videos: decoded, cut and resized as they are needed, so that every epoch sees other crops and moments.

`PixelLoader` gives pixels, as a VAE trains on. `RawLoader` encodes them with a VAE and a text encoder and gives the same batches as
`loader.Loader`; that costs an encoding a step, where a store costs a read. Order, ranks and resuming are the loader's (`feed.py`).
"""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinema.data.buckets import Bucket, batch_sizes
from kinema.data.clips import Clip, Clips, View
from kinema.data.encode import Encoder, best_buckets, stride_of
from kinema.data.feed import Feed, noise_of
from kinema.data.loader import Batch, batch_texts
from kinema.data.order import Pick, Source, Stream, generator
from kinema.errors import InputError
from kinema.media.video import VideoInfo


@dataclass(frozen=True, kw_only=True)
class RawConfig:
    """What to decode, and how to vary it."""

    folders: tuple[Path, ...]  # rendered shards, or videos and pictures with captions
    tokens: int  # M: the most that B·L may be, of all ranks together
    compute: float | None = None  # C: the most that B·L^exponent may be
    exponent: float = 1.0  # p
    weights: tuple[float, ...] = ()  # of each folder: how often its clips come in an epoch; default: once
    image_share: float | None = None  # of the steps; None: as many as there are
    sides: tuple[int, ...] = ()  # a clip serves a bucket of about each of these; default: its own size
    frames: tuple[int, ...] = ()  # lengths of buckets; default: each clip's own
    fps: float | None = None  # frames a second to thin clips to; None: all frames
    vary: bool = True  # random moment and crop; False: the middle
    mirror: bool = False  # turn half of the clips round; only where captions name no left and right
    workers: int = 2  # threads
    ahead: int = 4  # batches read before they are asked for

    def __post_init__(self):
        if not self.folders or self.workers < 1 or self.ahead < 1 or self.tokens < 1:
            raise InputError(
                f"folders={self.folders}, tokens={self.tokens}, workers={self.workers}, ahead={self.ahead}: each needs 1 or more"
            )
        if self.weights and (len(self.weights) != len(self.folders) or min(self.weights) <= 0):
            raise InputError(f"weights={self.weights} must be {len(self.folders)} numbers above 0, one for each folder")


@dataclass(frozen=True)
class PixelBatch:
    """One rank's slice of a step's global batch."""

    pixels: Float[Tensor, "B 3 T H W"]  # in [-1, 1]
    texts: list[str]  # of the whole global batch, as every rank needs their lengths
    first: int  # where this rank's slice begins in it
    ids: list[str]
    bucket: Bucket
    step: int
    total: int  # samples of the global batch


@dataclass(frozen=True)
class Found:
    """A clip that can be read."""

    clip: Clip
    info: VideoInfo
    folder: int


class PixelLoader(Feed[PixelBatch]):
    """One rank's batches of pixels."""

    def __init__(self, config: RawConfig, seed: int, rank: int = 0, ranks: int = 1):
        """Raises InputError where there is nothing to read; clips that cannot be read are counted in `damaged`."""
        self.config = config
        self.found, failed = find(config)
        super().__init__(seed, rank, ranks, config.workers, config.ahead, config.image_share)
        self.damaged, self.known_damage = failed, len(failed)

    def streams(self) -> list[Stream]:
        rows: dict[tuple[Bucket, int], list[int]] = defaultdict(list)
        for number, found in enumerate(self.found):
            frames = -(-found.info.frames // stride_of(found.info, self.config.fps))
            for bucket in best_buckets(self.config.sides, self.config.frames, frames, found.info.height, found.info.width):
                rows[bucket, found.folder].append(number)
        if not rows:
            raise InputError(f"no clip in {self.config.folders} fits sides={self.config.sides}, frames={self.config.frames}")
        sources: dict[Bucket, list[Source]] = defaultdict(list)
        for (bucket, folder), numbers in rows.items():
            sources[bucket].append(self.source(numbers, folder))
        sizes = batch_sizes(sources, tokens=self.config.tokens, compute=self.config.compute, p=self.config.exponent)
        return [Stream(bucket, tuple(sources[bucket]), sizes[bucket]) for bucket in sorted(sources)]

    def source(self, numbers: list[int], folder: int) -> Source:
        """A text's words stand for its tokens: they serve to put texts of like length together."""
        texts = [self.found[number].clip.texts for number in numbers]
        counts = np.array([len(each) for each in texts])
        words = np.array([len(text.split()) for each in texts for text in each])
        weight = self.config.weights[folder] if self.config.weights else 1.0
        return Source(np.array(numbers), counts, counts.cumsum() - counts, words, weight)

    def names(self) -> list[str]:
        return [f"{found.folder}/{found.clip.id}" for found in self.found]

    def next(self) -> PixelBatch:
        """The next step's batch. Raises TooManyDamagedError where too many clips cannot be read."""
        return self.take()

    def read(self, pick: Pick) -> PixelBatch:
        places = self.slice_of(pick)
        rows = [self.attempt(pick, place, lambda row, _, place=place: self.pixels(pick, row, place)) for place in places]  # type: ignore[misc]
        texts = [self.found[row].clip.texts[text] for row, text in zip(pick.rows, pick.texts, strict=True)]
        for place, (row, _) in zip(places, rows, strict=True):
            if row != pick.rows[place]:  # a replacement brings its own text
                texts[place] = self.found[row].clip.texts[0]
        ids = [self.found[row].clip.id for row, _ in rows]
        return PixelBatch(torch.stack([pixels for _, pixels in rows]), texts, places.start, ids, pick.bucket, pick.step, len(pick.rows))

    def pixels(self, pick: Pick, row: int, place: int) -> tuple[int, Float[Tensor, "3 T H W"]]:
        """The row, and a piece of it: another one each time, unless the config says otherwise."""
        found, bucket = self.found[row], pick.bucket
        chance = generator(self.order.seed, pick.step, place).random(4) if self.config.vary else np.full(4, 0.5)
        stride = stride_of(found.info, self.config.fps)
        start = int(chance[0] * (found.info.frames - (bucket.frames - 1) * stride))
        view = View(start, bucket.frames, stride, (bucket.height, bucket.width), (float(chance[1]), float(chance[2])))
        pixels = found.clip.read(view)
        return row, pixels.flip(-1) if self.config.mirror and chance[3] > 0.5 else pixels


def find(config: RawConfig) -> tuple[list[Found], list[str]]:
    """Every clip that can be opened, and why others cannot."""
    found: list[Found] = []
    failed: list[str] = []
    with ThreadPoolExecutor(config.workers) as threads:
        for folder, path in enumerate(config.folders):
            for group in Clips(path).fresh():
                failed += map(str, group.failed)
                for clip, info in zip(group.clips, threads.map(probe_or_say, group.clips), strict=True):
                    if isinstance(info, str):
                        failed.append(info)
                    else:
                        found.append(Found(clip, info, folder))
    return found, failed


def probe_or_say(clip: Clip) -> VideoInfo | str:
    try:
        return clip.probe()
    except InputError as error:
        return str(error)


class RawLoader:
    """One rank's batches, encoded as they come; the same interface as `Loader`."""

    def __init__(self, config: RawConfig, encoder: Encoder, seed: int, rank: int = 0, ranks: int = 1, device: torch.device | str = "cpu"):
        """encoder: its models lie on `device`. Raises InputError as `PixelLoader`."""
        self.encoder, self.device = encoder, torch.device(device)
        self.pixels = PixelLoader(config, seed, rank, ranks)
        self.plan, self.close = self.pixels.plan, self.pixels.close
        self.state_dict, self.load_state_dict = self.pixels.state_dict, self.pixels.load_state_dict

    @property
    def consumed(self) -> int:
        """Steps."""
        return self.pixels.consumed

    @property
    def damaged(self) -> list[str]:
        """What could not be read, in words."""
        return self.pixels.damaged

    @property
    def null(self) -> tuple[Float[Tensor, "one L d"], Float[Tensor, " p"]]:
        """States and pooled vector of the empty prompt."""
        text, pooled = self.encoder.texts([""])[0]
        return text[None], pooled

    def next(self) -> Batch:
        """The next step's batch. Raises TooManyDamagedError where too many clips cannot be read."""
        raw = self.pixels.next()
        text, mask, pooled = self.texts(raw)
        return Batch(self.latents(raw), text, mask, pooled, raw.ids, raw.bucket, raw.total).to(self.device)

    def latents(self, raw: PixelBatch) -> Float[Tensor, "B C t h w"]:
        mean, logvar = self.encoder.posterior(raw.pixels)
        noise = [noise_of(tuple(mean.shape[1:]), self.pixels.order.seed, raw.step, raw.first + place) for place in range(len(mean))]
        return mean + (0.5 * logvar).exp() * torch.stack(noise).to(mean.device)

    def texts(self, raw: PixelBatch) -> tuple[Any, Any, Any]:
        """States, mask and pooled vectors of this rank's slice; all texts of the step are read, as they share one length."""
        states, pooled = zip(*self.encoder.texts(raw.texts), strict=True)
        lengths = {len(each) for each in states}
        mine = slice(raw.first, raw.first + len(raw.ids))
        text, mask = batch_texts([each.cpu() for each in states[mine]], max(lengths), even=len(lengths) == 1)
        return text, mask, torch.stack(pooled[mine])
