"""The figures as a table to read and as JSON to keep."""

import importlib.metadata
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from kinema.errors import InputError
from kinema.evaluate.bench.measure import Figures, Row, load
from kinema.evaluate.bench.rivals import NAME as RIVAL
from kinema.evaluate.bench.timing import Times
from kinema.version import __version__

COLUMNS = ("best s", "median s", "peak MB", "speed", "memory", "max diff")
CAPTION = (
    "peak: over weights and inputs (end to end: all of the process); "
    "speed: a row's first side is so many times as fast as this one; memory: it takes so many times as much"
)


@dataclass(frozen=True)
class Report:
    """Everything that was measured and on what."""

    rows: list[Row]
    notes: list[str]
    device: torch.device
    clock: str = "wall"

    def as_json(self) -> dict[str, Any]:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return {
            "created": when,
            "clock": self.clock,
            "machine": machine(self.device),
            "notes": self.notes,
            "rows": [row_json(row) for row in self.rows],
        }


def machine(device: torch.device) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load(),
        "python": platform.python_version(),
        "kinema": __version__,
        "torch": torch.__version__,
        RIVAL: version_of(RIVAL),
    }


def processor() -> str:
    return torch.backends.cpu.get_cpu_capability() + " " + (platform.processor() or platform.machine())


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def row_json(row: Row) -> dict[str, Any]:
    others = list(row.sides)[1:]
    return {
        "part": row.part,
        "name": row.name,
        "dtype": row.dtype,
        "sides": {name: figures_json(figures) for name, figures in row.sides.items()},
        "ratios": {name: {"speed": row.speed(name), "memory": row.memory(name)} for name in others},
        "max_difference": row.difference,
        "largest_value": row.largest,
        "load": row.load,
    }


def figures_json(figures: Figures) -> dict[str, Any]:
    times = figures.times
    return {"best_s": times.best, "median_s": times.median, "seconds": times.seconds, "peak_bytes": figures.peak}


def rows_in(path: Path, clock: str) -> list[Row]:
    """The rows that a run before this one has kept; none where there was no run, or it had another clock.

    Raises InputError where the file is something else.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [row_of(each) for each in content["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"json={path} is no report of kinema bench ({error!r}): name another file") from error
    return rows if content.get("clock") == clock else []


def row_of(content: dict[str, Any]) -> Row:
    """The inverse of `row_json`."""
    sides = {name: Figures(Times(tuple(each["seconds"])), each["peak_bytes"]) for name, each in content["sides"].items()}
    plain = {name: content[name] for name in ("part", "name", "dtype")}
    return Row(**plain, sides=sides, difference=content["max_difference"], largest=content["largest_value"], load=tuple(content["load"]))


def table_of(report: Report) -> Table:
    """One line a side; speed and memory are those of a row's first side over that line's."""
    title = f"kinema bench: {machine(report.device)['device']}, load {' '.join(map(str, load()))}"
    table = Table(title=title, caption=CAPTION, title_justify="left", caption_justify="left")
    for heading in ("what", "dtype", "side"):
        table.add_column(heading, overflow="fold")
    for heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        for i, name in enumerate(row.sides):
            table.add_row(*((row.name, row.dtype) if i == 0 else ("", "")), name, *cells(row, name), end_section=i == len(row.sides) - 1)
    return table


def markdown(report: Report) -> str:
    """The table for a file that people read; what each column says stands under it."""
    facts = machine(report.device)
    about = f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {RIVAL} {facts[RIVAL]}, {report.clock} seconds."
    lines = [about, "", "| what | dtype | side | " + " | ".join(COLUMNS) + " |", "|---|---|---|" + "---:|" * len(COLUMNS)]
    for row in report.rows:
        lines += [f"| {row.name} | {row.dtype} | {name} | {' | '.join(cells(row, name))} |" for name in row.sides]
    return "\n".join([*lines, "", CAPTION[0].upper() + CAPTION[1:] + ".", *report.notes, ""])


def cells(row: Row, name: str) -> tuple[str, ...]:
    figures = row.sides[name]
    own = (f"{figures.times.best:.3f}", f"{figures.times.median:.3f}", "" if figures.peak is None else f"{figures.peak / 1e6:.0f}")
    if figures is row.judged:
        return *own, "", "", "" if row.difference is None else f"{row.difference:.1e}"
    memory = row.memory(name)
    return *own, f"{row.speed(name):.2f}x", "" if memory is None else f"{memory:.2f}x", ""
