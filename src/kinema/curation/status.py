"""How far a run is, from its ledger; may be asked while it runs."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kinema.curation.ledger import Ledger
from kinema.curation.summary import SUMMARY

ALIVE = 30.0  # seconds since the last word, up to which a run counts as running


def lines(out: Path) -> Iterator[str]:
    """A line on the files, one an operator, and once tiers are decided one a tier. Raises InputError where there is no ledger."""
    with Ledger(out, write=False) as ledger:
        files, runs = ledger.files(), ledger.runs()
        unread = sum(file.key is None for file in files)
        yield f"{len(files)} files, {unread} of them unreadable or copies of others; {len(runs)} runs, {activity(ledger, runs)}"
        yield from operator_lines(ledger)
    if (out / SUMMARY).exists():
        yield from summary_lines(json.loads((out / SUMMARY).read_text(encoding="utf-8")))


def activity(ledger: Ledger, runs: list[dict[str, object]]) -> str:
    last = ledger.sql.execute("SELECT max(at) FROM task").fetchone()[0]
    if not last:
        return "nothing done yet"
    ago = time.time() - last
    at_work = ledger.sql.execute("SELECT count(*) FROM task WHERE state = 'running'").fetchone()[0]
    return f"{at_work} operators at work" if at_work and ago < ALIVE else f"last result {ago:.0f} s ago"


def operator_lines(ledger: Ledger) -> Iterator[str]:
    """Counts by state, mean time, and the reasons of what failed."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    reasons: dict[str, list[str]] = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    for op, state, reason, count, seconds in ledger.counts():
        counts[op][state] += count
        spent[op] += seconds
        if reason:
            reasons[op].append(f"{reason} {count}")
    for op, states in counts.items():
        finished = states["done"] + states["failed"]
        mean = f", {1000 * spent[op] / finished:.1f} ms each" if finished else ""
        said = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        yield f"{op:>14}: {said}{mean}" + (f" ({', '.join(reasons[op])})" if reasons[op] else "")


def summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    for name in ("sources", "clips"):
        counts = summary[name]
        yield f"{name}: {counts['in']} in = {counts['kept']} kept + {counts['rejected']} rejected + {counts['failed']} failed" + (
            f" + {counts['pending']} pending" if counts["pending"] else ""
        )
    yield "tiers: " + " -> ".join(f"{name} {tier['clips']} ({tier['seconds'] / 60:.1f} min)" for name, tier in summary["tiers"].items())
