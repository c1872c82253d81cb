"""How well a watermark detector does on footage it never saw: the figures of its card.

    python -m kinema.curation.watermark_scores --footage FILE FROM TO [--footage ...] [--weights watermark.onnx]

Each window of four seconds is judged bare, and twice with a mark of pictures and fonts that training never draws.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinema.curation.filters.session import onnx_session
from kinema.curation.filters.watermark import PRETRAINED, Found, maps, overlap, static_overlay, watermarks
from kinema.curation.marks import SEEN, Mark, draw_mark
from kinema.curation.watermark_training import SIDE, Stretch, logos, windows
from kinema.world.sprites import SpritePack

MARKS_EACH = 2
TOUCH = 0.1  # overlap from which the baseline's box counts as found
Frames = UInt8[np.ndarray, "T h w 3"]


@dataclass(frozen=True)
class Trial:
    """One window with one mark, or bare: what the detector and the baseline said."""

    marked: bool
    score: float
    overlap: float
    baseline: bool


def box_of(mark: Mark) -> Found:
    top, left, height, width = mark.box
    return Found(1.0, left / SIDE, top / SIDE, (left + width) / SIDE, (top + height) / SIDE)


def visible_mark(frames: Frames, pictures: Sequence[np.ndarray], rng: np.random.Generator) -> Mark:
    while True:
        mark = draw_mark(rng, SIDE, SIDE, pictures, held=True)
        if mark.strength(frames) >= SEEN:
            return mark


def trial(frames: Frames, mark: Mark | None, model: Any) -> Trial:
    seen = maps(frames if mark is None else mark.over(frames))
    found, plain = watermarks(seen, model), static_overlay(seen)
    if mark is None:
        return Trial(False, found[0].score if found else 0.0, 0.0, bool(plain))
    truth = box_of(mark)
    return Trial(
        True, found[0].score if found else 0.0, overlap(found[0], truth) if found else 0.0, any(overlap(b, truth) > TOUCH for b in plain)
    )


def report(trials: Sequence[Trial]) -> str:
    """Recall and false alarms by threshold, the boxes' overlap, and the baseline."""
    bare, marked = ([one for one in trials if one.marked == kind] for kind in (False, True))
    share = lambda ones, limit: np.mean([one.score > limit for one in ones])  # noqa: E731
    lines = [f"{len(bare)} bare windows, {len(marked)} marks", "| threshold | recall | false alarms |", "|---|---|---|"]
    lines += [f"| {limit} | {share(marked, limit):.3f} | {share(bare, limit):.3f} |" for limit in (0.4, 0.5, 0.6, 0.7, 0.75, 0.78, 0.8)]
    lines.append(f"overlap of boxes above 0.5: {np.mean([one.overlap for one in marked if one.score > 0.5]):.2f}")
    lines.append(
        f"baseline: recall {np.mean([one.baseline for one in marked]):.3f}, false alarms {np.mean([one.baseline for one in bare]):.3f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of a watermark detector on footage without marks.")
    parser.add_argument(
        "--footage", nargs=3, action="append", required=True, metavar=("FILE", "FROM", "TO"), help="seconds; may be repeated"
    )
    parser.add_argument("--weights", type=Path, default=PRETRAINED)
    chosen = parser.parse_args()
    model, pictures, rng = onnx_session(chosen.weights), logos(SpritePack.open(), held=True), np.random.default_rng(5)
    trials = []
    for path, start, end in chosen.footage:
        for frames in windows(Stretch(Path(path), float(start), float(end))):
            trials.append(trial(frames, None, model))
            trials += [trial(frames, visible_mark(frames, pictures, rng), model) for _ in range(MARKS_EACH)]
    print(report(trials))


if __name__ == "__main__":
    main()
