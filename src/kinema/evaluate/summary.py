"""Many rows to few numbers: means with 95 % intervals by bootstrap over prompts, differences between models, rows as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kinema.evaluate.metrics.table import Metric
from kinema.media.files import whole_file

DRAWS = 2000
FEWEST = 6  # prompts in common below which nothing is sure: of five, all in favour, one in sixteen is chance


@dataclass(frozen=True)
class Row:
    """One video of one model."""

    model: str
    number: int  # of the prompt, from 0
    prompt: str
    dimension: str
    video: str  # empty: there is none
    values: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)
    error: str = ""
    features: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A model's mean on a metric; low and high: where the mean over all such prompts lies with 95 % confidence;
    NaN for a single one."""

    mean: float
    low: float
    high: float
    count: int  # prompts
    decided: bool = False  # the best, and surely better than every other model on the prompts that both have


def grid(rows: Sequence[Row], models: Sequence[str], metric: str) -> Float[np.ndarray, "models prompts"]:
    """Values by model and prompt; NaN where there is none."""
    numbers = {number: place for place, number in enumerate(dict.fromkeys(row.number for row in rows))}
    out = np.full((len(models), len(numbers)), np.nan)
    for row in rows:
        value = row.values.get(metric)
        if value is not None:
            out[models.index(row.model), numbers[row.number]] = value
    return out


def means(values: Float[np.ndarray, "*n prompts"]) -> Float[np.ndarray, "*n"]:
    """Over the prompts that have one; NaN where none has."""
    there = np.isfinite(values)
    total, count = np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def summarise(values: Float[np.ndarray, "models prompts"], higher: bool, seed: int = 0) -> list[Cell]:
    """A Cell a model, from one set of drawn prompts for all of them."""
    draws = np.random.default_rng(seed).integers(values.shape[1], size=(DRAWS, values.shape[1]))
    drawn = np.stack([means(row[draws]) for row in values])
    whole = means(values)
    best = surely_best(values, draws, higher)
    return [
        Cell(float(mean), *interval(sample if np.isfinite(row).sum() > 1 else sample[:0]), int(np.isfinite(row).sum()), place == best)
        for place, (mean, sample, row) in enumerate(zip(whole, drawn, values, strict=True))
    ]


def interval(sample: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The middle 95 %; NaN where nothing was drawn."""
    there = sample[np.isfinite(sample)]
    if not len(there):
        return float("nan"), float("nan")
    low, high = np.quantile(there, (0.025, 0.975))
    return float(low), float(high)


def surely_best(values: Float[np.ndarray, "models prompts"], draws: np.ndarray, higher: bool) -> int | None:
    """The model whose mean difference to each other one, prompt by prompt, has an interval beyond 0 (corrected after Bonferroni)."""
    whole = means(values)
    if len(values) < 2 or not np.isfinite(whole).any():
        return None
    best = int(np.nanargmax(whole if higher else -whole))
    share = 0.025 / (len(values) - 1)
    for other in range(len(values)):
        if other != best:
            apart = (values[best] - values[other]) * (1 if higher else -1)
            drawn = means(apart[draws])
            if np.isfinite(apart).sum() < FEWEST or np.quantile(drawn[np.isfinite(drawn)], share) <= 0:
                return None
    return best


def rated(row: Row, metrics: dict[str, Metric], family: str = "") -> float:
    """Mean of a row's values on the metrics' scales, [0, 1], over one family or all; 0 for a broken video, NaN for none."""
    if row.error:
        return 0.0
    found = [
        metric.rated(value)
        for name, metric in metrics.items()
        if (value := row.values.get(name)) is not None and family in ("", metric.family)
    ]
    return float(np.mean(found)) if found else float("nan")


def write_rows(path: Path, rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """One line a video."""
    with whole_file(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "number", "prompt", "dimension", "video", *metrics, "error"])
        for row in rows:
            values = ["" if (value := row.values.get(name)) is None else f"{value:.6g}" for name in metrics]
            writer.writerow([row.model, row.number, row.prompt, row.dimension, row.video, *values, row.error])
