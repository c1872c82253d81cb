"""A study's results as people read them: report.md, report.html (self-contained) and report.json."""

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kinema.errors import InputError
from kinema.evaluate.arena import table
from kinema.evaluate.arena.analysis import Duel, Rater, agreement, attentive, duels, power, raters, strengths
from kinema.evaluate.arena.strength import Strengths
from kinema.evaluate.arena.study import Study
from kinema.evaluate.arena.votes import Vote
from kinema.media.files import whole_file


@dataclass(frozen=True)
class Section:
    """One table of the report."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]


def write_report(folder: Path, study: Study, votes: Sequence[Vote]) -> dict[str, Path]:
    """Write all three forms into the study's folder; returns their paths. Raises InputError before the first vote."""
    if not votes:
        raise InputError(f"{folder} has no votes yet: open the page with `kinema arena serve {folder}` and rate")
    parts = (
        pair_sections(study, votes) if study.kind == "pair" else [approvals(table.from_votes(votes, study.models, list(study.questions)))]
    )
    parts.append(rater_section(raters(votes)))
    title = f"{study.title} ({len(study.prompts)} prompts, {len(votes)} votes)"
    data = {"title": title, "sections": [asdict(part) for part in parts]}
    forms = {"report.md": markdown(title, parts), "report.html": page(title, parts), "report.json": json.dumps(data, indent=1)}
    for name, text in forms.items():
        with whole_file(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")
    return {name: folder / name for name in forms}


def pair_sections(study: Study, votes: Sequence[Vote]) -> list[Section]:
    """Strengths and duels an axis, from attentive raters; strengths from everybody beside them."""
    kept = attentive(votes)
    parts = []
    for axis, question in study.questions.items():
        alpha = agreement(kept, axis)
        note = f"{question} Agreement between raters: alpha {number(alpha)} (0.67 is usable, 0.8 good)."
        everybody = strengths(votes, axis, study.models)
        parts.append(strength_section(axis, note, strengths(kept or votes, axis, study.models), everybody))
        parts.append(duel_section(axis, duels(kept or votes, axis, study.models)))
    prompts = len(study.prompts)
    rows = [[f"{net:.0%}", f"{power(prompts, net):.0%}"] for net in (0.05, 0.1, 0.2, 0.3)]
    parts.append(
        Section("Power", f"What {prompts} prompts with one vote each can decide, at 20 % ties.", ["true net difference", "chance"], rows)
    )
    return parts


def single_sections(study: Study, votes: Sequence[Vote]) -> list[Section]:
    return [approvals(table.from_votes(votes, study.models, list(study.questions)))]


def strength_section(axis: str, note: str, kept: Strengths, everybody: Strengths) -> Section:
    rows = [
        [model, f"{kept.points[model]:.0f}", f"{kept.low[model]:.0f} to {kept.high[model]:.0f}", f"{everybody.points[model]:.0f}"]
        for model in kept.ranking
    ]
    return Section(f"{axis}: strength", note, ["model", "points", "95 % interval", "with inattentive raters"], rows)


def duel_section(axis: str, found: Sequence[Duel]) -> Section:
    rows = [duel_row(duel) for duel in found]
    head = ["first", "second", "good", "same", "bad", "net", "95 % interval", "decided"]
    return Section(f"{axis}: pairs", "Good, same, bad for the first; the interval is clustered by prompt.", head, rows)


def duel_row(duel: Duel) -> list[str]:
    low, high = duel.interval
    counts = map(str, (duel.wins, duel.ties, duel.losses))
    return [duel.first, duel.second, *counts, f"{duel.net:+.0%}", f"{low:+.0%} to {high:+.0%}", "yes" if duel.decided else "no"]


def approvals(rows: Sequence[table.Row]) -> Section:
    """The paper's table. Raises InputError where there are no rows."""
    if not rows:
        raise InputError("no model has a rated video yet")
    axes = list(rows[0].accepted)
    doubt = table.differences(rows, table.RANKED_BY)
    lines = [
        [str(rank), row.model, *(cell(row, axis) for axis in axes), number(doubt[row.model], 3) if row.model in doubt else ""]
        for rank, row in enumerate(table.ranking(rows), 1)
    ]
    head = ["rank", "model", *(f"{axis} %" for axis in axes), "p to the best"]
    return Section("Accepted videos", "Shares with Wilson 95 % intervals; p values of overall are corrected by Holm.", head, lines)


def cell(row: table.Row, axis: str) -> str:
    low, high = row.interval(axis)
    return f"{100 * row.share(axis):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def rater_section(found: Sequence[Rater]) -> Section:
    rows = [
        [f"{i}", str(r.votes), percent(r.checks), percent(r.repeats), f"{r.seconds:.1f}", "yes" if r.kept else "no"]
        for i, r in enumerate(found, 1)
    ]
    head = ["rater", "votes", "planted checks right", "repeats answered the same", "seconds, median", "kept"]
    return Section("Raters", "Who fails more than a quarter of the planted checks is set aside.", head, rows)


def number(value: float, digits: int = 2) -> str:
    return "not measured" if value != value else f"{value:.{digits}f}"


def percent(value: float) -> str:
    return "none yet" if value != value else f"{value:.0%}"


def markdown(title: str, parts: Sequence[Section]) -> str:
    """Tables that terminals and GitHub show alike."""
    blocks = [f"# {title}"]
    for part in parts:
        lines = [part.head, ["---"] * len(part.head), *part.rows]
        blocks.append(f"## {part.title}\n\n{part.note}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(blocks) + "\n"


def page(title: str, parts: Sequence[Section]) -> str:
    body = "".join(
        f"<h2>{html.escape(part.title)}</h2><p>{html.escape(part.note)}</p><table><tr>{cells('th', part.head)}</tr>"
        + "".join(f"<tr>{cells('td', row)}</tr>" for row in part.rows)
        + "</table>"
        for part in parts
    )
    return (
        f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>{body}'
    )


def cells(tag: str, values: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)


STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:980px;margin:24px auto;padding:0 12px}"
    "table{border-collapse:collapse;width:100%}th,td{padding:5px 10px;border-bottom:1px solid #8884;text-align:left}"
    "td{font-variant-numeric:tabular-nums}h2{margin-top:32px}"
)
