"""`kinema world sample`: one clip of the world and its truth, for a person to look at."""

import json
from pathlib import Path

from einops import rearrange

from kinema.errors import OutputError
from kinema.media.video import write_video
from kinema.world.render import render
from kinema.world.spec import sample_spec
from kinema.world.sprites import SpritePack


def sample(seed: int, out: Path | str, frames: int = 33, height: int = 256, width: int = 256) -> tuple[Path, Path]:
    """Write the clip of a seed as <out>/world-<seed>.mp4 and its truth as .json beside it; returns both paths.

    Raises OutputError where they cannot be written.
    """
    pack = SpritePack.open()
    clip = render(sample_spec(seed, pack.subjects, frames, height, width), pack)
    video = Path(out) / f"world-{seed}.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    write_video(video, rearrange(clip.frames, "T C H W -> T H W C"), clip.truth["spec"]["fps"], clip.truth)
    truth = video.with_suffix(".json")
    try:
        truth.write_text(json.dumps(clip.truth, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {truth}: {error.strerror}") from error
    return video, truth
