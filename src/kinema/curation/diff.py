"""What differs between two datasets: clips, values, tiers, reasons. A gate for changes that should change nothing."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinema.curation.table import MEASUREMENTS, SOURCES, TIERS, Record, read_table, records_of

SHOWN = 5  # examples of each kind
UNCOMPARED = {"key", "detail", "failures"}


@dataclass
class Differences:
    """Between two datasets; clips are the same where source, span and crop are."""

    clips: tuple[int, int]
    only: tuple[list[str], list[str]]  # clips that only one has, as text
    values: dict[str, list[tuple[str, Any, Any]]] = field(default_factory=dict)  # by column: clip, one value, the other
    tiers: Counter[tuple[str, str]] = field(default_factory=Counter)  # moves between tiers
    sources: list[tuple[str, str, str]] = field(default_factory=list)  # path, one outcome, the other

    @property
    def none(self) -> bool:
        return not (any(self.only) or self.values or self.tiers or self.sources)

    def lines(self) -> Iterator[str]:
        if self.none:
            yield f"no difference: {self.clips[0]} clips in both"
            return
        for side, names in zip("AB", self.only, strict=True):
            if names:
                yield f"{len(names)} clips only in RUN_{side}: {examples(names)}"
        for column, changed in self.values.items():
            yield f"{column}: {len(changed)} clips differ: {examples([f'{clip}: {one} | {other}' for clip, one, other in changed])}"
        for (one, other), count in self.tiers.most_common():
            yield f"tier {one} -> {other}: {count} clips"
        for path, one, other in self.sources[:SHOWN]:
            yield f"source {path}: {one} | {other}"


def examples(names: list[str]) -> str:
    return "; ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def compare(one: Path, other: Path, tolerance: float) -> Differences:
    """Raises InputError where either is no finished dataset. tolerance: relative, for numbers."""
    a, b = clips_of(one), clips_of(other)
    both = sorted(a.keys() & b.keys())
    only = ([place(a[key]) for key in sorted(a.keys() - b.keys())], [place(b[key]) for key in sorted(b.keys() - a.keys())])
    found = Differences((len(a), len(b)), only)
    for key in both:
        for column in sorted((a[key].keys() | b[key].keys()) - UNCOMPARED - {"name", "tier"}):
            values = a[key].get(column), b[key].get(column)
            if not alike(*values, tolerance):
                found.values.setdefault(column, []).append((place(a[key]), *values))
        if a[key]["tier"] != b[key]["tier"]:
            found.tiers[str(a[key]["name"]), str(b[key]["name"])] += 1
    found.sources = list(source_differences(one, other))
    return found


def clips_of(run: Path) -> dict[str, Record]:
    """Clips by key, each with its tier."""
    tiers = {record["key"]: record for record in records_of(read_table(run / TIERS))}
    return {record["key"]: tiers[record["key"]] | record for record in records_of(read_table(run / MEASUREMENTS))}


def place(clip: Record) -> str:
    return f"{clip['path']} {clip['start']}-{clip['end']}" + (f" {clip['crop']}" if clip["crop"] else "")


def alike(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    return one == other


def source_differences(one: Path, other: Path) -> Iterator[tuple[str, str, str]]:
    a, b = ({r["path"]: f"{r['state']} {r['reason']}".strip() for r in records_of(read_table(run / SOURCES))} for run in (one, other))
    for path in sorted(a.keys() | b.keys()):
        if a.get(path) != b.get(path):
            yield path, a.get(path, "absent"), b.get(path, "absent")
