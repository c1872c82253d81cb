"""The published sprite sets, fetched once from the npm registry and kept in the cache.

Each tarball is pinned by version and SHA-256, so that it does not matter which road it came by: `npm pack` where npm is
installed (it knows the user's proxy and registry), otherwise HTTPS with resume.
"""

import hashlib
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from kinema.errors import InputError

DEFAULT_REGISTRY = "https://registry.npmjs.org/"
CHUNK = 1 << 20
TRIES = 3


@dataclass(frozen=True)
class Tarball:
    """One npm package version, pinned."""

    package: str
    version: str
    sha256: str
    megabytes: int

    @property
    def file(self) -> str:
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    def url(self, registry: str) -> str:
        bare = self.package.rpartition("/")[2]
        return f"{registry.rstrip('/')}/{self.package}/-/{bare}-{self.version}.tgz"


ANIMATED = (
    Tarball("@lobehub/fluent-emoji-anim-1", "1.0.0", "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea", 165),
    Tarball("@lobehub/fluent-emoji-anim-2", "1.0.0", "e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0", 182),
    Tarball("@lobehub/fluent-emoji-anim-3", "1.0.0", "3624d0c34c819c1794b74ccf6ae9034adff7c4cb6318dd2a645145f0196feb43", 197),
    Tarball("@lobehub/fluent-emoji-anim-4", "1.0.0", "3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3", 186),
)
STILL = Tarball("@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58", 16)
"""Microsoft Fluent 3D emoji, MIT; RESOURCES §9."""


def cache_dir() -> Path:
    """Where downloads and built packs are kept: $KINEMA_CACHE, else ~/.cache/kinema."""
    return Path(os.environ.get("KINEMA_CACHE") or Path.home() / ".cache" / "kinema")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(tarball: Tarball, folder: Path) -> Path:
    """The tarball's path in `folder`, downloaded if it is not there yet and always checked.

    Raises InputError where it can be had by no road, or its bytes are not the pinned ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / tarball.file
    if not path.exists() and not _npm_pack(tarball, folder):
        _download(tarball.url(_registry()), path, tarball.file)
    found = sha256_of(path)
    if found != tarball.sha256:
        path.unlink()
        raise InputError(f"{path.name}: SHA-256 is {found}, pinned is {tarball.sha256}; the file was removed, run the command again")
    return path


def _npm(*arguments: str, cwd: Path | None = None) -> str | None:
    """What npm prints, or None where it is absent or fails."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    done = subprocess.run([npm, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _registry() -> str:
    named = _npm("config", "get", "registry") or ""
    return named if named.startswith("http") else DEFAULT_REGISTRY


def _npm_pack(tarball: Tarball, folder: Path) -> bool:
    """Let npm fetch the tarball; False where it could not. It is moved into place only when whole."""
    if shutil.which("npm") is None:
        return False
    part = folder / f".npm-{os.getpid()}"
    part.mkdir(exist_ok=True)
    try:
        columns = (TextColumn("npm pack {task.description}"), BarColumn(), TextColumn("{task.fields[size]}"))
        with Progress(*columns, console=Console(stderr=True)) as progress:
            progress.add_task(tarball.package, total=None, size=f"{tarball.megabytes} MB")
            made = _npm("pack", "--silent", f"{tarball.package}@{tarball.version}", cwd=part)
        if made is None or not (part / tarball.file).exists():
            return False
        (part / tarball.file).replace(folder / tarball.file)
        return True
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(url: str, path: Path, label: str) -> None:
    """Fetch `url` to `path`; an earlier broken try is taken up where it stopped. Raises InputError when offline."""
    part = path.with_name(path.name + ".part")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=None)
        for attempt in range(TRIES):
            try:
                _append(url, part, progress, task)
                part.replace(path)
                return
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                if attempt == TRIES - 1:
                    raise InputError(_cannot_fetch(url, path, error)) from error


def _append(url: str, part: Path, progress: Progress, task) -> None:
    """Read `url` from where `part` ends to its end."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        resumed = answer.status == 206
        length = int(answer.headers.get("Content-Length") or 0)
        have = have if resumed else 0
        progress.update(task, total=have + length or None, completed=have)
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                progress.advance(task, len(block))
        if length and part.stat().st_size < have + length:
            raise ConnectionError(f"the connection closed after {part.stat().st_size} of {have + length} bytes")


def _cannot_fetch(url: str, path: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return (
        f"cannot fetch {url} ({reason}): the sprites are needed once; connect to the network and run the command again, "
        f"or put the file at {path} yourself"
    )
