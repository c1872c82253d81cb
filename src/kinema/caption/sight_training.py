"""Trains the offline captioner's judge, and finds the thresholds from which its words may be told.

    python -m kinema.caption.sight_training --clips DIR --out DIR [--film FILE FROM TO] [--live FILE FROM TO]

--clips: what `python -m kinema.evaluate.practice` rendered; a few minutes of one processor thread. Half of the held-out clips set the
thresholds, the other half is scored.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinema.caption.sight import CHOICES, FILMED, FRAMES, SURE, WEIGHTS, Chances, Eyes, Judge, features, names
from kinema.errors import InputError
from kinema.media.files import whole_file
from kinema.media.video import opened
from kinema.world.nets import best_boxes
from kinema.world.recogniser import PIECES, Maps, Recogniser
from kinema.world.spec import ClipSpec

SHARDS = 18  # of the training split: 3,600 clips
STEPS, BATCH, RATE, DECAY, FILMED_SHARE = 1500, 256, 2e-3, 0.02, 0.15
WINDOW, STRIDE = 1.5, 3.0  # seconds of a filmed clip, and from one to the next
RIGHT = 0.95  # of what is told, so much must be right on the clips that set the thresholds
HIDDEN_FIELDS = ("light", "weather", "shot")  # of a filmed clip nothing is known
FILMED_LIMITS = {"filmed": 0.9, "filmed.style": 0.9, "filmed.subject": 0.6, "filmed.place": 0.6}


class Rows(NamedTuple):
    """Features and what is true of each clip; -1 where that is not known."""

    seen: Float[Tensor, "n d"]
    truth: dict[str, Int[Tensor, " n"]]


def shard_clips(path: Path) -> Iterator[tuple[Tensor, Maps, ClipSpec]]:
    """Frames, the backbone's maps of them and the spec of every clip of a shard (`kinema.evaluate.practice`)."""
    with safe_open(path, "pt") as file:
        specs = [ClipSpec.from_json(row) for row in json.loads(file.metadata()["specs"])]
        frames, middle, last = (file.get_tensor(name) for name in ("frames", "middle", "last"))
    for index, spec in enumerate(specs):
        yield frames[index], (middle[index].float(), last[index].float()), spec


def seen_by(recogniser: Recogniser, frames: Tensor, maps: Maps) -> Float[Tensor, " d"]:
    return features(frames, *maps, *best_boxes(recogniser.judges.finder(*maps), PIECES, 1 / maps[0].shape[-2]))


def truth_of(spec: ClipSpec) -> dict[str, int]:
    return {name: CHOICES[name].index(getattr(spec, name)) for name in CHOICES}


@torch.inference_mode()
def world_rows(paths: Sequence[Path], recogniser: Recogniser) -> Rows:
    found = [(seen_by(recogniser, frames, maps), truth_of(spec)) for path in paths for frames, maps, spec in shard_clips(path)]
    return Rows(torch.stack([seen for seen, _ in found]), {name: torch.tensor([truth[name] for _, truth in found]) for name in CHOICES})


def read_stretch(path: Path, start: float, end: float, count: int) -> UInt8[Tensor, "T 3 H W"]:
    """`count` frames, evenly spread over those shown from `start` to `end` seconds."""
    with opened(path) as container:
        container.seek(max(0, int((start - 0.1) * 1_000_000)))
        shown = list(takewhile(lambda frame: frame.time < end, (frame for frame in container.decode(video=0) if frame.time >= start)))
        if not shown:
            raise InputError(f"{path} shows nothing from {start} to {end} s")
        chosen = [shown[index] for index in np.linspace(0, len(shown) - 1, count).round().astype(int)]
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in chosen]
    return rearrange(torch.stack(frames), "T H W C -> T C H W")


def film_windows(path: Path, start: float, end: float) -> Iterator[Tensor]:
    """Five frames each of short stretches of a film, squared or not, mirrored or not."""
    for index, begin in enumerate(np.arange(start, end - WINDOW, STRIDE).tolist()):
        some = read_stretch(path, begin, begin + WINDOW, FRAMES)
        if index % 2:
            side = min(some.shape[-2:])
            left = (some.shape[-1] - side) // 2
            some = some[..., :side, left : left + side].flip(-1)
        yield some


@torch.inference_mode()
def film_rows(films: Sequence[tuple[str, Path, float, float]], recogniser: Recogniser) -> Rows:
    seen, styles = [], []
    for style, path, start, end in films:
        for frames in film_windows(path, start, end):
            sight = recogniser.look(frames)
            seen.append(features(frames, sight.middle, sight.last, sight.boxes, sight.heat))
            styles.append(CHOICES["style"].index(style))
    unknown = torch.full((len(seen),), -1)
    return Rows(torch.stack(seen), dict.fromkeys(HIDDEN_FIELDS, unknown) | {"style": torch.tensor(styles)})


def train(world: Rows, film: Rows) -> Judge:
    """Each batch: mostly the world's clips, the rest filmed ones, both kinds of these alike."""
    torch.manual_seed(0)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    kinds = [torch.nonzero(film.truth["style"] == CHOICES["style"].index(style))[:, 0] for style in FILMED]
    filmed = int(BATCH * FILMED_SHARE) // 2
    for _ in range(STEPS):
        rows = torch.randint(len(world.seen), (BATCH - 2 * filmed,))
        others = torch.cat([kind[torch.randint(len(kind), (filmed,))] for kind in kinds])
        logits = judge(torch.cat([world.seen[rows], film.seen[others]]))
        truth = {name: torch.cat([world.truth[name][rows], film.truth[name][others]]) for name in CHOICES}
        losses = [F.cross_entropy(logits[name], truth[name], ignore_index=-1, label_smoothing=0.02) for name in CHOICES]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


Answer = tuple[float, bool]  # how sure, and whether right


def answers(found: Sequence[Chances], specs: Sequence[ClipSpec]) -> dict[str, list[Answer]]:
    """Every field of the world's clips; of two subjects either counts."""
    said: dict[str, list[Answer]] = {name: [] for name in ("subject", "place", *CHOICES)}
    for one, spec in zip(found, specs, strict=True):
        truth = {name: {getattr(spec, name)} for name in ("place", *CHOICES)}
        truth["subject"] = {names().get(each, "") for each in spec.subjects}
        for name in said:
            word, chance = one.best[name]
            said[name].append((chance, word in truth[name]))
    return said


def threshold(said: Sequence[Answer]) -> float:
    """The lowest from which on at least RIGHT of the answers are right; just above 1 where there is none."""
    ordered, right, found = sorted(said, reverse=True), 0, 1.01
    for count, (chance, is_right) in enumerate(ordered, 1):
        right += is_right
        if right / count >= RIGHT and count >= 10:
            found = chance
    return math.floor(found * 1000) / 1000


def scored(said: dict[str, list[Answer]], limits: dict[str, float]) -> str:
    """A table: how often the first choice is right, how many are told, how many of these are right."""
    lines = ["| field | first choice right | threshold | told | of these right |", "|---|---|---|---|---|"]
    for name, ones in said.items():
        told = [is_right for chance, is_right in ones if chance >= limits[name]]
        share = f"{np.mean(told):.1%}" if told else "-"
        lines.append(f"| {name} | {np.mean([r for _, r in ones]):.1%} | {limits[name]:.3f} | {len(told) / len(ones):.1%} | {share} |")
    return "\n".join(lines)


def save(judge: Judge, limits: dict[str, float], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.half() if value.is_floating_point() else value for name, value in judge.state_dict().items()}
    with whole_file(out / WEIGHTS.name) as draft:
        save_file(state, draft)
    with whole_file(out / SURE.name) as draft:
        draft.write_text(json.dumps(limits, indent=1) + "\n")


def cached(path: Path, make: Any) -> Rows:
    if not path.exists():
        rows = make()
        with whole_file(path) as draft:
            torch.save({"seen": rows.seen, "truth": rows.truth}, draft)
    kept = torch.load(path, weights_only=True)
    return Rows(kept["seen"], kept["truth"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the offline captioner's judge.")
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for flag, what in (("--film", "a 3D animated film"), ("--live", "live action")):
        parser.add_argument(flag, nargs=3, action="append", default=[], metavar=("FILE", "FROM", "TO"), help=f"{what}, seconds; repeatable")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    eyes = Eyes()
    films = [(FILMED[0], *film) for film in chosen.film] + [(FILMED[1], *film) for film in chosen.live]
    stretches = [(style, Path(path), float(start), float(end)) for style, path, start, end in films]
    film = cached(chosen.out / "film.pt", lambda: film_rows(stretches, eyes.recogniser))
    paths = sorted(chosen.clips.glob("train-*.safetensors"))[:SHARDS]
    world = cached(chosen.out / "world.pt", lambda: world_rows(paths, eyes.recogniser))
    print(f"{len(world.seen)} clips of the world, {len(film.seen)} filmed", flush=True)
    eyes.judge = train(world, film)
    shards = sorted(chosen.clips.glob("heldout-*.safetensors"))
    found = [(eyes.chances(frames, maps), spec) for path in shards for frames, maps, spec in shard_clips(path)]
    inside = [(one, spec) for one, spec in found if one.world >= 0.5]
    print(f"{len(found)} held-out clips, {len(inside)} known as the world's", flush=True)
    sides = [answers(*zip(*inside[side::2], strict=True)) for side in (0, 1)]
    limits = {name: threshold(said) for name, said in sides[0].items()} | {"world": 0.9} | FILMED_LIMITS
    save(eyes.judge, limits, chosen.out)
    print(scored(sides[1], limits))


if __name__ == "__main__":
    main()
