"""How well the metrics of text alignment agree with the world's truth: held-out clips, each with a right text and one that is wrong in
a single thing, and the area under the curve that tells them apart.

    python -m kinema.evaluate.calibrate --out DIR [--clips 300]
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from rich.progress import track

from kinema.evaluate.alignment.texts import cast_of, generator, other_camera, other_direction, other_place, other_subject, pick
from kinema.evaluate.alignment.training import area_under_curve
from kinema.evaluate.metrics.clip import Clip, Judges
from kinema.evaluate.metrics.table import METRICS
from kinema.world.asked import COLORS, read
from kinema.world.captions import user_prompt
from kinema.world.grammar import with_article
from kinema.world.motion import PATHS
from kinema.world.render import render_frames
from kinema.world.scenes import PLACES
from kinema.world.spec import PAIR_PATHS, ClipSpec, sample_spec
from kinema.world.sprites import SpritePack, Subject
from kinema.world.style import STYLES

Known = dict[str, Subject]
Rng = np.random.Generator
Texts = tuple[str, str]
TRIES = 24
PAIRS = "pairs.jsonl"
FIRST_SEED = 1 << 41  # far from what models and judges have trained on
PACES = {"slowly": "quickly", "quickly": "slowly"}


def other_second(spec: ClipSpec, known: Known, rng: Rng) -> ClipSpec | None:
    """Another second subject."""
    if len(spec.subjects) < 2:
        return None
    turned = other_subject(replace(spec, subjects=spec.subjects[::-1]), known, rng)
    return turned and replace(turned, subjects=turned.subjects[::-1])


def other_action(spec: ClipSpec, known: Known, rng: Rng) -> ClipSpec | None:
    going = [name for name in PAIR_PATHS if not PATHS[name].heading and name not in ("stays", spec.path)]
    return None if PATHS[spec.path].heading or spec.path == "stays" else replace(spec, path=pick(rng, going))


def other_style(spec: ClipSpec, known: Known, rng: Rng) -> ClipSpec:
    return replace(spec, style=pick(rng, [name for name in STYLES if name != spec.style]))


def other_pace(spec: ClipSpec, known: Known, rng: Rng) -> ClipSpec | None:
    return replace(spec, pace=PACES[spec.pace]) if spec.pace else None


def swapped_sides(spec: ClipSpec, known: Known, rng: Rng) -> ClipSpec | None:
    return replace(spec, subjects=spec.subjects[::-1]) if len(spec.subjects) == 2 else None


OTHERS: dict[str, tuple[str, Callable[[ClipSpec, Known, Rng], ClipSpec | None]]] = {
    "subject": ("subjects", other_subject),
    "several_subjects": ("subjects", other_second),
    "place": ("place", other_place),
    "spatial_relation": ("subjects", swapped_sides),
    "action": ("action", other_action),
    "camera": ("camera", other_camera),
    "style": ("style", other_style),
    "direction": ("direction", other_direction),
    "speed": ("pace", other_pace),
}
"""Metric -> the field of Asked in which its texts differ, and how the wrong text's clip differs."""


def by_wording(metric: str, spec: ClipSpec, known: Known, rng: Rng) -> Texts | None:
    """A user's prompt for the clip and for the other, in like words, both of which ask."""
    field, change = OTHERS[metric]
    other = change(spec, known, rng)
    for _ in range(TRIES if other else 0):
        words = int(rng.integers(1 << 30))
        texts = [user_prompt(some, cast_of(some, known), generator(words)) for some in (spec, other) if some]
        right, wrong = (getattr(read(text), field) for text in texts)
        if right and wrong and right != wrong and (metric != "spatial_relation" or read(texts[0]).relation):
            return texts[0], texts[1]
    return None


def colors(spec: ClipSpec, known: Known, rng: Rng) -> Texts | None:
    subject = known[spec.subjects[0]]
    own = next((name for name in subject.colors if name in COLORS), "")
    if not own:
        return None
    plain, where = subject.noun.removeprefix(own).strip() or subject.noun, pick(rng, PLACES[spec.place].phrases)
    wrong = pick(rng, [name for name in COLORS if name not in subject.colors])
    right, other = (f"{with_article(f'{color} {plain}').capitalize()} {where}." for color in (own, wrong))
    return (right, other) if read(right).color == own and read(other).color == wrong else None


def numbers(spec: ClipSpec, known: Known, rng: Rng) -> Texts:
    where = pick(rng, PLACES[spec.place].phrases)
    one, two = f"One thing {where}.", f"Two things {where}."
    return (one, two) if len(spec.subjects) == 1 else (two, one)


def texts_for(metric: str, spec: ClipSpec, known: Known) -> Texts | None:
    """A right and a wrong text; None where the clip has nothing to ask."""
    rng = generator(spec.seed, 31, list(ASKED).index(metric))
    special = {"color": colors, "number": numbers}.get(metric)
    return special(spec, known, rng) if special else by_wording(metric, spec, known, rng)


ASKED = dict.fromkeys(["color", "number", *OTHERS])


@dataclass(frozen=True)
class Agreement:
    """One metric against the truth. own: share of pairs whose right text scores above its own wrong one; ties count half."""

    pairs: int
    auc: float
    own: float
    low: float  # 95 % interval of auc, by bootstrap over clips
    high: float


def agreement(pairs: Sequence[tuple[float, float]], draws: int = 500) -> Agreement:
    right, wrong = torch.tensor(pairs, dtype=torch.float64).float().unbind(1)
    places = torch.from_numpy(np.random.default_rng(0).integers(len(pairs), size=(draws, len(pairs))))
    low, high = np.quantile([area_under_curve(right[some], wrong[some]) for some in places], (0.025, 0.975))
    own = ((right > wrong).float() + 0.5 * (right == wrong).float()).mean()
    return Agreement(len(pairs), area_under_curve(right, wrong), float(own), float(low), float(high))


def scores(spec: ClipSpec, pack: SpritePack, known: Known, judges: Judges) -> dict[str, tuple[float, float]]:
    """Metric -> its values for the right and the wrong text, and the video-text model's plain cosine for each as "metric, cosine"."""
    found: dict[str, tuple[float, float]] = {}
    clip = Clip(rearrange(render_frames(spec, pack), "T c H W -> T H W c"), spec.fps, "", judges)
    for metric in ASKED:
        texts = texts_for(metric, spec, known)
        if texts is None:
            continue
        values = [asked_again(clip, text, metric) for text in texts]
        if None not in values:
            found[metric] = (values[0], values[1])  # type: ignore[assignment]
            products = (judges.texts(list(texts)) @ clip.vector).tolist()
            found[f"{metric}, cosine"] = (products[0], products[1])
    return found


def asked_again(clip: Clip, text: str, metric: str) -> float | None:
    """The metric of the same video under another prompt."""
    clip.prompt, clip.__dict__["asked"] = text, read(text)
    return METRICS[metric].measure(clip)


def calibrate(clips: int, pack: SpritePack, out: Path) -> dict[str, Agreement]:
    """Over `clips` held-out clips of 33 frames at 128 pixels whose subjects are all animated; goes on from `out`/pairs.jsonl."""
    known, judges = {subject.id: subject for subject in pack.subjects}, Judges()
    out.mkdir(parents=True, exist_ok=True)
    with (out / PAIRS).open("a+", encoding="utf-8") as file:
        file.seek(0)
        lines = [json.loads(line) for line in file]
        for number in track(range(len(lines), clips), "held-out clips"):
            spec = sample_spec(FIRST_SEED + number, pack.animated, split="heldout")
            lines.append(scores(spec, pack, known, judges))
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
    found: dict[str, list[tuple[float, float]]] = {}
    for line in lines[:clips]:
        for metric, (right, wrong) in line.items():
            found.setdefault(metric, []).append((right, wrong))
    return {metric: agreement(pairs) for metric, pairs in found.items() if len(pairs) > 1}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Hold the metrics of text alignment against the world's truth.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--pack", type=Path, help="sprite pack; default: where `kinema world build` puts it")
    chosen = parser.parse_args(arguments)
    found = calibrate(chosen.clips, SpritePack.open(chosen.pack), chosen.out)
    rows = {metric: asdict(row) for metric, row in found.items()}
    (chosen.out / "calibration.json").write_text(json.dumps({"clips": chosen.clips, "metrics": rows}, indent=1) + "\n", encoding="utf-8")
    for metric, row in found.items():
        print(f"{metric:28} pairs {row.pairs:4}  auc {row.auc:.3f} ({row.low:.3f} to {row.high:.3f})  own {row.own:.3f}")


if __name__ == "__main__":
    main()
