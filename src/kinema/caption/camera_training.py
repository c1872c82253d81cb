"""Trains the camera classifier: measures clips of known movement once, then fits a small network in seconds.

    python -m kinema.caption.camera_training CACHE --world 840 --held-out 280 --film FILM.mp4 --still-film CCTV.avi --out camera.npz

What is measured stays in CACHE, so that a run that was stopped goes on.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional as F

from kinema.caption.camera import SURE, Movement, by_rules, features, probabilities
from kinema.caption.flowfield import FlowField, measure
from kinema.caption.moved import FPS, of_footage, of_world
from kinema.media.files import whole_file
from kinema.records import CAMERA_MOVEMENTS
from kinema.world.sprites import SpritePack

WIDTH, STEPS, RATE, DECAY, DROP = 64, 1500, 2e-3, 0.05, 0.3
BLOCK = 56  # clips: a multiple of 14 and of 8
COPIES = 16  # of each field, changed at random


def save_field(path: Path, field: FlowField, movement: str) -> None:
    with whole_file(path) as draft:
        np.savez(draft.open("wb"), speed=field.speed.astype(np.float32), trust=field.trust.astype(np.float32),
                 aspect=field.aspect, step=field.step, label=CAMERA_MOVEMENTS.index(movement))  # fmt: skip


def load_field(path: Path) -> tuple[FlowField, int]:
    with np.load(path) as kept:
        field = FlowField(kept["speed"].astype(np.float64), kept["trust"].astype(np.float64), float(kept["aspect"]), float(kept["step"]))
        return field, int(kept["label"])


def collect(cache: Path, world: int, held_out: int, films: Sequence[tuple[Path, bool]], each: int) -> None:
    """Measure clips into `cache`: `world` and `held_out` clips of the world, `each` of every film."""
    pack = SpritePack.open()
    for split, count in (("train", world), ("heldout", held_out)):
        for seed in range(count):
            path = cache / f"world-{split}-{seed:05}.npz"
            if not path.exists():
                spec, frames = of_world(seed, pack, split == "heldout")
                save_field(path, measure(frames, FPS), spec.camera)
    for film in films:
        for index, (movement, frames) in enumerate(of_footage([film], each, 7)):
            path = cache / f"film-{film[0].stem}-{index:04}.npz"
            if not path.exists():
                save_field(path, measure(frames, FPS), movement)


LEFT_RIGHT = {"left": "right", "right": "left"}
BACKWARDS = {"left": "right", "right": "left", "up": "down", "down": "up", "in": "out", "out": "in"}


def renamed(label: int, swap: dict[str, str]) -> int:
    *kind, way = CAMERA_MOVEMENTS[label].split()
    return CAMERA_MOVEMENTS.index(" ".join([*kind, swap.get(way, way)]))


def varied(field: FlowField, label: int, rng: np.random.Generator) -> tuple[FlowField, int]:
    """The same clip mirrored, played backwards, faster or slower, or only a part of it: its name changes with it."""
    if rng.random() < 0.5:
        field = replace(field, speed=field.speed[:, :, ::-1] * np.array([-1.0, 1.0]), trust=field.trust[:, :, ::-1])
        label = renamed(label, LEFT_RIGHT)
    if rng.random() < 0.5:
        field = replace(field, speed=-field.speed[::-1], trust=field.trust[::-1])
        label = renamed(label, BACKWARDS)
    pairs = len(field.speed)
    keep = int(rng.integers(max(3, pairs // 2), pairs + 1))
    start = int(rng.integers(0, pairs - keep + 1))
    pace = np.exp(rng.uniform(-0.8, 0.8)) if CAMERA_MOVEMENTS[label] != "static" else 1.0
    noise = rng.normal(0, 0.004, field.speed[start : start + keep].shape)
    return replace(field, speed=field.speed[start : start + keep] * pace + noise, trust=field.trust[start : start + keep]), label


def table(paths: Sequence[Path], copies: int = 0) -> tuple[Float[np.ndarray, "N F"], Int[np.ndarray, " N"]]:
    """Features and labels of kept fields; copies: changed ones of each instead of itself."""
    rng, seen, labels = np.random.default_rng(0), [], []
    for path in paths:
        field, label = load_field(path)
        for one, name in [varied(field, label, rng) for _ in range(copies)] or [(field, label)]:
            seen.append(features(one))
            labels.append(name)
    return np.stack(seen), np.array(labels)


def train(seen: Float[np.ndarray, "N F"], labels: Int[np.ndarray, " N"]) -> dict[str, np.ndarray]:
    """A network of two hidden layers, as plain arrays."""
    torch.manual_seed(0)
    mean, scale = seen.mean(axis=0), seen.std(axis=0) + 0.05
    x, y = torch.from_numpy((seen - mean) / scale).float(), torch.from_numpy(labels)
    net = nn.Sequential(
        nn.Dropout(0.1), nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Dropout(DROP), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(DROP),
        nn.Linear(WIDTH, len(CAMERA_MOVEMENTS)),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (256,))
        loss = F.cross_entropy(net(x[rows]), y[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    found = {"mean": mean, "scale": scale, "temperature": np.ones(())}
    for number, layer in enumerate(layers, 1):
        found |= {f"w{number}": layer.weight.detach().numpy().T, f"b{number}": layer.bias.detach().numpy()}
    return {name: value.astype(np.float32) for name, value in found.items()}


def fit_temperature(net: dict[str, np.ndarray], seen: Float[np.ndarray, "N F"], labels: Int[np.ndarray, " N"]) -> float:
    """The one of a row of temperatures under which clips held back are likeliest."""
    tries = np.geomspace(0.3, 3, 40)
    losses = [-np.log(probabilities(seen, net | {"temperature": t})[np.arange(len(labels)), labels] + 1e-9).mean() for t in tries]
    return float(tries[int(np.argmin(losses))])


def figures(found: Sequence[Movement], labels: Int[np.ndarray, " N"]) -> str:
    """Accuracy, what is told at SURE and how often that is right, and the confusion matrix."""
    names = [CAMERA_MOVEMENTS[label] for label in labels]
    right = np.array([one.name == name for one, name in zip(found, names, strict=True)])
    told = np.array([bool(one.told) for one in found])
    lines = [
        f"{len(right)} clips: {right.mean():.1%} right; told at {SURE}: {told.mean():.1%} of the clips, "
        f"of which {right[told].mean() if told.any() else float('nan'):.1%} right",
        "", "truth \\ found," + ",".join(CAMERA_MOVEMENTS),
    ]  # fmt: skip
    for name in CAMERA_MOVEMENTS:
        row = [sum(truth == name and one.name == other for one, truth in zip(found, names, strict=True)) for other in CAMERA_MOVEMENTS]
        lines.append(f"{name}," + ",".join(map(str, row)))
    return "\n".join(lines)


def half_of(count: int, half: int) -> list[int]:
    """Every second block of 56 clips: each block has all movements alike, the world's 14 and the film's 8."""
    return [number for number in range(count) if number // BLOCK % 2 == half]


def judged(net: dict[str, np.ndarray], cache: Path, pattern: str, half: int) -> str:
    """Figures of network and rules on one half of the clips of a kind."""
    paths = sorted(cache.glob(pattern))
    fields = [load_field(paths[number]) for number in half_of(len(paths), half)]
    labels = np.array([label for _, label in fields])
    chances = probabilities(np.stack([features(field) for field, _ in fields]), net)
    found = [Movement(CAMERA_MOVEMENTS[int(row.argmax())], float(row.max())) for row in chances]
    return f"network: {figures(found, labels)}\n\nrules: {figures([by_rules(field) for field, _ in fields], labels)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--world", type=int, default=700)
    parser.add_argument("--held-out", type=int, default=224)
    parser.add_argument("--film", type=Path, action="append", default=[], help="single frames of it are moved")
    parser.add_argument("--still-film", type=Path, action="append", default=[], help="one whose own camera stands still")
    parser.add_argument("--judge-film", default="bikes", help="name of the film that only judges")
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    films = [(path, False) for path in args.film] + [(path, True) for path in args.still_film]
    collect(args.cache, args.world, args.held_out, films, args.each)
    films_kept = [path for path in sorted(args.cache.glob("film-*.npz")) if not path.name.startswith(f"film-{args.judge_film}-")]
    world, film = table(sorted(args.cache.glob("world-train-*.npz")), COPIES), table(films_kept, COPIES)
    net = train(np.concatenate([world[0], film[0]]), np.concatenate([world[1], film[1]]))
    kept = [table(sorted(args.cache.glob(pattern))) for pattern in ("world-heldout-*.npz", f"film-{args.judge_film}-*.npz")]
    seen, labels = (np.concatenate([part[index][half_of(len(part[1]), 1)] for part in kept]) for index in (0, 1))
    net["temperature"] = np.array(fit_temperature(net, seen, labels), np.float32)
    with whole_file(args.out) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **{name: value.astype(np.float16 if value.ndim == 2 else np.float32) for name, value in net.items()})  # type: ignore[arg-type]
    print("held-out clips of the world\n" + judged(net, args.cache, "world-heldout-*.npz", 0))
    print(f"\n{args.judge_film}, never trained on\n" + judged(net, args.cache, f"film-{args.judge_film}-*.npz", 0))


if __name__ == "__main__":
    main()
