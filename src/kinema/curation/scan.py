"""The raw files of a folder, each with a key of its content; what cannot even be read is put on record here.

The key is a hash of the size and of both ends: two files that agree in these hold the same film, and a library of any size is scanned fast.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kinema.curation.exact import short
from kinema.curation.ledger import File
from kinema.errors import InputError

ENDINGS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts",
    ".flv", ".wmv", ".asf", ".ogv", ".3gp", ".y4m", ".mxf", ".vob", ".gif",
)  # fmt: skip
END_BYTES = 2**20


def scan(root: Path, shard: tuple[int, int] = (0, 1)) -> list[File]:
    """Every file below `root` with a video's ending, by path; links to folders are not followed.

    shard: (i, N) keeps the files whose content falls into share i of N; files that cannot be read go to share 0.
    Raises InputError where the folder is missing or holds no video.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder: give the folder that holds the raw videos")
    root = root.resolve()
    files = [look(root, path) for path in sorted(videos(root))]
    if not files:
        raise InputError(f"{root} holds no video: endings looked for are {' '.join(ENDINGS)}")
    seen: dict[str, Path] = {}
    return [unless_twin(file, seen) for file in files if share_of(file.key, shard[1]) == shard[0]]


def share_of(key: str | None, shares: int) -> int:
    return int(key, 16) % shares if key else 0


def unless_twin(file: File, seen: dict[str, Path]) -> File:
    """The file, or the record that it equals one that came before."""
    if file.key is None or seen.setdefault(file.key, file.path) == file.path:
        return file
    return replace(file, key=None, reason="duplicate_file", detail=f"the same bytes as {seen[file.key]}")


def videos(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            if Path(name).suffix.lower() in ENDINGS and not name.startswith("."):
                yield Path(folder, name).relative_to(root)


def look(root: Path, path: Path) -> File:
    try:
        status = (root / path).stat()
        if not stat.S_ISREG(status.st_mode):
            return File(root, path, None, 0, "open_failed", "not a regular file")
        if not status.st_size:
            return File(root, path, None, 0, "open_failed", "0 bytes")
        return File(root, path, fingerprint(root / path, status.st_size), status.st_size)
    except OSError as error:
        return File(root, path, None, 0, "open_failed", short(error))


def fingerprint(path: Path, size: int) -> str:
    """32 hex digits."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with open(path, "rb") as file:
        digest.update(file.read(END_BYTES))
        file.seek(max(size - END_BYTES, 0))
        digest.update(file.read(END_BYTES))
    return digest.hexdigest()
