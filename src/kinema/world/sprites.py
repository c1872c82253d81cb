"""The subjects of the world: 734 animated 3D emoji labelled by hand, and still ones named by their code points.

`build_pack` turns the published sets (`download.py`) once into a single file of about 55 MB; `SpritePack` reads it.
A pack is a zip with stored entries: `index.json` and one WebP atlas a subject (`atlas.py`).
"""

import json
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib import resources
from io import BytesIO
from os import cpu_count, getpid
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int, UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kinema.errors import InputError, MissingExtraError
from kinema.world.atlas import FPS, SIDE, decode_atlas, encode_atlas, read_animation
from kinema.world.download import ANIMATED, STILL, cache_dir, fetch

VERSION = 1  # of the pack's form and of its bytes; part of its file name
KEPT_DECODED = 48  # subjects whose frames stay in memory, 3.7 MB each


@dataclass(frozen=True)
class Subject:
    """One sprite and what is known of it; for still ones only its name is."""

    id: str  # its code points: "1f408" is the cat
    name: str  # Unicode's: "smiling face with horns"
    noun: str  # what a person would say: "horned face"
    also: tuple[str, ...] = ()
    look: str = ""
    colors: tuple[str, ...] = ()
    action: str = ""  # what the animation visibly shows, third person: "trots on the spot"
    facing: str = "none"  # front, left, right, up, down or none
    kind: str = "object"
    expression: str | None = None
    travel: str = "none"  # its natural way to move: walk, fly, drive, float ...
    places: tuple[str, ...] = ("any",)
    clear: bool = True  # reads at 64 pixels
    animated: bool = False

    @classmethod
    def from_json(cls, row: dict) -> "Subject":
        """Takes the fields it knows; lists become tuples."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if key in known}
        return cls(**values)


@dataclass(frozen=True)
class SpriteBank:
    """All frames of all subjects in one tensor, for rendering and training on the device that holds it."""

    frames: UInt8[Tensor, "M 4 S S"]  # colour premultiplied by alpha
    starts: Int[Tensor, " N"]  # subject n owns frames starts[n] : starts[n] + counts[n]
    counts: Int[Tensor, " N"]


class SpritePack:
    """A built pack, read whole (so that it survives fork and pickle) and decoded subject by subject."""

    def __init__(self, path: Path):
        self.path = path
        self._zip = zipfile.ZipFile(BytesIO(path.read_bytes()))
        rows = json.loads(self._zip.read("index.json"))["subjects"]
        self.subjects: tuple[Subject, ...] = tuple(Subject.from_json(row) for row in rows)
        self.frame_counts: tuple[int, ...] = tuple(row["frames"] for row in rows)
        self._places = {subject.id: index for index, subject in enumerate(self.subjects)}
        self._decoded = lru_cache(maxsize=KEPT_DECODED)(self._decode)

    @classmethod
    def open(cls, path: Path | str | None = None) -> "SpritePack":
        """The pack at `path`, by default where `build_pack` puts it.

        Raises InputError where there is none, or the file is not a pack of this version.
        """
        path = Path(path) if path else default_path()
        if not path.exists():
            raise InputError(f"no sprite pack at {path}: make it once with `kinema world build`")
        try:
            return cls(path)
        except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
            raise InputError(f"{path} is not a sprite pack ({error}): remove it and run `kinema world build`") from error

    def __reduce__(self):
        return SpritePack.open, (self.path,)

    @property
    def animated(self) -> tuple[Subject, ...]:
        """The labelled subjects, which come first: their index is the class that the recogniser predicts."""
        return tuple(subject for subject in self.subjects if subject.animated)

    def index(self, subject_id: str) -> int:
        """Where a subject stands in `subjects`; raises InputError for an unknown id."""
        if subject_id not in self._places:
            raise InputError(f"no subject {subject_id!r} in {self.path.name}: ids are code points such as '1f408' (cat)")
        return self._places[subject_id]

    def subject(self, subject_id: str) -> Subject:
        return self.subjects[self.index(subject_id)]

    def frames(self, subject_id: str) -> UInt8[Tensor, "F 4 S S"]:
        """RGBA with straight alpha, FPS frames a second, looping; one frame for a still subject. Do not write into it."""
        return self._decoded(self.index(subject_id))

    def all_frames(self, size: int = SIDE, device: torch.device | str = "cpu", animated_only: bool = True) -> SpriteBank:
        """Every frame at size x size on `device`, premultiplied: 2.7 GB at 160 pixels, 0.43 GB at 64."""
        chosen = range(len(self.animated) if animated_only else len(self.subjects))
        counts = torch.tensor([self.frame_counts[index] for index in chosen])
        starts = counts.cumsum(0) - counts
        bank = torch.empty(int(counts.sum()), 4, size, size, dtype=torch.uint8, device=device)

        def place(index: int, start: int) -> None:
            bank[start : start + self.frame_counts[index]] = premultiplied(self._decode(index).to(device), size)

        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(place, chosen, starts.tolist()))
        return SpriteBank(bank, starts.to(device), counts.to(device))

    def _decode(self, index: int) -> UInt8[Tensor, "F 4 S S"]:
        webp = self._zip.read(f"{self.subjects[index].id}.webp")
        frames = decode_atlas(webp, self.frame_counts[index])
        return torch.from_numpy(np.ascontiguousarray(rearrange(frames, "F h w C -> F C h w")))


def premultiplied(frames: UInt8[Tensor, "F 4 S S"], size: int) -> UInt8[Tensor, "F 4 s s"]:
    """Straight to premultiplied alpha, at size x size."""
    color, alpha = frames.float().split((3, 1), dim=1)
    scaled = torch.cat([color * alpha / 255, alpha], dim=1)
    if size != frames.shape[-1]:
        scaled = F.interpolate(scaled, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def default_path() -> Path:
    return cache_dir() / "world" / f"sprites-{VERSION}.kpack"


def labelled_subjects() -> list[Subject]:
    """The animated subjects, labelled by hand, in the order of `subjects.jsonl`."""
    text = resources.files("kinema.world").joinpath("subjects.jsonl").read_text(encoding="utf-8")
    return [Subject.from_json(json.loads(line) | {"animated": True}) for line in text.splitlines()]


# Still subjects: things that a person would name, as one code point. What means rather than shows is left out.
PICTURED = (range(0x1F300, 0x1F700), range(0x1F900, 0x1FB00))  # the blocks of drawn things
PICTURED_OLD = (0x260E, 0x2618, 0x2693, 0x2696, 0x2699, 0x26BD, 0x26BE, 0x26C4, 0x26D1, 0x26EA, 0x26F0, 0x26F1, 0x26F8, 0x26FA, 0x26FD,
                0x2702, 0x2709, 0x270F, 0x2328)  # fmt: skip
NOT_A_THING = re.compile(
    r"button|arrow|sign\b|symbol|flag|keycap|input|circle|square|diamond|triangle|Japanese|(speech|thought) balloon|(anger|speech) bubble|"
    r"emblem|\bno\b|non-potable|prohibited|track\b|speaker (low|medium)|chart|currency|dollar sign|phone off|vibration|antenna bars|"
    r"^om$|six-pointed|mark$|restroom| room$|closet|control$|customs|baggage|left luggage|worship|elevator|wireless|crossing|"
    r"litter|potable|^link$|ATM|foggy|night|sunrise|sunset|cityscape|park$|viewing ceremony|map of|person|man$|woman$|hand\b|pointing"
)


def is_still_subject(code: str, name: str) -> bool:
    """Whether a picture of the still set shows a thing. code: hexadecimal code points joined by '-'; name: Unicode's."""
    first, *rest = code.split("-")
    if rest not in ([], ["fe0f"]) or not re.fullmatch("[0-9a-f]{4,5}", first) or not name:
        return False
    drawn = any(int(first, 16) in block for block in (*PICTURED, PICTURED_OLD))
    return drawn and not NOT_A_THING.search(name)


def unicode_name(code: str) -> str:
    """ "1f34e" -> "red apple"; empty where Unicode has no name for it. Raises MissingExtraError without the `emoji` package."""
    try:
        import emoji
    except ImportError as error:
        raise MissingExtraError("emoji", "world") from error
    if not re.fullmatch(r"[0-9a-f]+(-[0-9a-f]+)*", code):
        return ""
    name = emoji.demojize("".join(chr(int(point, 16)) for point in code.split("-")))
    return name.strip(":").replace("_", " ").replace("’", "'") if name.startswith(":") else ""


def still_subject(code: str) -> Subject | None:
    """The subject that a file of the still set shows, or None where it is not a thing."""
    name = unicode_name(code)
    return Subject(id=code, name=name, noun=name) if is_still_subject(code, name) else None


def _pictures(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(code points, WebP bytes) of each picture of a tarball."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name.endswith(".webp") and (file := tar.extractfile(member)):
                yield Path(member.name).stem, file.read()


def _wanted(animated: list[Path], still: Path) -> Iterator[tuple[Subject, bytes]]:
    labelled = {subject.id: subject for subject in labelled_subjects()}
    for archive in track(animated, "packing animations", console=Console(stderr=True)):
        yield from ((labelled[code], webp) for code, webp in _pictures(archive) if code in labelled)
    for code, webp in _pictures(still):
        if code not in labelled and (subject := still_subject(code)):
            yield subject, webp


def _pack_one(webp: bytes) -> tuple[int, bytes]:
    frames = read_animation(webp)
    return len(frames), encode_atlas(frames)


def _write(path: Path, packed: list[tuple[Subject, int, bytes]]) -> None:
    """Write the pack under its name only when it is whole."""
    rows = [asdict(subject) | {"frames": count} for subject, count, _ in packed]
    part = path.with_name(f".{path.name}.{getpid()}")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as pack:
            index = {"version": VERSION, "side": SIDE, "fps": FPS, "subjects": rows}
            pack.writestr(zipfile.ZipInfo("index.json"), json.dumps(index, ensure_ascii=False))
            for subject, _, atlas in packed:
                pack.writestr(zipfile.ZipInfo(f"{subject.id}.webp"), atlas)  # ZipInfo: a fixed date, so equal packs have equal bytes
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def pack_pictures(pictures: Iterable[tuple[Subject, bytes]], path: Path) -> None:
    """Pack (subject, its WebP as published) pairs into `path`: labelled subjects in their labels' order, then the rest by id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    jobs: dict[Subject, Future] = {}
    with ThreadPoolExecutor(cpu_count()) as pool:  # threads: Pillow lets go of the interpreter while it codes
        for subject, webp in pictures:
            jobs[subject] = pool.submit(_pack_one, webp)
    order = {subject.id: place for place, subject in enumerate(labelled_subjects())}
    subjects = sorted(jobs, key=lambda subject: (order.get(subject.id, len(order)), subject.id))
    _write(path, [(subject, *jobs[subject].result()) for subject in subjects])


def build_pack(path: Path | str | None = None, tarballs: Path | str | None = None) -> Path:
    """Fetch the published sprites where they are not cached, pack them (about 2 minutes on 2 cores), and return the pack's path.

    path: where the pack goes; default `default_path()`.
    tarballs: folder of the npm tarballs; default `cache_dir()/npm`.
    Raises InputError where a tarball cannot be fetched or is not the pinned one, MissingExtraError without `emoji`.
    """
    path = Path(path) if path else default_path()
    folder = Path(tarballs) if tarballs else cache_dir() / "npm"
    unicode_name("1f34e")  # a missing package is told before the download, not after
    animated, still = [fetch(tarball, folder) for tarball in ANIMATED], fetch(STILL, folder)
    pack_pictures(_wanted(animated, still), path)
    return path
