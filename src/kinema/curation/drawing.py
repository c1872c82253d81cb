"""Figures as HTML and SVG text, for pages that must open without a network."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT, BINS = 640, 110, 48  # of a histogram, in pixels and bars
TAIL = 0.5  # percent of the values at either end that may lie outside the drawing
COLOURS = ("#0b7285", "#2b8a3e", "#e67700", "#c92a2a", "#862e9c")

PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">
<title>{title}</title><style>
:root{{color-scheme:light dark;--ink:#212529;--dim:#868e96;--line:#dee2e6;--fill:#4dabf7;--paper:#fff}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e9ecef;--dim:#909296;--line:#373a40;--fill:#1971c2;--paper:#141517}}}}
body{{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:var(--ink);background:var(--paper)}}
h1{{font-size:1.6rem}}h2{{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid var(--line)}}
table{{border-collapse:collapse;font-size:.9em;display:block;overflow-x:auto}}td,th{{padding:.15rem .6rem;text-align:right;
border-bottom:1px solid var(--line);vertical-align:top}}td:first-child,th:first-child,td.t{{text-align:left}}td.t{{max-width:34rem;
overflow-wrap:anywhere}}.bar{{display:grid;grid-template-columns:13rem 1fr;gap:.6rem;margin:.2rem 0;align-items:center}}
.bar>div{{position:relative;background:var(--line);border-radius:3px}}.bar>div>div{{background:var(--fill);height:1.5rem;border-radius:3px}}
.bar span{{position:absolute;left:.5rem;top:.1rem;font-size:.9em;white-space:nowrap}}
.bar em{{grid-column:2;color:var(--dim);font-size:.85em}}
summary{{cursor:pointer}}i,em,figcaption{{color:var(--dim);font-style:normal}}.metric{{margin:1rem 0}}svg{{max-width:100%;height:auto}}
svg text{{font-size:10px;fill:var(--ink)}}.sheet{{display:flex;flex-wrap:wrap;gap:.4rem;align-items:center;margin:.3rem 0}}
.sheet>span{{width:6.5rem;font-size:.85em}}.in,.out{{display:flex;gap:3px;padding:3px;border-radius:4px;flex-wrap:wrap}}
.in{{background:#2b8a3e44}}.out{{background:#c92a2a44}}figure{{margin:0;width:72px}}figure div{{width:72px;height:41px;
background:#000 center/contain no-repeat}}figcaption{{font-size:10px;text-align:center}}td.c{{text-align:center}}pre{{overflow-x:auto;
font-size:.85em}}th.v{{writing-mode:vertical-rl;text-align:left}}
{styles}</style><h1>{title}</h1>{body}</html>
"""


def sheet_style(pictures: Mapping[str, str]) -> str:
    """A rule for each picture, so that one shown in many sheets is in the file once."""
    return "\n".join(f'figure .{style}{{background-image:url("data:image/jpeg;base64,{data}")}}' for style, data in pictures.items())


def bars(rows: Sequence[tuple[str, int | float, str, str]]) -> str:
    """Name, length, label, and a note below; lengths are relative to the longest."""
    longest = max((length for _, length, _, _ in rows), default=0) or 1
    return "".join(
        f"<div class=bar><b>{html.escape(name)}</b><div><div style='width:{100 * length / longest:.2f}%'></div>"
        f"<span>{html.escape(label)}</span></div>{f'<em>{html.escape(note)}</em>' if note else ''}</div>"
        for name, length, label, note in rows
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def cell(value: Any) -> str:
    text = html.escape(str(value))
    return f"<td>{text}</td>" if isinstance(value, int | float) or text[:1].isdigit() else f"<td class=t>{text}</td>"


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Counts as shades, each beside its number."""
    most = max(max(row) for row in counts) or 1
    head = "".join(f"<th class=v>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td class=c style='background:rgba(201,42,42,{0.75 * count / most:.3f})'>{count or ''}</td>" for count in row)
        + "</tr>"
        for name, row in zip(names, counts, strict=True)
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def histogram(values: np.ndarray, lines: Sequence[tuple[str, float]]) -> str:
    """Counts of a value, and a line for each named threshold; NaN is left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return "<p>never measured</p>"
    bounds = [bound for _, bound in lines if np.isfinite(bound)]
    low, high = (float(edge) for edge in np.percentile(known, (TAIL, 100 - TAIL)))
    low, high = min([low, *bounds]), max([high, *bounds])
    margin = (high - low) * 0.03 or 0.5
    low, high = low - margin, high + margin
    counts, _ = np.histogram(known.clip(low, high), BINS, (low, high))
    step, tallest = WIDTH / BINS, counts.max() or 1
    drawn = "".join(
        f"<rect x={index * step:.1f} y={HEIGHT - HEIGHT * count / tallest:.1f} width={step - 1:.1f} height={HEIGHT * count / tallest:.1f} "
        f"fill=var(--fill)><title>{count} clips from {low + index * (high - low) / BINS:.4g}</title></rect>"
        for index, count in enumerate(counts.tolist())
    )
    marks = "".join(mark(group, bound, WIDTH * (bound - low) / (high - low)) for group, bound in gathered(lines))
    ends = f"<text x=0 y={HEIGHT + 14}>{low:.3g}</text><text x={WIDTH} y={HEIGHT + 14} text-anchor=end>{high:.3g}</text>"
    return f"<svg viewBox='0 -26 {WIDTH} {HEIGHT + 44}' width={WIDTH} role=img>{drawn}{marks}{ends}</svg>"


def gathered(lines: Sequence[tuple[str, float]]) -> list[tuple[list[int], float]]:
    """Thresholds of one value together, with the tiers (by place) that share it."""
    order = list(dict.fromkeys(name for name, _ in lines))
    groups: dict[float, list[int]] = {}
    for name, bound in lines:
        groups.setdefault(bound, []).append(order.index(name))
    return [(tiers, bound) for bound, tiers in groups.items()]


def mark(tiers: Sequence[int], bound: float, x: float) -> str:
    """A line at a threshold: coloured by its first tier, labelled by their numbers, with its value in the tooltip."""
    colour, label = COLOURS[min(tiers) % len(COLOURS)], ",".join(str(tier + 1) for tier in tiers)
    up = 10 * (min(tiers) % 2)
    return (
        f"<g><title>tier {label}: {bound:g}</title>"
        f"<line x1={x:.1f} x2={x:.1f} y1={-4 - up} y2={HEIGHT} stroke='{colour}' stroke-width=1.5 />"
        f"<text x={x:.1f} y={-8 - up} text-anchor=middle style='fill:{colour}'>{label}</text></g>"
    )
