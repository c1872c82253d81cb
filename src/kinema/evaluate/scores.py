"""Answers about videos -> shares with their uncertainty, as a table, JSON and CSV."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.table import Table

Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


@dataclass(frozen=True)
class Answer:
    """What was asked of one video and what was seen in it; an empty wanted place or direction is not asked."""

    subject_wanted: str  # id
    subject_seen: str  # id of the recogniser's first choice
    subject_rank: int  # of the wanted one: 1 is the first choice
    place_wanted: str
    place_seen: str
    direction_wanted: str
    direction_seen: str


@dataclass(frozen=True)
class Share:
    """`hits` of `count`, with a 95 % interval (Wilson 1927)."""

    hits: int
    count: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> "Share":
        hits, count = sum(outcomes), len(outcomes)
        low, high = wilson(hits, count)
        return cls(hits, count, hits / count if count else math.nan, low, high)

    def __str__(self) -> str:
        return f"{self.value:.1%}  ({self.low:.0%} to {self.high:.0%}, {self.hits} of {self.count})" if self.count else "not asked"


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence; (0, 1) where nothing was asked."""
    if not count:
        return 0.0, 1.0
    share, spread = hits / count, Z95**2 / count
    middle = share + spread / 2
    half = Z95 * math.sqrt(share * (1 - share) / count + spread / count / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def shares(answers: Sequence[Answer]) -> dict[str, Share]:
    """Every measure over the videos to which it applies."""
    placed = [a for a in answers if a.place_wanted]
    moving = [a for a in answers if a.direction_wanted]
    return {
        "subject, first choice": Share.of([a.subject_rank == 1 for a in answers]),
        "subject, among the first 5": Share.of([a.subject_rank <= 5 for a in answers]),
        "place": Share.of([a.place_seen == a.place_wanted for a in placed]),
        "direction of motion": Share.of([a.direction_seen == a.direction_wanted for a in moving]),
    }


def table(kinds: dict[str, dict[str, Share]], psnr: float) -> Table:
    """Kinds of videos side by side, for the terminal; kinds: title of a column -> measure -> share."""
    out = Table("measure", *kinds, title="kinema evaluate world")
    for name in next(iter(kinds.values())):
        out.add_row(name, *(str(measured[name]) for measured in kinds.values()))
    out.add_row("VAE reconstruction", *[""] * (len(kinds) - 1), f"{psnr:.2f} dB")
    return out


def write_json(path: Path, kinds: dict[str, dict[str, Share]], psnr: float, facts: dict) -> None:
    """The scores; facts: what they were taken of (model, steps, count ...)."""
    names = next(iter(kinds.values()))
    scores = {name: {kind: asdict(measured[name]) for kind, measured in kinds.items()} for name in names}
    whole = {"facts": facts, "scores": scores, "vae_psnr_db": round(psnr, 4)}
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, prompts: Sequence[str], generated: Sequence[Answer], real: Sequence[Answer]) -> None:
    """One line a prompt: what was seen in its video and in the real clip."""
    names = [field.name for field in fields(Answer)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", *names, *(f"real_{name}" for name in names if not name.endswith("wanted"))])
        for prompt, ours, theirs in zip(prompts, generated, real, strict=True):
            seen = [getattr(theirs, name) for name in names if not name.endswith("wanted")]
            writer.writerow([prompt, *asdict(ours).values(), *seen])
