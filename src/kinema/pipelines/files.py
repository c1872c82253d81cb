"""What a run leaves on disk: latents, the video or picture, and the recipe beside it. Every file appears whole or not at all.

outputs/20261123-031500_a-cat-walks-on-the-grass_seed42_9f3c.mp4     the recipe is also within its metadata
outputs/20261123-031500_a-cat-walks-on-the-grass_seed42_9f3c.json    the recipe, file names and timings
outputs/latents/20261123-031500_a-cat-walks-on-the-grass_seed42_9f3c.safetensors    written before decoding begins
"""

import errno
import hashlib
import json
import os
import re
import secrets
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kinema.errors import InputError, OutputError, WeightsError
from kinema.media.files import whole_file
from kinema.media.image import write_image
from kinema.media.video import write_parts
from kinema.pipelines.base import Request

LATENTS_FOLDER = "latents"
RECIPE_KEY = "kinema"
SLUG_LENGTH = 48  # letters of the prompt in a file name


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A draft of a file whose folder is made if need be; raises OutputError where that cannot be."""
    make_folder(path.parent)
    with whole_file(path) as draft:
        yield draft


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to write there")
    except OSError as error:
        raise OutputError(f"cannot write into the folder {folder}: {error.strerror or error}; choose another one") from error


def slug(prompt: str) -> str:
    """The start of a prompt in letters that every file system takes."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return words[:SLUG_LENGTH].rstrip("-") or "video"


def fresh_stem(request: Request) -> str:
    return fresh_name(request.prompt, request.seed)


def fresh_name(words: str, seed: int) -> str:
    """A file name, its ending apart, that no other run takes: date, words, seed and two random bytes."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}_{slug(words)}_seed{seed}_{secrets.token_hex(2)}"


def digest(recipe: dict[str, Any]) -> str:
    """A short name for a recipe: equal recipes share it."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def save_latents(path: Path, latents: Float[Tensor, "C t h w"], recipe: dict[str, Any]) -> None:
    """Write latents with the recipe that made them."""
    with new_file(path) as draft:
        draft.write_bytes(save({"latents": latents.contiguous()}, {RECIPE_KEY: json.dumps(recipe)}))


def is_latents(path: Path) -> bool:
    """Whether `save_latents` wrote this file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return RECIPE_KEY in (file.metadata() or {})
    except SafetensorError:
        return False


def load_latents(path: Path) -> tuple[Float[Tensor, "C t h w"], dict[str, Any]]:
    """Latents and their recipe, as `save_latents` wrote them.

    Raises InputError where the file is missing, and WeightsError where it is damaged or something else.
    """
    if not path.is_file():
        raise InputError(f"latents={path} does not exist: give a file that an earlier run left in its {LATENTS_FOLDER} folder")
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("latents"), json.loads((file.metadata() or {})[RECIPE_KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} holds no latents of ours, or is cut short ({error}): generate it again") from error


def write_result(
    folder: Path, stem: str, parts: Iterable[UInt8[Tensor, "_ H W 3"]], recipe: dict[str, Any], timings: dict[str, float]
) -> Path:
    """Write the video, or the picture where one frame was asked for, as its frames come, and then its recipe; returns the former's path.

    timings: seconds a stage, as they are when the last frame is written.
    """
    path = result_path(folder, stem, recipe)
    make_folder(folder)
    if path.suffix == ".png":
        write_image(path, next(iter(parts))[0], metadata=recipe)
    else:
        write_parts(path, parts, fps=recipe["request"]["fps"], metadata=recipe)
    write_json(folder / f"{stem}.json", sidecar(path, recipe, timings))
    return path


def result_path(folder: Path, stem: str, recipe: dict[str, Any]) -> Path:
    """Where the video lies, or the picture."""
    return folder / f"{stem}.{'png' if recipe['request']['frames'] == 1 else 'mp4'}"


def sidecar(path: Path, recipe: dict[str, Any], timings: dict[str, float]) -> dict[str, Any]:
    """The recipe with the most wanted facts on top."""
    request = recipe["request"]
    latents = f"{LATENTS_FOLDER}/{path.stem}.safetensors"
    times = {"created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "timings": timings}
    return {"prompt": request["prompt"], "seed": request["seed"], "file": path.name, "latents": latents} | times | recipe


def write_json(path: Path, content: dict[str, Any]) -> None:
    with new_file(path) as draft:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
