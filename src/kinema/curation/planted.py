"""Faults of known truth, planted in clips of the world: what every filter is judged by.

    python -m kinema.curation.planted make --clips DIR [--count 200]
    python -m kinema.curation.planted score --clips DIR
    python -m kinema.curation.planted cuts --film bbb.mp4 --marks tests/curation/bbb_cuts.csv

A clip has one fault or none. `truth.jsonl` says which, where, and how strong. Clips come from the world's held-out split, marks from
pictures and fonts that the detector never saw. Both commands go on where they stopped.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from kinema.curation.marks import SEEN, Mark, draw_mark, painted
from kinema.media.video import write_video
from kinema.world.render import render
from kinema.world.spec import sample_spec
from kinema.world.sprites import SpritePack

FRAMES, FPS = 48, 12
SIZES = ((256, 256), (288, 512), (512, 288))  # height and width
TRUTH = "truth.jsonl"
CLEAN_EVERY = 2  # every second clip has no fault
LINES = (
    "I never thought it would end like this.", "Where did you leave the keys?", "Run! They are right behind us.",
    "Twenty years ago, in a small village", "We should talk about tomorrow.", "No one has seen it since March 1984",
    "BREAKING NEWS: storm warning in force", "Subscribe for more videos",
)  # fmt: skip
Frames = UInt8[np.ndarray, "T H W 3"]


@dataclass(frozen=True)
class Planted:
    """Frames and what was done to them; JSON."""

    frames: Frames
    truth: dict[str, Any]


@dataclass(frozen=True)
class Studio:
    """Where clean clips come from."""

    pack: SpritePack
    pictures: Sequence[np.ndarray]  # for logos

    def film(self, seed: int, size: tuple[int, int], frames: int = FRAMES) -> Frames:
        spec = sample_spec(seed, self.pack.subjects, frames, *size, "heldout")
        if spec.style == "cinematic":  # it has black bars of its own
            spec = replace(spec, style="3D render")
        if (spec.path, spec.camera) == ("stays", "static"):  # it may stand as still as the clips that are to be found for it
            spec = replace(spec, camera="zoom in")
        clip = render(spec, self.pack)
        return np.ascontiguousarray(rearrange(clip.frames.numpy(), "T C H W -> T H W C"))


Fault = Callable[[Frames, np.random.Generator, Studio, int], Planted]


def clean(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    return Planted(frames, {})


def blurred(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """Gaussian, sigma 0.8 to 1.6 percent of the shorter side."""
    sigma = float(rng.uniform(0.008, 0.016)) * min(frames.shape[1:3])
    return Planted(np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]), {"sigma": sigma})


def line_of_text(text: str, height: int, widest: int) -> np.ndarray:
    """A line in white with a dark rim, broken in two where it is too wide."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.load_default(height)
    if face.getlength(text) > widest:
        words = text.split()
        text = " ".join(words[: len(words) // 2]) + "\n" + " ".join(words[len(words) // 2 :])
    canvas = Image.new("L", (widest, 3 * height))
    ImageDraw.Draw(canvas).text((widest // 2, 2), text, fill=255, font=face, anchor="ma", align="center")
    cover = np.asarray(canvas, np.float32) / 255
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    cover = np.pad(cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 2)
    return painted(cover, np.ones(3, np.float32), True)


def written(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """A subtitle (two in three) or a caption elsewhere, through the whole clip."""
    height, width = frames.shape[1:3]
    picture = line_of_text(str(rng.choice(LINES)), round(min(height, width) * float(rng.uniform(0.055, 0.08))), width - 8)
    is_subtitle = bool(rng.random() < 2 / 3)
    low, high = (round(height * 0.78), height - picture.shape[0] - 2) if is_subtitle else (2, round(height * 0.6))
    top = int(rng.integers(low, max(high, low) + 1)) if high > low else height - picture.shape[0] - 2
    mark = Mark(picture, top, (width - picture.shape[1]) // 2)
    return Planted(mark.over(frames), {"box": mark.box, "subtitle": is_subtitle})


def marked(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """A watermark or logo that can be seen."""
    while True:
        mark = draw_mark(rng, frames.shape[1], frames.shape[2], studio.pictures, held=True)
        if (strength := mark.strength(frames)) >= SEEN:
            return Planted(mark.over(frames), {"box": mark.box, "strength": strength})


def bordered(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """Black bars above and below, at the sides, or all around."""
    height, width = frames.shape[1:3]
    kind, bar = rng.integers(3), lambda length: 2 * round(float(rng.uniform(0.03, 0.15)) * length / 2)
    rows, columns = (bar(height) if kind != 1 else 0), (bar(width) if kind != 0 else 0)
    inner = [cv2.resize(frame, (width - 2 * columns, height - 2 * rows), interpolation=cv2.INTER_AREA) for frame in frames]
    framed = np.pad(np.stack(inner), ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    return Planted(framed, {"borders": [rows, rows, columns, columns]})


def still(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """One frame, again and again."""
    return Planted(np.repeat(frames[len(frames) // 2][None], len(frames), axis=0), {})


def duplicated(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """The clip before it (a clean one) again: smaller, a little brighter or darker, its rim cut, some frames gone."""
    frames = studio.film(seed - 1, frames.shape[1:3])
    rim, gain = int(rng.integers(2, 6)), float(rng.uniform(0.93, 1.07))
    scale = float(rng.uniform(0.7, 0.95))
    cut = frames[int(rng.integers(0, 3)) :, rim:-rim, rim:-rim]
    size = tuple(2 * round(side * scale / 2) for side in (frames.shape[2], frames.shape[1]))
    again = [cv2.convertScaleAbs(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), alpha=gain) for frame in cut]
    return Planted(np.stack(again), {"of": name_of(seed - 1)})


def cut_in_two(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """Another scene from some frame on."""
    at = int(rng.integers(len(frames) // 3, 2 * len(frames) // 3))
    other = studio.film(seed + 500_000, frames.shape[1:3])
    return Planted(np.concatenate([frames[:at], other[: len(frames) - at]]), {"cut": at})


def faded(frames: Frames, rng: np.random.Generator, studio: Studio, seed: int) -> Planted:
    """A dissolve into another scene, or through black."""
    length, through_black = int(rng.integers(8, 17)), bool(rng.random() < 0.5)
    start = int(rng.integers(len(frames) // 4, len(frames) - len(frames) // 4 - length))
    other, share = studio.film(seed + 500_000, frames.shape[1:3]), np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    middle = slice(start, start + length)
    old, new = (1 - 2 * share, 2 * share - 1) if through_black else (1 - share, share)
    mixed = frames[middle] * np.clip(old, 0, 1) + other[middle] * np.clip(new, 0, 1)
    return Planted(
        np.concatenate([frames[:start], (mixed + 0.5).astype(np.uint8), other[start + length :]]),
        {"fade": [start, start + length], "through_black": through_black},
    )


FAULTS: dict[str, Fault] = {
    "blur": blurred, "text": written, "mark": marked, "border": bordered, "still": still,
    "duplicate": duplicated, "cut": cut_in_two, "fade": faded,
}  # fmt: skip


def name_of(seed: int) -> str:
    return f"planted-{seed:06d}.mp4"


def fault_of(seed: int) -> str:
    """Every even clip is clean; the odd ones take the faults in turn, so that a duplicate follows a clean clip."""
    return "clean" if seed % CLEAN_EVERY == 0 else list(FAULTS)[seed // CLEAN_EVERY % len(FAULTS)]


def plant(seed: int, studio: Studio) -> Planted:
    """The clip of a seed; the same seed gives the same clip."""
    rng, fault = np.random.default_rng([7, seed]), fault_of(seed)
    size = SIZES[seed // CLEAN_EVERY % len(SIZES)]
    made = FAULTS.get(fault, clean)(studio.film(seed, size), rng, studio, seed)
    return Planted(made.frames, {"name": name_of(seed), "fault": fault} | made.truth)


def known(folder: Path) -> list[dict[str, Any]]:
    """What was planted in a folder."""
    path = folder / TRUTH
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make(folder: Path, seeds: range, studio: Studio) -> Iterator[dict[str, Any]]:
    """Write the clips of some seeds; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {row["name"] for row in known(folder)}
    for seed in seeds:
        if name_of(seed) in there:
            continue
        planted = plant(seed, studio)
        write_video(folder / name_of(seed), planted.frames, FPS)
        with (folder / TRUTH).open("a") as file:
            file.write(json.dumps(planted.truth) + "\n")
        yield planted.truth


def studio_of(pack: SpritePack) -> Studio:
    """With every fourth picture, which training leaves out."""
    chosen = pack.subjects[3::16]
    return Studio(pack, [np.moveaxis(pack.frames(subject.id)[0].numpy(), 0, -1) for subject in chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description="Clips with planted faults, and how well the filters find them.")
    what = parser.add_subparsers(dest="what", required=True)
    for name, about in (("make", "write the clips"), ("score", "recall and precision of every filter on them")):
        one = what.add_parser(name, help=about)
        one.add_argument("--clips", type=Path, required=True, metavar="DIR")
    made = what.choices["make"]
    made.add_argument("--count", type=int, default=2000, help="default: %(default)s")
    made.add_argument("--first", type=int, default=0, metavar="SEED", help="an even number; other seeds, other clips; default: %(default)s")
    film = what.add_parser("cuts", help="F1 of the cuts of a film that a person marked")
    film.add_argument("--film", type=Path, required=True, metavar="FILE")
    film.add_argument("--marks", type=Path, required=True, metavar="CSV")
    film.add_argument("--fps", type=float, default=24.0, help="default: %(default)s")
    chosen = parser.parse_args()
    if chosen.what == "make":
        for row in make(chosen.clips, range(chosen.first, chosen.first + chosen.count), studio_of(SpritePack.open())):
            print(row["name"], row["fault"], flush=True)
        return
    from kinema.curation.judge import Marks, of_film, score, table

    print(score(chosen.clips) if chosen.what == "score" else table(of_film(chosen.film, Marks.read(chosen.marks), chosen.fps)))


if __name__ == "__main__":
    main()
