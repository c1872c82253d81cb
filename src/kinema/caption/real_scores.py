"""How often the offline captioner and the camera classifier are right on real footage that a person labelled: the figures of their cards.

python -m kinema.caption.real_scores --labels tests/caption/real_clips.csv --footage DIR
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from kinema.caption.camera import Movement, movement
from kinema.caption.sight import Eyes, Seen
from kinema.media.video import opened

FIELDS = ("subject", "place", "style", "shot_type", "lighting", "camera_movement")
HEIGHT = 256  # pixels to which frames are shrunk
SAME_LIGHT = {"bright": ("daylight", "bright"), "dim": ("dim", "dark")}


@dataclass(frozen=True)
class Labelled:
    """A clip of a film, and for each field the answers that are right; none where the clip is not clear enough to judge."""

    source: str
    start: float
    end: float
    truth: dict[str, tuple[str, ...]]


def read_labels(path: Path) -> list[Labelled]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    truth = lambda row: {name: tuple(filter(None, row[name].split("|"))) for name in FIELDS}  # noqa: E731
    return [Labelled(row["source"], float(row["start"]), float(row["end"]), truth(row)) for row in csv.DictReader(lines)]


def frames_of(path: Path, clip: Labelled) -> tuple[UInt8[Tensor, "T 3 H W"], float]:
    """All frames of the clip, shrunk, and their rate."""
    with opened(path) as container:
        rate = float(container.streams.video[0].average_rate)
        container.seek(max(0, int((clip.start - 0.1) * 1_000_000)))
        found = []
        for frame in container.decode(video=0):
            if frame.time >= clip.end - 0.5 / rate:
                break
            if frame.time >= clip.start - 0.5 / rate:
                width = round(frame.width * HEIGHT / frame.height / 2) * 2
                found.append(torch.from_numpy(frame.reformat(width, HEIGHT, "rgb24", interpolation="AREA").to_ndarray()))
    return rearrange(torch.stack(found), "T H W C -> T C H W"), rate


def told(seen: Seen, camera: Movement) -> dict[str, tuple[str, ...]]:
    """What was said, as the words that would make it right; none where nothing was."""
    place = seen.place.split()[-1] if seen.place else ""
    return {
        "subject": tuple(filter(None, (seen.subject,))),
        "place": tuple(filter(None, (place,))),
        "style": tuple(filter(None, (seen.style,))),
        "shot_type": tuple(filter(None, (seen.shot,))),
        "lighting": SAME_LIGHT.get(seen.light, tuple(filter(None, (seen.light,)))),
        "camera_movement": tuple(filter(None, (camera.told,))),
    }


@dataclass
class Tally:
    """Counts of one field: clips that can be judged, what was said of them, and how much of it is right."""

    judged: int = 0
    said: int = 0
    right: int = 0

    def take(self, truth: Sequence[str], words: Sequence[str]) -> None:
        self.judged += bool(truth)
        self.said += bool(truth and words)
        self.right += bool(set(truth) & set(words))


def score(clips: Sequence[Labelled], footage: Path) -> str:
    eyes, tallies, wrong = Eyes(), {name: Tally() for name in FIELDS}, []
    first = Tally()
    for clip in clips:
        frames, rate = frames_of(footage / clip.source, clip)
        camera = movement(rearrange(frames, "T C H W -> T H W C").numpy(), rate)
        said = told(eyes.see(frames), camera)
        for name in FIELDS:
            tallies[name].take(clip.truth[name], said[name])
            if clip.truth[name] and said[name] and not set(clip.truth[name]) & set(said[name]):
                wrong.append(f"{clip.source} {clip.start}: {name} {'/'.join(said[name])}, truth {'/'.join(clip.truth[name])}")
        first.take(clip.truth["camera_movement"], (camera.name,))
    lines = ["| field | clips judged | told | of these right |", "|---|---|---|---|"]
    lines += [f"| {name} | {each.judged} | {each.said} | {each.right} |" for name, each in tallies.items()]
    return "\n".join([*lines, f"| camera's first choice, sure or not | {first.judged} | {first.said} | {first.right} |", "", *wrong])


def main() -> None:
    parser = argparse.ArgumentParser(description="Offline captioner and camera classifier against hand labels.")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--footage", type=Path, required=True, help="folder with the films that the labels name")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(score(read_labels(chosen.labels), chosen.footage))


if __name__ == "__main__":
    main()
