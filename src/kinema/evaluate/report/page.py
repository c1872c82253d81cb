"""report.html: what a run found, in one file: no network, no other files, and no script but the one that sorts."""

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.evaluate.metrics.table import Metric
from kinema.evaluate.report.pictures import shown
from kinema.evaluate.report.plots import bars, figure, hue, radar, title_of
from kinema.evaluate.summary import Cell, Row, rated
from kinema.media.files import whole_file

if TYPE_CHECKING:
    from kinema.evaluate.runner import Evaluation

HERE = Path(__file__).parent
FAMILIES = {
    "alignment": "Text alignment",
    "motion": "Motion",
    "visual": "Visual quality",
    "reconstruction": "Against the reference, frame by frame",
    "distribution": "Against the reference, as sets",
}
NOTES = {
    "motion": "Smoothness, flicker and warp error are best for a picture that stands still: read them beside the dynamic degree, which "
    "says how much moves and not how well.",
    "alignment": "Only prompts that ask for a thing are scored on it. The offline judges know the embedded world; how well they agree "
    "with its truth stands in docs/evaluation.md.",
    "distribution": "The Fréchet distances are extrapolated to infinitely many samples and may fall below 0.",
}


def write_report(path: Path, evaluation: "Evaluation", cases: int) -> None:
    """Raises OutputError where it cannot be written."""
    with whole_file(path) as draft:
        draft.write_text(page(evaluation, cases), encoding="utf-8")


def page(evaluation: "Evaluation", cases: int) -> str:
    title = html.escape(evaluation.title)
    body = "".join(
        [
            f"<h1>{title}</h1>",
            legend(evaluation.models),
            facts(evaluation),
            overview(evaluation),
            *(family(evaluation, name) for name in FAMILIES),
            failures(evaluation.rows),
            case_section(evaluation, cases),
            definitions(evaluation),
        ]
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main><script>{script}</script></body></html>'


def legend(models: Sequence[str]) -> str:
    names = "".join(f'<span><i style="background:{hue(place)}"></i>{html.escape(name)}</span>' for place, name in enumerate(models))
    return f'<p class="legend">{names}</p>'


def facts(evaluation: "Evaluation") -> str:
    measured = sum(not row.error for row in evaluation.rows)
    said = " · ".join(f"{name} {html.escape(str(value))}" for name, value in evaluation.facts.items() if value)
    return (
        f"<p>{measured} of {len(evaluation.rows)} videos measured on {len(evaluation.metrics)} metrics. {said}. Numbers are means over "
        "prompts, intervals 95 % by bootstrap over prompts; <b>bold</b> is the best, ★ surely so (never below six prompts).</p>"
    )


def overview(evaluation: "Evaluation") -> str:
    """One mark a family and model: the mean place of its metrics between their worst and best ends."""
    names = [name for name in FAMILIES if cells_of(evaluation, name)]
    head = "".join(f"<th>{FAMILIES[name]}</th>" for name in names)
    lines = []
    for place, model in enumerate(evaluation.models):
        marks = [mark(evaluation, name, place) for name in names]
        lines.append(f"<tr><th>{html.escape(model)}</th>" + "".join(f"<td>{text}</td>" for text in marks) + "</tr>")
    note = "The mean place of a family's metrics between the worst (0) and the best (100) end of their scales: a way in, not a verdict."
    return f'<h2>At a glance</h2><p class="note">{note}</p><div class="wide"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'


def mark(evaluation: "Evaluation", name: str, place: int) -> str:
    found = [evaluation.metrics[key].rated(cells[place].mean) for key, cells in cells_of(evaluation, name).items() if cells[place].count]
    return f"{100 * sum(found) / len(found):.0f}" if found else "–"


def cells_of(evaluation: "Evaluation", name: str) -> dict[str, list[Cell]]:
    return {key: cells for key, cells in evaluation.cells.items() if evaluation.metrics[key].family == name}


def family(evaluation: "Evaluation", name: str) -> str:
    """Radar, table and bars of one family; empty where nothing of it was measured."""
    cells = {key: found for key, found in cells_of(evaluation, name).items() if any(cell.count for cell in found)}
    if not cells:
        return ""
    metrics = {key: evaluation.metrics[key] for key in cells}
    note = f'<p class="note">{NOTES[name]}</p>' if name in NOTES else ""
    plots = f'<div class="plots">{radar(metrics, cells, evaluation.models)}{bars(metrics, cells, evaluation.models)}</div>'
    head = "<tr><th>metric</th><th>computed with</th>" + "".join(f"<th>{html.escape(model)}</th>" for model in evaluation.models) + "</tr>"
    lines = "".join(line(key, metrics[key], found, evaluation.notes.get(key, "")) for key, found in cells.items())
    return f'<h2>{FAMILIES[name]}</h2>{note}{plots}<div class="wide"><table class="metrics">{head}{lines}</table></div>'


def line(name: str, metric: Metric, cells: Sequence[Cell], note: str) -> str:
    arrow = "↑" if metric.higher_is_better else "↓"
    means = [cell.mean for cell in cells if cell.count]
    best = (max if metric.higher_is_better else min)(means) if len(cells) > 1 else math.nan
    backbone = html.escape(metric.backbone) + (f"<br><small>{html.escape(note)}</small>" if note else "")
    values = "".join(f"<td>{value(cell, best)}</td>" for cell in cells)
    return f'<tr><th title="{html.escape(metric.definition)}">{html.escape(title_of(name))} {arrow}</th><td>{backbone}</td>{values}</tr>'


def value(cell: Cell, best: float) -> str:
    if not cell.count:
        return "–"
    mean = f"<b>{figure(cell.mean)}</b>" if cell.mean == best else figure(cell.mean)
    spread = "" if math.isnan(cell.low) else f" <small>{figure(cell.low)} to {figure(cell.high)}</small>"
    return f"{mean}{' ★' if cell.decided else ''}{spread} <small>n={cell.count}</small>"


def failures(rows: Sequence[Row]) -> str:
    """Videos that could not be measured, and metrics that failed."""
    found = [(row, "all", row.error) for row in rows if row.error]
    found += [(row, title_of(name), reason) for row in rows for name, reason in row.reasons.items()]
    if not found:
        return ""
    lines = "".join(
        f"<tr><td>{html.escape(row.model)}</td><td>{row.number}: {html.escape(row.prompt)}</td><td>{what}</td>"
        f"<td>{html.escape(why)}</td></tr>"
        for row, what, why in found
    )
    head = "<tr><th>model</th><th>prompt</th><th>metric</th><th>reason</th></tr>"
    return f'<h2>What could not be measured</h2><div class="wide"><table>{head}{lines}</table></div>'


def case_section(evaluation: "Evaluation", count: int) -> str:
    """Prompts with all their videos side by side, first those on which some model did worst."""
    groups: dict[int, list[Row]] = {}
    for row in evaluation.rows:
        groups.setdefault(row.number, []).append(row)
    worst = {
        number: min(marks)
        for number, rows in groups.items()
        if (marks := [m for r in rows if not math.isnan(m := rated(r, evaluation.metrics))])
    }
    order = sorted(worst, key=worst.__getitem__)[:count]
    if not order:
        return ""
    cards = "".join(card(groups[number], evaluation) for number in order)
    options = "".join(
        f'<option value="{name}">worst first: {FAMILIES.get(name, "all metrics").lower()}</option>'
        for name in ("all", "alignment", "motion", "visual")
    )
    picker = f'<p><label>Order: <select id="order">{options}</select></label></p>'
    note = f"The {len(order)} of {len(groups)} prompts on which some model did worst, by the mean place of its metrics on their scales."
    return f'<h2>Worst cases first</h2><p class="note">{note}</p>{picker}<div id="cases">{cards}</div>'


def card(rows: Sequence[Row], evaluation: "Evaluation") -> str:
    data = ""
    for name in ("", "alignment", "motion", "visual"):
        marks = [mark for row in rows if not math.isnan(mark := rated(row, evaluation.metrics, name))]
        data += f' data-{name or "all"}="{min(marks, default=1):.4f}"'
    dimension = f" <small>{html.escape(rows[0].dimension)}</small>" if rows[0].dimension else ""
    videos = "".join(case(row, evaluation) for row in rows)
    return f'<article{data}><h3>{rows[0].number}: {html.escape(rows[0].prompt)}{dimension}</h3><div class="sides">{videos}</div></article>'


def case(row: Row, evaluation: "Evaluation") -> str:
    """One model's video, its frames, and its numbers from the worst on."""
    place = evaluation.models.index(row.model)
    name = f'<p class="legend"><span><i style="background:{hue(place)}"></i>{html.escape(row.model)}</span></p>'
    seen = shown(Path(row.video)) if row.video else None
    if seen is None:
        return f"<figure>{name}<p>{html.escape(row.error or 'the video cannot be shown')}</p></figure>"
    media = f'<video src="{seen.video}" autoplay loop muted playsinline controls></video><img src="{seen.strip}" alt="frames of the video">'
    ranked = sorted(
        (evaluation.metrics[key].rated(number), key, number)
        for key, number in row.values.items()
        if number is not None and key in evaluation.metrics
    )
    lines = "".join(f"<tr><td>{title_of(key)}</td><td>{figure(number)}</td></tr>" for _, key, number in ranked)
    return f"<figure>{name}{media}<details><summary>numbers, worst first</summary><table>{lines}</table></details></figure>"


def definitions(evaluation: "Evaluation") -> str:
    found = "".join(
        f"<dt>{html.escape(title_of(name))}</dt><dd>{html.escape(metric.definition)} <small>{html.escape(metric.backbone)}; "
        f"{html.escape(metric.source)}.</small></dd>"
        for name, metric in evaluation.metrics.items()
    )
    absent = "".join(f"<dt>{html.escape(title_of(name))}</dt><dd>{html.escape(why)}</dd>" for name, why in evaluation.missing.items())
    rest = f"<h2>Not measured</h2><dl>{absent}</dl>" if absent else ""
    return f"<h2>What the metrics mean</h2><dl>{found}</dl>{rest}"
