"""The paper's table: the share of videos that raters accept, on each axis, with intervals, and the ranking by overall.

Fed from counts (a CSV: model, count, and accepted videos an axis) or from a study of single videos.
Source: HunyuanVideo (arXiv 2412.03603, table 3): 1,533 prompts, one video each.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from pathlib import Path

from kinema.errors import InputError
from kinema.evaluate.arena.analysis import Interval, wilson
from kinema.evaluate.arena.votes import Vote

RANKED_BY = "overall"
PUBLISHED = Path(__file__).with_name("hunyuan_video.csv")


@dataclass(frozen=True)
class Row:
    """One model: how many of `count` videos were accepted on each axis."""

    model: str
    count: int
    accepted: dict[str, int]

    def share(self, axis: str) -> float:
        return self.accepted[axis] / self.count

    def interval(self, axis: str) -> Interval:
        return wilson(self.accepted[axis], self.count)


def ranking(rows: Sequence[Row]) -> list[Row]:
    """Best first, by the overall share."""
    return sorted(rows, key=lambda row: -row.share(RANKED_BY))


def read_counts(path: Path) -> list[Row]:
    """Rows of a CSV with the columns model, count and one an axis.

    Raises InputError where a column is missing, a value is no count, or exceeds `count`.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        axes = [name for name in table.fieldnames or () if name not in ("model", "count")]
        if not {"model", "count", RANKED_BY} <= set(table.fieldnames or ()):
            raise InputError(f"{path} has the columns {table.fieldnames}: it needs model, count, {RANKED_BY} and further axes")
        return [row_of(row, axes, f"{path}, line {table.line_num}") for row in table]


def row_of(row: dict[str, str], axes: list[str], place: str) -> Row:
    try:
        found = Row(row["model"], int(row["count"]), {axis: int(row[axis]) for axis in axes})
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {error}: give whole numbers of accepted videos") from error
    if found.count < 1 or not all(0 <= value <= found.count for value in found.accepted.values()):
        raise InputError(f"{place}: accepted {found.accepted} must lie between 0 and count={found.count}")
    return found


def from_votes(votes: Sequence[Vote], models: Sequence[str], axes: Sequence[str]) -> list[Row]:
    """Rows of a study of single videos; a video is accepted on an axis when most of its raters say yes."""
    rows = []
    for model in models:
        said: dict[str, dict[int, list[bool]]] = {axis: {} for axis in axes}
        for vote in votes:
            if vote.kind == "single" and vote.left == model:
                said[vote.axis].setdefault(vote.prompt, []).append(vote.answer == "yes")
        accepted = {axis: sum(sum(yes) * 2 > len(yes) for yes in prompts.values()) for axis, prompts in said.items()}
        rows.append(Row(model, max(map(len, said.values())), accepted))
    return [row for row in rows if row.count]


def differences(rows: Sequence[Row], axis: str) -> dict[str, float]:
    """Model -> p of its difference to the best on this axis (two-sided z test of shares), corrected by Holm for all comparisons."""
    best = max(rows, key=lambda row: row.share(axis))
    return holm({row.model: p_value(best, row, axis) for row in rows if row is not best})


def p_value(first: Row, second: Row, axis: str) -> float:
    error = sqrt(sum(row.share(axis) * (1 - row.share(axis)) / row.count for row in (first, second)))
    return erfc(abs(first.share(axis) - second.share(axis)) / error / sqrt(2)) if error else 1.0


def holm(values: dict[str, float]) -> dict[str, float]:
    """Holm's correction (1979): adjusted p values."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(values, key=lambda name: values[name])):
        largest = max(largest, min(1.0, values[name] * (len(values) - rank)))
        adjusted[name] = largest
    return adjusted
