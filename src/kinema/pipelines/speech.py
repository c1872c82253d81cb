"""A speech on disk: the frames with their voice, and what made them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.media.audio import RATE, mux
from kinema.media.files import whole_file
from kinema.media.video import write_video
from kinema.pipelines.avatar import Acting, TalkingFace
from kinema.pipelines.recipe import sha256, versions

CHOSEN = ("seed", "steps", "begin", "guidance", "shift", "expression", "prompt", "window")


def recipe_of(talking: TalkingFace, acting: Acting, files: Mapping[str, Path | None], face: int | None = None) -> dict[str, Any]:
    """What is needed to make it again; it goes into the file.

    files: what was given, as image, audio, drive and pose. face: which one was chosen, counted from the left from 1.
    """
    return {
        "model": talking.video.config.name,
        "avatar": {name: {"file": path.name, "sha256": sha256(path)} for name, path in files.items() if path},
        "acting": {name: getattr(acting, name) for name in CHOSEN} | {"face": face},
        "weights_sha256": {"dit": sha256(talking.video.files.dit), "avatar": sha256(talking.weights)},
        "versions": versions(),
    }


def write_speech(
    path: Path, frames: UInt8[Tensor, "T H W 3"], fps: float | int, sound: Float[Tensor, " n"], recipe: dict[str, Any]
) -> None:
    """An MP4 with frames, voice (RATE samples a second) and recipe. Raises OutputError where it cannot be written."""
    with whole_file(path) as draft:
        write_video(draft, frames, fps, recipe)
        mux(draft, sound, RATE)
