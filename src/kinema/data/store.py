"""The store of encoded clips: a folder of shards, each a safetensors file of clips of one bucket.

A column is a stack of items with a check sum for each, so that any run of them is read, and verified, by itself: latent frames
(`mean`, `logvar`), text tokens (`text`), pooled vectors (`pooled`). Files are mapped, not loaded: a row costs what is read of it.
A shard appears under its name when whole. `made_by.json` says what made the folder; a writer with other models is refused, and so
is a second writer. Why this store and not another: docs/data.md.
"""

import fcntl
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinema.data.buckets import Bucket
from kinema.errors import InputError
from kinema.media.files import whole_file
from kinema.version import __version__

FORMAT = 1  # raised whenever a folder written before must not be continued
SHARDS = "[0-9]*x*x*-*.safetensors"
CARD, NULL, LOCK = "made_by.json", "null.safetensors", ".writer"
COLUMNS = ("mean", "logvar", "text", "pooled")
SHOWN, FOCUS = "reference", "focus"  # columns of the shards in which any clip has them; zeros where one has none
OPEN_SHARDS = 512  # mapped at a time; Linux allows a process 65,530 maps


class DamagedShardError(InputError):
    """A shard that is cut short, altered, or gone."""


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """What made a folder's numbers."""

    vae: str  # hash of its weights
    text_encoder: str  # hash of its weights
    template: str  # around each prompt
    text_len: int  # longest text, tokens
    format: int = FORMAT
    version: str = __version__  # for people: another one may go on with the folder

    @property
    def fingerprint(self) -> str:
        """Equal where latents and texts may be mixed."""
        facts = {name: value for name, value in asdict(self).items() if name != "version"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def read(cls, folder: Path) -> "MadeBy":
        """Raises InputError where the folder was not written by `kinema encode`."""
        try:
            return cls(**json.loads((folder / CARD).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{folder} holds no encoded clips ({CARD}: {error}): write them with `kinema encode --out {folder}`"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One encoded clip, as it is written."""

    id: str
    bucket: Bucket
    mean: Float[Tensor, "C t h w"]  # at the scale that the DiT sees
    logvar: Float[Tensor, "C t h w"]
    text: list[Float[Tensor, "_ d"]]  # states of each text, as long as it is
    pooled: Float[Tensor, "k p"]
    facts: dict[str, Any]  # caption texts, fps, size before encoding, source
    reference: Float[Tensor, "C one h w"] | None = None  # a picture of what it shows, at the same scale
    focus: Float[Tensor, "t h w"] | None = None  # the share of each cell that its subjects cover


def check_sums(items: Tensor) -> Int[Tensor, " n"]:
    """The sum of each item's 16-bit words: any one altered bit changes it, and it costs no more than reading."""
    return items.contiguous().view(torch.int16).flatten(1).sum(1, dtype=torch.int64)


def pack(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The columns of a shard."""
    columns = {
        "mean": torch.cat([sample.mean.half().movedim(1, 0) for sample in samples]),
        "logvar": torch.cat([sample.logvar.half().movedim(1, 0) for sample in samples]),
        "text": torch.cat([states.bfloat16() for sample in samples for states in sample.text]),
        "pooled": torch.cat([sample.pooled.bfloat16() for sample in samples]),
    }
    columns |= some_have(SHOWN, [sample.reference for sample in samples], samples[0].mean[:, :1])
    columns |= some_have(FOCUS, [sample.focus for sample in samples], samples[0].mean[0])
    columns = {name: column.contiguous().cpu() for name, column in columns.items()}
    checks = {f"check_{name}": check_sums(column) for name, column in columns.items()}
    texts = torch.tensor([len(sample.text) for sample in samples])
    lengths = torch.tensor([len(states) for sample in samples for states in sample.text])
    return {**columns, **checks, "texts": texts, "text_lengths": lengths}


def some_have(name: str, values: Sequence[Tensor | None], like: Tensor) -> dict[str, Tensor]:
    """A column of what some samples have, with zeros for the others; none where nobody has it."""
    if all(value is None for value in values):
        return {}
    return {name: torch.stack([(torch.zeros_like(like) if value is None else value).half() for value in values])}


class Shard:
    """One file, mapped."""

    def __init__(self, path: Path):
        """Raises DamagedShardError where the file is gone, cut short or something else."""
        self.path = path
        try:
            with safe_open(path, "pt") as file:
                self.columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
            self.rows: list[dict[str, Any]] = json.loads(metadata["rows"])
            self.bucket, self.fingerprint = Bucket.parse(metadata["bucket"]), metadata["fingerprint"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise damaged(path, str(error)) from error
        self.texts, self.text_lengths = self.columns["texts"].numpy(), self.columns["text_lengths"].numpy()
        self.first_text = np.concatenate([[0], self.texts.cumsum()])
        self.first_token = np.concatenate([[0], self.text_lengths.cumsum()])

    def read(self, column: str, start: int, stop: int) -> Tensor:
        """Items of a column. Raises DamagedShardError where they are not what was written."""
        items = self.columns[column][start:stop]
        if not torch.equal(check_sums(items), self.columns[f"check_{column}"][start:stop]):
            raise damaged(self.path, f"{column} is not what was written")
        return items

    def latents(self, column: str, row: int, frames: int) -> Float[Tensor, "t C h w"]:
        """The first latent frames of a row's `mean` or `logvar`."""
        start = row * self.bucket.latent.t
        return self.read(column, start, start + frames)

    def reference(self, row: int) -> Float[Tensor, "C one h w"] | None:
        """The picture of what a row shows; zeros, or None, where it has none."""
        return self.read(SHOWN, row, row + 1)[0] if SHOWN in self.columns else None

    def focus(self, row: int, frames: int) -> Float[Tensor, "t h w"] | None:
        """The share of each cell of the first latent frames that a row's subjects cover; zeros, or None, where nothing is known of them."""
        return self.read(FOCUS, row, row + 1)[0, :frames] if FOCUS in self.columns else None

    def text(self, row: int, text: int) -> tuple[Float[Tensor, "L d"], Float[Tensor, " p"]]:
        """States and pooled vector of one text of a row."""
        place = int(self.first_text[row]) + text
        states = self.read("text", int(self.first_token[place]), int(self.first_token[place + 1]))
        return states, self.read("pooled", place, place + 1)[0]


def damaged(path: Path, what: str) -> DamagedShardError:
    return DamagedShardError(f"{path} is damaged ({what}): delete it and run `kinema encode` again, which makes only what is missing")


class Store:
    """A folder of shards, for reading. Raises InputError where it holds none of ours."""

    def __init__(self, folder: Path):
        self.folder, self.made_by = folder, MadeBy.read(folder)
        self.open = lru_cache(OPEN_SHARDS)(Shard)

    def paths(self) -> list[Path]:
        """Its shards, in an order that only their names decide."""
        return sorted(self.folder.glob(SHARDS))

    def checked(self, path: Path) -> Shard:
        """One shard, of the folder's own making. Raises DamagedShardError, or InputError where it came from elsewhere."""
        shard = self.open(path)
        if shard.fingerprint != self.made_by.fingerprint:
            raise InputError(f"{path} was encoded by other models than {self.folder / CARD} says: keep it in a folder of its own")
        return shard

    def rows(self) -> Iterator[dict[str, Any]]:
        """What is known of each clip, without its tensors."""
        for path in self.paths():
            yield from self.checked(path).rows

    @property
    def null(self) -> tuple[Float[Tensor, "one L d"], Float[Tensor, " p"]]:
        """States and pooled vector of the empty prompt."""
        try:
            with safe_open(self.folder / NULL, "pt") as file:
                return file.get_tensor("text").clone(), file.get_tensor("pooled").clone()
        except (OSError, SafetensorError) as error:
            raise damaged(self.folder / NULL, str(error)) from error


class StoreWriter:
    """Gathers samples bucket by bucket and writes a shard whenever one is full.

    Raises InputError where the folder was made by other models, or another process writes there.
    """

    def __init__(self, folder: Path, made_by: MadeBy, per_shard: int = 32):
        self.folder, self.made_by, self.per_shard = folder, made_by, per_shard
        self.waiting: dict[Bucket, list[Sample]] = defaultdict(list)

    def __enter__(self) -> "StoreWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.folder / LOCK).open("a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.claim()
        except BlockingIOError as error:
            self.lock.close()
            raise InputError(f"another process is writing to {self.folder}: wait for it, or give another --out") from error
        except BaseException:
            self.lock.close()
            raise
        self.ids = {row["id"] for row in Store(self.folder).rows()}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or not issubclass(kind, Exception):  # interrupted: what is ready is kept
                self.flush()
        finally:
            self.lock.close()

    def claim(self) -> None:
        """Write the card, or hold it against ours."""
        if not (self.folder / CARD).exists():
            write_text(self.folder / CARD, json.dumps(asdict(self.made_by), indent=1))
        found = MadeBy.read(self.folder)
        if found.fingerprint != self.made_by.fingerprint:
            ours = asdict(self.made_by)
            differ = [f"{name}={value!r} there, {ours[name]!r} here" for name, value in asdict(found).items() if value != ours[name]]
            raise InputError(f"{self.folder} was encoded differently ({'; '.join(differ)}): give another --out")

    def write_null(self, text: Float[Tensor, "one L d"], pooled: Float[Tensor, " p"]) -> None:
        """The states of the empty prompt, which text dropout puts in place of a caption's."""
        with whole_file(self.folder / NULL) as draft:
            save_file({"text": text.bfloat16().cpu().contiguous(), "pooled": pooled.bfloat16().cpu().contiguous()}, draft)

    def add(self, sample: Sample) -> None:
        """Take in one clip; a full shard is written at once."""
        self.waiting[sample.bucket].append(sample)
        self.ids.add(sample.id)
        if len(self.waiting[sample.bucket]) >= self.per_shard:
            self.write(sample.bucket)

    def flush(self) -> None:
        """Write what waits, full or not."""
        for bucket in [bucket for bucket, samples in self.waiting.items() if samples]:
            self.write(bucket)

    def write(self, bucket: Bucket) -> None:
        samples = self.waiting.pop(bucket)
        rows = [{"id": sample.id, **sample.facts} for sample in samples]
        metadata = {"bucket": str(bucket), "fingerprint": self.made_by.fingerprint, "rows": json.dumps(rows, ensure_ascii=False)}
        with whole_file(self.next_path(bucket)) as draft:
            save_file(pack(samples), draft, metadata=metadata)

    def next_path(self, bucket: Bucket) -> Path:
        taken = [int(path.stem.rpartition("-")[2]) for path in self.folder.glob(f"{bucket}-*.safetensors")]
        return self.folder / f"{bucket}-{max(taken, default=-1) + 1:06d}.safetensors"


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
