"""Which clips there are, by bucket: what a loader draws from."""

import time
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from kinema.data.buckets import Bucket, batch_sizes
from kinema.data.order import Source, Stream
from kinema.data.store import DamagedShardError, Shard, Store
from kinema.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What to read, and in which proportions."""

    folders: tuple[Path, ...]  # as `kinema encode` writes them
    tokens: int  # M: the most that B·L may be, of all ranks together; L counts video tokens
    compute: float | None = None  # C: the most that B·L^exponent may be
    exponent: float = 1.0  # p, as `buckets.calibrate` fits it
    weights: tuple[float, ...] = ()  # of each folder: how often its clips come in an epoch; default: once
    image_share: float | None = None  # of the steps; None: as many as there are
    sides: tuple[int, ...] = ()  # only buckets of about side x side pixels; default: all
    frames: tuple[int, ...] = ()  # a clip serves each of these lengths that it has, by its beginning; default: its whole length
    sample: bool = True  # draw latents from the posterior; False reads only its mean
    references: bool = False  # give pictures of what the clips show too
    focus: bool = False  # tell too where their subjects are
    workers: int = 2  # threads
    ahead: int = 8  # batches read before they are asked for
    follow: float = 0.0  # above 0: the folders are still being written; wait so many seconds for the first clips, take in more as they come
    start_samples: int = 32  # clips to wait for, where folders are followed

    def __post_init__(self):
        if not self.folders or self.workers < 1 or self.ahead < 1 or self.tokens < 1:
            raise InputError(
                f"folders={self.folders}, tokens={self.tokens}, workers={self.workers}, ahead={self.ahead}: each needs 1 or more"
            )
        if self.weights and (len(self.weights) != len(self.folders) or min(self.weights) <= 0):
            raise InputError(f"weights={self.weights} must be {len(self.folders)} numbers above 0, one for each folder")
        if self.image_share is not None and not 0 <= self.image_share <= 1:
            raise InputError(f"image_share={self.image_share} must lie between 0 and 1")


class Index:
    """Where every clip of the given folders lies."""

    def __init__(self, config: LoaderConfig):
        """Raises InputError where a folder is not ours or folders do not go together, naming every shard that cannot be opened."""
        self.config, self.stores = config, [Store(folder) for folder in config.folders]
        refuse_mixture(self.stores)
        self.shards: list[tuple[int, Path]] = []  # folder and file
        self.first_rows: list[int] = []  # of each shard: the number of its first clip
        self.clips = 0
        self.length_parts: list[Int[np.ndarray, " k"]] = []
        self.sources: dict[tuple[Bucket, int], list[Int[np.ndarray, "three n"]]] = defaultdict(list)
        self.known: set[Path] = set()
        self.text_count = 0
        self.refresh()

    def refresh(self) -> int:
        """Take in shards that are new; returns how many clips came."""
        before, failed = self.clips, []
        for folder, store in enumerate(self.stores):
            for path in store.paths():
                if path in self.known:
                    continue
                try:
                    self.take(folder, path, store.checked(path))
                except DamagedShardError as error:
                    failed.append(str(error))
        if failed:
            raise DamagedShardError(f"{len(failed)} of {len(self.known) + len(failed)} shards cannot be read: " + "; ".join(failed))
        return self.clips - before

    def take(self, folder: int, path: Path, shard: Shard) -> None:
        rows = np.arange(len(shard.rows)) + self.clips
        self.sources[shard.bucket, folder].append(np.stack([rows, shard.texts, shard.first_text[:-1] + self.text_count]))
        self.first_rows.append(self.clips)
        self.clips += len(shard.rows)
        self.length_parts.append(shard.text_lengths)
        self.text_count += len(shard.text_lengths)
        self.shards.append((folder, path))
        self.known.add(path)

    def shard_of(self, row: int) -> tuple[Shard, int]:
        """The shard of a clip, and its row there."""
        number = bisect_right(self.first_rows, row) - 1
        folder, path = self.shards[number]
        return self.stores[folder].open(path), row - self.first_rows[number]

    def names(self) -> list[str]:
        """What is there, wherever the folders lie."""
        return [f"{folder}/{path.name}:{first}" for (folder, path), first in zip(self.shards, self.first_rows, strict=True)]

    def serves(self, stored: Bucket) -> list[Bucket]:
        """The buckets that clips of this size are used for."""
        if self.config.sides and not any(stored.is_near(side) for side in self.config.sides):
            return []
        lengths = [frames for frames in self.config.frames if frames <= stored.frames] if self.config.frames else [stored.frames]
        return [replace(stored, frames=frames) for frames in lengths]

    def streams(self) -> list[Stream]:
        """What is drawn from, bucket by bucket. Raises InputError where nothing is left to draw."""
        found: dict[Bucket, list[Source]] = defaultdict(list)
        lengths = np.concatenate([*self.length_parts, np.zeros(0, np.int64)])
        for (stored, folder), parts in self.sources.items():
            rows, texts, first_text = np.concatenate(parts, 1)
            weight = self.config.weights[folder] if self.config.weights else 1.0
            for bucket in self.serves(stored):
                found[bucket].append(Source(rows, texts, first_text, lengths, weight))
        if not found:
            held = ", ".join(sorted({str(bucket) for bucket, _ in self.sources})) or "nothing"
            raise InputError(f"no clip fits sides={self.config.sides}, frames={self.config.frames}: the folders hold {held}")
        sizes = batch_sizes(found, tokens=self.config.tokens, compute=self.config.compute, p=self.config.exponent)
        return [Stream(bucket, tuple(found[bucket]), sizes[bucket]) for bucket in sorted(found)]


def refuse_mixture(stores: list[Store]) -> None:
    for store in stores[1:]:
        if store.made_by.fingerprint != stores[0].made_by.fingerprint:
            raise InputError(f"{stores[0].folder} and {store.folder} were encoded by different models: encode one of them again")


def wait_for(config: LoaderConfig) -> Index:
    """The index, once a writer beside us has delivered enough. Raises InputError when nothing comes for `follow` seconds."""
    heard, count = time.monotonic(), 0
    while True:
        try:
            index, reason = Index(config), ""
            if index.clips >= config.start_samples:
                return index
            if index.clips > count:
                heard, count = time.monotonic(), index.clips
        except InputError as error:
            reason = f" ({error})"
        if time.monotonic() - heard > config.follow:
            wanted = f"{count} clips of {config.start_samples} in {', '.join(map(str, config.folders))}"
            raise InputError(f"{wanted}, and none came for {config.follow:.0f} s: is the writer running?{reason}")
        time.sleep(0.2)
