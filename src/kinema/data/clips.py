"""Where clips come from: rendered shards, or a folder of videos and pictures with their captions.

A clip says what it is before it is decoded, and reads itself. To take clips from elsewhere (a table of paths and captions), write one
more function that returns them.
"""

import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor

from kinema.data.shards import follow, read_shard
from kinema.errors import InputError
from kinema.media.frames import from_uint8, resize, shown_whole
from kinema.media.image import read_image
from kinema.media.video import VideoInfo, opened, probe

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
REFERENCE, BOXES = ".reference.png", ".boxes.json"
CURATED = "tiers.parquet"
TABLES = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")
PATH_KEYS = ("file_name", "file", "path", "video", "image")
TEXT_KEYS = ("texts", "caption", "text", "prompt", "dense", "short")


@dataclass(frozen=True)
class View:
    """Which part of a clip to read, and at which size."""

    start: int  # frame
    frames: int  # T
    stride: int  # frames from one to the next
    size: tuple[int, int]  # H and W: the clip is resized until it covers them
    crop: tuple[float, float] = (0.5, 0.5)  # where to cut what stands over: 0 keeps top and left, 1 bottom and right

    def placed(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """A frame's height and width once resized, and the row and column at which it is cut."""
        scale = max(self.size[0] / height, self.size[1] / width)
        tall, wide = max(round(height * scale), self.size[0]), max(round(width * scale), self.size[1])
        return (tall, wide), (round(self.crop[0] * (tall - self.size[0])), round(self.crop[1] * (wide - self.size[1])))


@runtime_checkable
class Clip(Protocol):
    """A clip, or a picture as a clip of one frame."""

    @property
    def id(self) -> str:
        """No other clip has it."""

    @property
    def source(self) -> str:
        """Where it came from, for people."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Its captions."""

    def probe(self) -> VideoInfo:
        """Its size. Raises InputError where it cannot be read."""

    def read(self, view: View) -> Float[Tensor, "3 T H W"]:
        """Part of it; values in [-1, 1]. Raises InputError where it cannot be read, or ends too early."""

    def reference(self, size: tuple[int, int]) -> Float[Tensor, "3 1 H W"] | None:
        """A picture of what it shows, whole, at a size; in [-1, 1]. None where there is none."""

    def boxes(self) -> Float[Tensor, "N T 4"] | None:
        """Left, top, right, bottom of each subject in pixels of its frames. None where nothing is known of them."""


def fitted(frame: UInt8[Tensor, "h w 3"], view: View) -> Float[Tensor, "3 H W"]:
    """One frame at the view's size: its aspect stays, what stands over is cut off."""
    (height, width), ((tall, wide), (top, left)) = view.size, view.placed(*frame.shape[:2])
    pixels = rearrange(from_uint8(frame[None]), "C T H W -> T C H W")
    if (tall, wide) != tuple(frame.shape[:2]):
        pixels = resize(pixels, tall, wide).clamp(-1, 1)
    return pixels[0, :, top : top + height, left : left + width]


@dataclass(frozen=True)
class VideoFile:
    """A video on disk."""

    id: str
    source: str
    texts: tuple[str, ...]
    path: Path

    def probe(self) -> VideoInfo:
        return probe(self.path)

    def read(self, view: View) -> Float[Tensor, "3 T H W"]:
        with opened(self.path) as container:
            wanted = islice(container.decode(video=0), view.start, view.start + (view.frames - 1) * view.stride + 1, view.stride)
            found = [fitted(torch.from_numpy(frame.to_ndarray(format="rgb24")), view) for frame in wanted]
        if len(found) < view.frames:
            raise InputError(f"{self.path} ends early: {len(found)} of {view.frames} frames from {view.start} on could be decoded")
        return torch.stack(found, 1)

    def reference(self, size: tuple[int, int]) -> Float[Tensor, "3 1 H W"] | None:
        return reference_beside(self.path, size)

    def boxes(self) -> Float[Tensor, "N T 4"] | None:
        return boxes_beside(self.path)


@dataclass(frozen=True)
class PictureFile:
    """A picture on disk."""

    id: str
    source: str
    texts: tuple[str, ...]
    path: Path

    def probe(self) -> VideoInfo:
        height, width, _ = read_image(self.path).shape
        return VideoInfo(1, height, width, 1.0, self.path.suffix[1:])

    def read(self, view: View) -> Float[Tensor, "3 T H W"]:
        return fitted(read_image(self.path), view)[:, None]

    def reference(self, size: tuple[int, int]) -> Float[Tensor, "3 1 H W"] | None:
        return reference_beside(self.path, size)

    def boxes(self) -> Float[Tensor, "N T 4"] | None:
        return boxes_beside(self.path)


@dataclass(frozen=True)
class RenderedClip:
    """A clip of a rendered shard, which is mapped into memory."""

    id: str
    source: str
    texts: tuple[str, ...]
    frames: UInt8[Tensor, "T 3 H W"]
    fps: float
    shown: UInt8[Tensor, "3 H W"] | None = None  # its reference picture
    subjects: Float[Tensor, "N T 4"] | None = None  # their boxes

    def probe(self) -> VideoInfo:
        frames, _, height, width = self.frames.shape
        return VideoInfo(frames, height, width, self.fps, "raw")

    def read(self, view: View) -> Float[Tensor, "3 T H W"]:
        chosen = self.frames[view.start : view.start + (view.frames - 1) * view.stride + 1 : view.stride]
        return torch.stack([fitted(rearrange(frame, "C H W -> H W C"), view) for frame in chosen], 1)

    def reference(self, size: tuple[int, int]) -> Float[Tensor, "3 1 H W"] | None:
        return None if self.shown is None else from_uint8(shown_whole(rearrange(self.shown, "C H W -> H W C"), *size)[None])

    def boxes(self) -> Float[Tensor, "N T 4"] | None:
        return self.subjects


def rendered_clips(path: Path) -> list[Clip]:
    """The clips of one shard of `kinema world render`. Raises InputError where it is damaged."""
    try:
        tensors, rows = read_shard(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read {path} as a shard of clips: {error}") from error
    shown = tensors.get("references", [None] * len(rows))
    return [
        RenderedClip(
            row["id"],
            "world",
            tuple(row["texts"]),
            tensors["frames"][number],
            float(row["fps"]),
            shown[number],
            torch.tensor(row["boxes"]) if "boxes" in row else None,
        )
        for number, row in enumerate(rows)
    ]


def reference_beside(path: Path, size: tuple[int, int]) -> Float[Tensor, "3 1 H W"] | None:
    """The picture in clip.reference.png. Raises InputError where it cannot be read."""
    beside = path.with_suffix(REFERENCE)
    return from_uint8(shown_whole(read_image(beside), *size)[None]) if beside.is_file() else None


def boxes_beside(path: Path) -> Float[Tensor, "N T 4"] | None:
    """The boxes in clip.boxes.json: for each subject, for each frame, left, top, right, bottom. Raises InputError for anything else."""
    beside = path.with_suffix(BOXES)
    if not beside.is_file():
        return None
    try:
        found = torch.tensor(json.loads(beside.read_text(encoding="utf-8")), dtype=torch.float32)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read {beside}: {error}") from error
    if found.ndim != 3 or found.shape[2] != 4 or not found.isfinite().all():
        raise InputError(f"{beside} must hold, for each subject, for each frame, four numbers: left, top, right, bottom in pixels")
    return found


def folder_clips(folder: Path) -> list[Clip | InputError]:
    """Videos and pictures below a folder with their captions, ordered by name; an error in place of each that has none.

    A caption stands in a table in the folder (captions.jsonl or .csv, metadata.jsonl or .csv: a path and a text a row), or beside
    the file under its name: clip.txt, or clip.json with a caption, several `texts`, or a structured caption. clip.reference.png
    beside it is a picture of its subject, for models that take one; clip.boxes.json says where its subjects are, for `task.focus`.
    """
    table = captions_table(folder)
    files = {
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEOS + PICTURES and not path.name.startswith(".") and not path.name.endswith(REFERENCE)
    }
    return [clip_of(folder, path, table) for path in sorted(files | table.keys())]


def clip_of(folder: Path, path: Path, table: dict[Path, tuple[str, ...]]) -> Clip | InputError:
    try:
        texts = table.get(path) or texts_beside(path)
    except InputError as error:
        return error
    kind: type[PictureFile] | type[VideoFile] = PictureFile if path.suffix.lower() in PICTURES else VideoFile
    return kind(path.relative_to(folder).as_posix(), folder.name, texts, path)


def captions_table(folder: Path) -> dict[Path, tuple[str, ...]]:
    """Paths to texts, from the folder's tables. Raises InputError where one is not what its name says."""
    found: dict[Path, tuple[str, ...]] = {}
    for path in (folder / name for name in TABLES):
        if path.is_file():
            for row in rows_of(path):
                found[folder / named(row, PATH_KEYS, path)] = texts_of(row, path)
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def named(row: dict[str, Any], keys: Sequence[str], path: Path) -> Any:
    """The first of these keys that a row has."""
    for key in keys:
        if row.get(key):
            return row[key]
    raise InputError(f"{path}: a row has none of {', '.join(keys)}: {json.dumps(row, ensure_ascii=False)[:100]}")


def texts_of(row: dict[str, Any], path: Path) -> tuple[str, ...]:
    """One text or several; a structured caption gives its dense and its short one."""
    if "texts" not in row and row.get("dense") and row.get("short"):
        return row["dense"], row["short"]
    value = named(row, TEXT_KEYS, path)
    return (value,) if isinstance(value, str) else tuple(value)


def texts_beside(path: Path) -> tuple[str, ...]:
    """The texts in clip.txt or clip.json. Raises InputError where there is neither."""
    plain, structured = path.with_suffix(".txt"), path.with_suffix(".json")
    if structured.is_file():
        try:
            found = json.loads(structured.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"cannot read {structured}: {error}") from error
        return texts_of(found if isinstance(found, dict) else {"texts": found}, structured)
    if not plain.is_file() or not (text := plain.read_text(encoding="utf-8").strip()):
        raise InputError(f"{path} has no caption: put it into {plain.name} beside it, or a row into {TABLES[0]}")
    return (text,)


@dataclass(frozen=True)
class Group:
    """Clips that are handed on together."""

    clips: list[Clip]
    failed: list[InputError]
    path: Path | None = None  # the file that holds them all, if there is one


class Clips:
    """What a folder holds that has not been handed out yet; it may still be growing."""

    def __init__(self, folder: Path, settle: float = 0.0, tier: str = "256p"):
        """settle: files changed within so many seconds are left for later, as they may still be written. tier: of a curated dataset.

        Raises InputError where there is no such folder.
        """
        if not folder.is_dir():
            ways = "rendered shards, videos and their captions, or what `kinema curate` wrote"
            raise InputError(f"clips={folder} is no folder: give one with {ways}")
        self.folder, self.settle, self.tier = folder, settle, tier
        self.shards: set[Path] = set()
        self.files: set[str] = set()

    @property
    def rendered(self) -> bool:
        """Whether it holds shards of `kinema world render`."""
        return any(self.folder.glob("*.safetensors"))

    def fresh(self) -> Iterator[Group]:
        for path in follow(self.folder, self.shards):
            try:
                yield Group(rendered_clips(path), [], path)
            except InputError as error:
                yield Group([], [error])
        found = [clip for clip in self.listed() if name_of(clip) not in self.files and self.settled(clip)]
        self.files |= {name_of(clip) for clip in found}
        failed = [clip for clip in found if isinstance(clip, InputError)]
        if found:
            yield Group([clip for clip in found if not isinstance(clip, InputError)], failed)

    def listed(self) -> list[Clip | InputError]:
        """What there is besides shards: the tier of a dataset that `kinema curate` wrote, or all files."""
        if not (self.folder / CURATED).exists():
            return folder_clips(self.folder)
        from kinema.data.curated import curated_clips

        return curated_clips(self.folder, self.tier)

    def settled(self, clip: Clip | InputError) -> bool:
        """Whether it may be judged: a caption or a file that is missing may still come."""
        if not self.settle:
            return True
        path = getattr(clip, "path", None)
        return path is not None and path.exists() and time.time() - path.stat().st_mtime >= self.settle


def name_of(clip: Clip | InputError) -> str:
    return str(clip) if isinstance(clip, InputError) else clip.id
