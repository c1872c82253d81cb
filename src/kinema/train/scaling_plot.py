"""A scaling law as a picture: each budget's valley, and the two power laws through the floors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import MissingExtraError
from kinema.media.files import whole_file
from kinema.train.scaling_fit import Fit, Point

SIZE = (12, 3.8)  # inches
DPI = 90


def plot(fit: Fit, points: Sequence[Point], path: Path) -> None:
    """Write the picture as PNG. Raises MissingExtraError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    figure = Figure(figsize=SIZE, layout="constrained")
    valleys, sizes, tokens = figure.subplots(1, 3)
    draw_valleys(valleys, fit, points)
    draw_law(sizes, fit, "params", "best size N, billions")
    draw_law(tokens, fit, "tokens", "best tokens D, billions")
    with whole_file(path) as draft:
        figure.savefig(draft, dpi=DPI, format="png")


def draw_valleys(axes: Any, fit: Fit, points: Sequence[Point]) -> None:
    for each in fit.valleys:
        mine = [point for point in points if point.budget == each.budget]
        (line,) = axes.plot([p.params for p in mine], [p.loss for p in mine], "o", label=f"{each.budget:.3g} PF")
        ends = [p.params for p in mine] + ([each.params] if each.within else [])
        x = np.geomspace(min(ends), max(ends), 60)
        axes.plot(x, np.polyval(each.curve, np.log(x)), color=line.get_color())
        if each.within:
            axes.plot([each.params], [each.loss], "v", color="black")
    axes.set(xscale="log", xlabel="size N, billions", ylabel="held-out loss", title="loss at each budget")
    axes.legend(fontsize="small")


def draw_law(axes: Any, fit: Fit, what: str, label: str) -> None:
    """The floors, the line through them, and the band of the resamples."""
    used = [each for each in fit.valleys if each.within]
    x = np.geomspace(min(each.budget for each in used) / 2, max(each.budget for each in used) * 2, 40)
    power = fit.law.size if what == "params" else fit.law.tokens
    interval = fit.size_interval if what == "params" else fit.tokens_interval
    low, high = zip(*map(interval, x), strict=True)
    axes.fill_between(x, low, high, alpha=0.2)
    axes.plot(x, power.a * x**power.b, label=f"{power.a:.3g} C^{power.b:.2f}")
    axes.plot([each.budget for each in used], [getattr(each, what) for each in used], "v", color="black")
    axes.set(xscale="log", yscale="log", xlabel="compute C, PetaFLOPs", ylabel=label, title="through the floors; 95 % of the redraws")
    axes.set_xticks([each.budget for each in used], [f"{each.budget:.3g}" for each in used])
    axes.minorticks_off()
    axes.legend(fontsize="small")
