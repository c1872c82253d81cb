"""Sets of prompts to evaluate on: any file of prompts, the world's held-out set, and a general one in sixteen dimensions.

The world's set is held out by rule: pairs of subject and place, or of subject and camera, that no model has trained on; it carries the
way that the subject should take. The general one (`prompts/general.jsonl`) is ours; its dimensions are those of the metrics.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import InputError
from kinema.pipelines.prompts import read_prompts

GENERAL = Path(__file__).parent / "prompts" / "general.jsonl"
WORLD_COUNT, WORLD_SIZE = 200, (33, 128, 128)
WAY_POINTS = 9  # as many as frames are looked at


@dataclass(frozen=True)
class Ask:
    """One prompt of a set."""

    prompt: str
    dimension: str = ""  # what it tests, if the set says so
    seed: int | None = None
    way: tuple[tuple[float, float], ...] = ()  # where the subject should be at 9 even times: x, y in frame heights


def read_set(source: str, pack: Path | None = None) -> list[Ask]:
    """ "world", "general", or a .txt, .csv or .jsonl file; its columns `dimension` (or `category`) and `way` are read where there are any.

    Raises InputError where there is none, or the world's needs a sprite pack that is not built.
    """
    if source == "world":
        return world_set(pack)
    path = GENERAL if source == "general" else Path(source)
    rows, extras = read_prompts(path), list(read_extras(path))
    return [Ask(row.prompt, str(more.get("dimension") or more.get("category") or ""), row.seed, way_of(more, path))
            for row, more in zip(rows, extras or [{}] * len(rows), strict=True)]  # fmt: skip


def read_extras(path: Path) -> Iterator[dict[str, Any]]:
    """The other columns of every row; nothing for plain text."""
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    elif path.suffix.lower() == ".jsonl":
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def way_of(row: dict[str, Any], path: Path) -> tuple[tuple[float, float], ...]:
    way = row.get("way") or ()
    if isinstance(way, str) or (way and np.shape(way) != (WAY_POINTS, 2)):
        raise InputError(f"prompts={path}: way={str(way)[:60]!r} must be {WAY_POINTS} points [x, y] in frame heights")
    return tuple((float(x), float(y)) for x, y in way)


def world_set(pack: Path | None, count: int = WORLD_COUNT) -> list[Ask]:
    """Prompts of held-out clips, each with its subject's true way; where the camera moves, without."""
    from kinema.evaluate.world import cases
    from kinema.world.render import plan_clip
    from kinema.world.sprites import SpritePack

    sprites = SpritePack.open(pack)
    found = []
    for case in cases(sprites, count, *WORLD_SIZE):
        boxes = plan_clip(case.spec, sprites)[0].boxes()[0] / case.spec.height
        some = boxes[np.linspace(0, len(boxes) - 1, WAY_POINTS).round().astype(int)]
        middles = (some[:, :2] + some[:, 2:]) / 2
        way = tuple((float(x), float(y)) for x, y in middles) if case.spec.camera == "static" else ()
        found.append(Ask(case.prompt, "camera" if case.spec.camera != "static" else "place", None, way))
    return found
