"""Plots as inline SVG: a radar of a family's metrics, and bars with their intervals."""

import html
import math
import textwrap
from collections.abc import Sequence

from kinema.evaluate.metrics.table import Metric
from kinema.evaluate.summary import Cell

HUES = (215, 20, 150, 290, 50, 180, 340, 100)  # of models, in degrees
RADIUS, MARGIN, WIDE = 110, 46, 240  # pixels; WIDE: half of the whole, so that a label has room beside the rim
LETTERS, LEADING = 16, 14  # of a label's line, and pixels between its lines
RINGS = (0.25, 0.5, 0.75, 1.0)
BAR, LABEL, SCALE = 16, 200, 300


def hue(model: int) -> str:
    return f"hsl({HUES[model % len(HUES)]} 65% 50%)"


def point(angle: float, length: float | int) -> str:
    return f"{WIDE + length * math.sin(angle):.1f},{RADIUS + MARGIN - length * math.cos(angle):.1f}"


def title_of(name: str) -> str:
    return name.replace("_", " ")


def radar(metrics: dict[str, Metric], cells: dict[str, list[Cell]], models: Sequence[str]) -> str:
    """Each metric on its own scale, the rim its best end; metrics without a value are left out. Empty below three of them."""
    names = [name for name in metrics if name in cells and all(cell.count for cell in cells[name])]
    if len(names) < 3:
        return ""
    angles = [2 * math.pi * place / len(names) for place in range(len(names))]
    rings = "".join(polygon(angles, [RADIUS * ring] * len(names), "ring") for ring in RINGS)
    spokes = "".join(f'<path class="ring" d="M{point(angle, 0)} L{point(angle, RADIUS)}"/>' for angle in angles)
    shapes = "".join(
        polygon(angles, [RADIUS * metrics[name].rated(cells[name][place].mean) for name in names], "shape", hue(place))
        for place in range(len(models))
    )
    labels = "".join(label(name, angle) for name, angle in zip(names, angles, strict=True))
    return f'<svg class="radar" viewBox="0 0 {2 * WIDE} {2 * (RADIUS + MARGIN)}" role="img">{rings}{spokes}{shapes}{labels}</svg>'


def polygon(angles: Sequence[float], lengths: Sequence[float | int], kind: str, color: str = "") -> str:
    points = " ".join(point(angle, length) for angle, length in zip(angles, lengths, strict=True))
    paint = f' style="stroke:{color};fill:{color}"' if color else ""
    return f'<polygon class="{kind}" points="{points}"{paint}/>'


def label(name: str, angle: float) -> str:
    """A metric's name at the rim, in as many lines as it needs."""
    x, y = point(angle, RADIUS + 14).split(",")
    side = math.sin(angle)
    anchor = "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"
    lines = textwrap.wrap(title_of(name), LETTERS)
    top = float(y) - LEADING * (len(lines) - 1) * (1 + math.cos(angle)) / 2  # above the rim its last line is nearest, below its first
    spans = "".join(f'<tspan x="{x}" y="{top + LEADING * place:.1f}">{html.escape(line)}</tspan>' for place, line in enumerate(lines))
    return f'<text text-anchor="{anchor}" dominant-baseline="middle">{spans}</text>'


def bars(metrics: dict[str, Metric], cells: dict[str, list[Cell]], models: Sequence[str]) -> str:
    """One group a metric, one bar a model on the metric's scale (right is better), its interval as a line."""
    names = [name for name in metrics if name in cells and any(cell.count for cell in cells[name])]
    step = BAR * len(models) + 12
    groups = "".join(group(metrics[name], name, cells[name], place * step) for place, name in enumerate(names))
    return f'<svg class="bars" viewBox="0 0 {LABEL + SCALE + 110} {step * len(names)}" role="img">{groups}</svg>'


def group(metric: Metric, name: str, cells: Sequence[Cell], top: float | int) -> str:
    middle = top + BAR * len(cells) / 2
    parts = [f'<text x="{LABEL - 8}" y="{middle:.0f}" text-anchor="end" dominant-baseline="middle">{html.escape(title_of(name))}</text>']
    for place, cell in enumerate(cells):
        if not cell.count:
            continue
        y = top + place * BAR
        end = SCALE * metric.rated(cell.mean)
        parts.append(f'<rect x="{LABEL}" y="{y + 2}" width="{max(1.0, end):.1f}" height="{BAR - 4}" fill="{hue(place)}"/>')
        if not math.isnan(cell.low):
            low, high = sorted(LABEL + SCALE * metric.rated(value) for value in (cell.low, cell.high))
            parts.append(f'<path class="whisker" d="M{low:.1f},{y + BAR / 2} H{high:.1f}"/>')
        parts.append(f'<text class="value" x="{LABEL + SCALE + 8}" y="{y + BAR / 2}" dominant-baseline="middle">{figure(cell.mean)}</text>')
    return "".join(parts)


def figure(value: float | int) -> str:
    """Three digits that matter."""
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
