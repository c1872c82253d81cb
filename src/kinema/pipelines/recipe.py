"""Everything needed to make a video again, as plain data: it goes into the file's metadata and lies beside it."""

import hashlib
import platform
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.placement import Placement
from kinema.pipelines.store import ModelFiles
from kinema.version import __version__

REPOSITORY = Path(__file__).parents[3]  # where the package runs from a checkout
LATER = (
    "given",
    "stability",
    "cache",
    "forecast",
    "draft",
    "reference",
    "reference_guidance",
)  # fields that older recipes do not have: said only where they are used
WEIGHT_ENDINGS = (".safetensors", ".pt", ".gguf")


class Hashes:
    """SHA-256 of a model's weights, reckoned while the model works: 26 GB take half a minute."""

    def __init__(self, files: ModelFiles):
        self.files = files

    @cached_property
    def pending(self) -> dict[str, Future[str]]:
        pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        found = {name: pool.submit(sha256, getattr(self.files, name)) for name in ("dit", "vae")}
        pool.shutdown(wait=False)
        return found

    def start(self) -> None:
        _ = self.pending

    def of(self, part: str) -> str:
        return self.pending[part].result()

    def wait(self) -> dict[str, str]:
        return {name: future.result() for name, future in self.pending.items()}


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of the weights in a folder in the order of their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = "".join(sha256(each) for each in sorted(path.iterdir()) if each.suffix in WEIGHT_ENDINGS)
    return hashlib.sha256(parts.encode()).hexdigest()


def recipe_of(request: Request, config: ModelConfig, weights: dict[str, str], placement: Placement) -> dict[str, Any]:
    """The same for the same video on the same machine: it holds no times and no names of folders."""
    return {
        "model": config.name,
        "request": facts_of(request),
        "weights_sha256": weights,
        **placement.names(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit(),
        "config": asdict(config),
    }


def facts_of(request: Request) -> dict[str, Any]:
    """The request as plain data; of given files what they hold, not where they lie."""
    plain = asdict(request) | {"given": [each.facts() for each in request.given]}
    if request.reference:
        plain["reference"] = request.reference.facts()
    if not request.draft:
        del plain["strength"]
    if request.recalls:
        del plain["recalls"]
    return {name: value for name, value in plain.items() if value or name not in LATER}


def versions() -> dict[str, str]:
    packages = ("torch", "numpy", "transformers", "av")
    return {"kinema": __version__, "python": platform.python_version()} | {name: version(name) for name in packages}


def commit() -> str | None:
    """The commit that the package runs from, marked where files differ from it; None outside a checkout."""
    if not (REPOSITORY / ".git").exists():
        return None
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
