"""Pictures, videos and sounds that people give. Told apart by their first bytes and bounded while they are copied; a worker decodes them.

FOLDER/uploads/<SHA-256 of the user>/<SHA-256 of the content>: the same file twice is one file, nobody finds another's, and no name
that a client chose reaches the disk.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from kinema.errors import InputError

Kind = Literal["picture", "video", "sound"]
HEAD = 12  # bytes that tell what a file is
CHUNK = 2**20
LARGEST: dict[Kind, int] = {"picture": 16 * 2**20, "video": 60 * 2**20, "sound": 32 * 2**20}  # bytes
OF_ONE_USER = 2**30  # bytes
KEPT = 7 * 24 * 3600.0  # seconds since an upload was last asked for
MARK = "file_"  # what the names of uploads begin with
FORMATS: tuple[tuple[str, Kind, int, bytes], ...] = (
    ("image/png", "picture", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", "picture", 0, b"\xff\xd8\xff"),
    ("image/webp", "picture", 8, b"WEBP"),
    ("video/mp4", "video", 4, b"ftyp"),
    ("video/webm", "video", 0, b"\x1aE\xdf\xa3"),
    ("audio/wav", "sound", 8, b"WAVE"),
    ("audio/flac", "sound", 0, b"fLaC"),
    ("audio/ogg", "sound", 0, b"OggS"),
    *(("audio/mpeg", "sound", 0, mark) for mark in (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3")),
)
"""Media type, kind, and the mark that stands at an offset."""


@dataclass(frozen=True)
class Upload:
    """One file of one user."""

    path: Path
    type: str  # such as image/png
    kind: Kind

    @property
    def id(self) -> str:
        return MARK + self.path.name

    @property
    def sha256(self) -> str:
        return self.path.name


@runtime_checkable
class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes: ...


def known_format(head: bytes) -> tuple[str, Kind] | None:
    """Media type and kind of a file that begins so; None for whatever is not taken here."""
    return next(((media, kind) for media, kind, at, mark in FORMATS if head[at : at + len(mark)] == mark), None)


def taken_format(head: bytes) -> tuple[str, Kind]:
    """The same; raises InputError for whatever is not taken here."""
    found = known_format(head)
    if found is None:
        raise InputError("that file is none of those taken here: PNG, JPEG, WebP; MP4, WebM; WAV, MP3, FLAC, Ogg")
    return found


def as_upload(path: Path) -> Upload:
    """A file that lies elsewhere, looked at as if it had been given. Raises InputError for one that is not taken here."""
    with path.open("rb") as file:
        return Upload(path, *taken_format(file.read(HEAD)))


class Uploads:
    """All uploads of a service, in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder / "uploads"

    def add(self, user: str, file: Readable) -> Upload:
        """Keep a file. Raises InputError for one of another kind, one that is too large, and where this user has too many."""
        head = file.read(HEAD)
        media, kind = taken_format(head)
        place = self.place(user)
        self.forget_old(place)
        room = OF_ONE_USER - sum(each.stat().st_size for each in place.iterdir())
        handle, draft = tempfile.mkstemp(dir=place, prefix=".")
        try:
            with os.fdopen(handle, "wb") as target:
                digest = copy(pieces(head, file), target, kind, room)
            path = place / digest
            os.replace(draft, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)
        return Upload(path, media, kind)

    def find(self, user: str, name: str) -> Upload | None:
        """An upload of this user, which is then kept for another while."""
        for path in self.place(user).iterdir():  # looked up in a listing: what a client sends is never part of a path
            if MARK + path.name == name:
                path.touch()
                with path.open("rb") as file:
                    found = known_format(file.read(HEAD))
                return Upload(path, *found) if found else None
        return None

    def delete(self, upload: Upload) -> None:
        upload.path.unlink(missing_ok=True)

    def place(self, user: str) -> Path:
        """The folder of a user."""
        found = self.folder / hashlib.sha256(user.encode()).hexdigest()
        found.mkdir(parents=True, exist_ok=True)
        return found

    def forget_old(self, place: Path) -> None:
        for path in place.iterdir():
            with suppress(FileNotFoundError):  # others tidy up too
                if time.time() - path.stat().st_mtime > KEPT:
                    path.unlink()


def pieces(head: bytes, file: Readable) -> Iterator[bytes]:
    yield head
    while piece := file.read(CHUNK):
        yield piece


def copy(source: Iterator[bytes], target: BufferedWriter, kind: Kind, room: int) -> str:
    """Write what comes until it is too much; returns its SHA-256. Raises InputError at the first byte over a limit."""
    digest, taken = hashlib.sha256(), 0
    for piece in source:
        taken += len(piece)
        if taken > LARGEST[kind]:
            raise InputError(f"the {kind} is larger than {LARGEST[kind] // 2**20} MiB, the most that is taken: make it smaller")
        if taken > room:
            raise InputError(f"your uploads take more than {OF_ONE_USER // 2**20} MiB: delete some, or wait until they are forgotten")
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()
