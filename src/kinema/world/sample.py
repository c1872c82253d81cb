"""`kinema world sample` and `speak`: one clip of the world and its truth, for a person to look at."""

import json
from pathlib import Path
from typing import Any

from einops import rearrange

from kinema.errors import OutputError
from kinema.media.audio import mux
from kinema.media.video import write_video
from kinema.world.render import render
from kinema.world.spec import sample_spec
from kinema.world.speech import Split, render_speech, sample_speech
from kinema.world.sprites import SpritePack
from kinema.world.voice import RATE


def sample(seed: int, out: Path | str, frames: int = 33, height: int = 256, width: int = 256) -> tuple[Path, Path]:
    """Write the clip of a seed as <out>/world-<seed>.mp4 and its truth as .json beside it; returns both paths.

    Raises OutputError where they cannot be written.
    """
    pack = SpritePack.open()
    clip = render(sample_spec(seed, pack.subjects, frames, height, width), pack)
    video = Path(out) / f"world-{seed}.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    write_video(video, rearrange(clip.frames, "T C H W -> T H W C"), clip.truth["spec"]["fps"], clip.truth)
    return video, write_truth(video, clip.truth)


def speak(seed: int, out: Path | str, split: Split = "train", frames: int = 33, height: int = 256, width: int = 256) -> tuple[Path, Path]:
    """The same for a talking face: <out>/speech-<seed>.mp4, with its voice.

    Raises OutputError where they cannot be written, and as `Voice` does.
    """
    clip = render_speech(sample_speech(seed, split, frames, height, width))
    video = Path(out) / f"speech-{seed}.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    write_video(video, clip.frames, clip.truth["spec"]["fps"], {"spec": clip.truth["spec"], "caption": clip.truth["caption"]})
    mux(video, clip.sound, RATE)
    return video, write_truth(video, clip.truth)


def write_truth(video: Path, truth: dict[str, Any]) -> Path:
    path = video.with_suffix(".json")
    try:
        path.write_text(json.dumps(truth, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return path
