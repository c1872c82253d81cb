"""What work costs as it grows: seconds and memory of one DiT step, one decode and a whole sampling, over frames, size and steps.

Each curve has its exponent, the slope of a straight line through its points on logarithmic axes, beside that of theory: the same line
through what the ledger counts for the same work, operations for time and bytes alive for memory.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinema.errors import MissingExtraError
from kinema.evaluate.bench import sides
from kinema.evaluate.bench.cases import Subject
from kinema.evaluate.bench.measure import waiter
from kinema.evaluate.bench.memory import Side, growth
from kinema.evaluate.bench.timing import CLOCKS, Work, interleaved
from kinema.flow.samplers import SAMPLERS
from kinema.flow.sigmas import schedule
from kinema.media.files import whole_file
from kinema.pipelines.dryrun import Need, need_of_dit, need_of_vae
from kinema.pipelines.placement import Placement
from kinema.pipelines.plan import return_freed_memory
from kinema.shapes import PixelShape

FRAMES, SIDES, STEPS = (9, 17, 33, 65, 129), (64, 96, 128, 192, 256), (2, 4, 8, 16)
BASE = PixelShape(33, 128, 128)
SHIFT = 7.0
SIZE, DPI = (11, 7), 90  # of the picture in inches


@dataclass(frozen=True, kw_only=True)
class Point:
    """One amount of work: what it took, and what the ledger counts for it."""

    x: float
    seconds: float
    peak: int | None  # bytes over weights and inputs
    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One part over one axis."""

    part: str
    axis: str
    points: tuple[Point, ...]

    def exponents(self) -> dict[str, float | None]:
        """Of time and memory, as measured and as counted; None where nothing was measured, or it is too little to tell."""
        return {name: self.slope(name) for name in ("seconds", "flops", "peak", "bytes")}

    def slope(self, name: str) -> float | None:
        x, y = [point.x for point in self.points], [getattr(point, name) for point in self.points]
        return None if not all(y) else float(np.polyfit(np.log(x), np.log(y), 1)[0])

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"exponents": self.exponents()}


def measure_curves(
    subject: Subject, placement: Placement, rounds: int, clock: str, on_curve: Callable[[Curve], None] = lambda curve: None
) -> list[Curve]:
    """rounds: each amount of work is timed so many times, in turn with the others of its curve; the best counts."""
    curves = []
    for part, axis, works, needs in plans(subject, placement):
        with torch.inference_mode():
            made = {str(x): side(placement) for x, side in works.items()}
            times = interleaved(made, rounds, 0.0, waiter(placement.device), CLOCKS[clock])
        del made
        peaks = peaks_of(list(works.values()), placement)
        taken = zip(works, times.values(), peaks, needs, strict=True)
        points = (Point(x=x, seconds=time.best, peak=peak, flops=need.flops, bytes=need.work) for x, time, peak, need in taken)
        curves.append(Curve(part=part, axis=axis, points=tuple(points)))
        on_curve(curves[-1])
    return curves


def plans(subject: Subject, placement: Placement) -> Iterator[tuple[str, str, dict[int, Side], list[Need]]]:
    """Each curve: its part, its axis, the work at each amount, and what is counted for it."""
    axes = {
        "frames": {frames: PixelShape(frames, BASE.height, BASE.width) for frames in FRAMES},
        "pixels a side": {side: PixelShape(BASE.frames, side, side) for side in SIDES},
    }
    dit, vae = subject.config.dit, subject.config.vae
    weights = (subject.files.dit, subject.files.vae) if subject.files else (None, None)
    accelerator = placement.device.type != "cpu"
    for axis, shapes in axes.items():
        steps: dict[int, Side] = {x: partial(sides.dit_step, dit, shape, weights[0]) for x, shape in shapes.items()}
        needs = [need_of_dit(dit, shape.latent, sides.TEXT_TOKENS, placement.dtype, accelerator) for shape in shapes.values()]
        yield "DiT step", axis, steps, needs
        decode = sides.vae_decode_stream if vae.streams else sides.vae_decode
        decodes: dict[int, Side] = {x: partial(decode, vae, shape, weights[1]) for x, shape in shapes.items()}
        yield "VAE decode", axis, decodes, [decode_need(subject, shape, placement) for shape in shapes.values()]
    one = need_of_dit(dit, BASE.latent, sides.TEXT_TOKENS, placement.dtype, accelerator)
    samplings: dict[int, Side] = {steps: partial(sampling, subject, steps) for steps in STEPS}
    yield "sampling", "steps", samplings, [Need(one.weights, one.work, steps * one.flops) for steps in STEPS]


def decode_need(subject: Subject, shape: PixelShape, placement: Placement) -> Need:
    """Of the whole clip: where it streams, the rehearsed piece is a few frames of it."""
    vae, accelerator = subject.config.vae, placement.device.type != "cpu"
    need = need_of_vae(vae, shape.latent, placement.vae_dtype, accelerator)
    if not vae.streams:
        return need
    few = need_of_vae(vae, PixelShape(5, shape.height, shape.width).latent, placement.vae_dtype, accelerator)
    more = need_of_vae(vae, PixelShape(9, shape.height, shape.width).latent, placement.vae_dtype, accelerator)
    return Need(need.weights, need.work, few.flops + (shape.latent.t - 2) * (more.flops - few.flops))


def sampling(subject: Subject, steps: int, placement: Placement) -> Work:
    """Euler from noise to latents, without classifier-free guidance."""
    config, weights = subject.config.dit, subject.files.dit if subject.files else None
    dit = sides.make_dit(config, weights).to(placement.device, placement.dtype)
    inputs = sides.dit_inputs(config, BASE, placement)
    noise = inputs.pop("latents")
    del inputs["time"]

    def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return dit(x.to(placement.dtype), torch.tensor([1000 * sigma], device=placement.device), **inputs)

    return lambda: [SAMPLERS["euler"](velocity, noise.float(), schedule(steps, SHIFT))]


def peaks_of(works: Sequence[Side], placement: Placement) -> list[int | None]:
    """Of each, one after another in a process of their own; freed memory goes back at once, so that none lives in another's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        fresh.submit(return_freed_memory).result()
        return [fresh.submit(growth, work, placement).result() for work in works]


def lines(curves: Sequence[Curve]) -> list[str]:
    """A table in Markdown."""
    head = [
        "| part | over | exponent of time | of operations, counted | exponent of memory | of bytes, counted |",
        "|---|---|---|---|---|---|",
    ]
    return head + [
        f"| {curve.part} | {curve.axis} | {' | '.join('-' if value is None else f'{value:.2f}' for value in curve.exponents().values())} |"
        for curve in curves
    ]


def plot(curves: Sequence[Curve], path: Path) -> None:
    """Time above, memory below, a column an axis; dashed is theory, through the middle point. Raises MissingExtraError."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = list(dict.fromkeys(curve.axis for curve in curves))
    frames = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        for curve in (each for each in curves if each.axis == axis):
            draw(frames[0, column], curve, "seconds", "flops", 1.0)
            draw(frames[1, column], curve, "peak", "bytes", 1e6)
        frames[0, column].set(title=f"over {axis}", ylabel="seconds, best")
        frames[1, column].set(xlabel=axis, ylabel="peak over weights, MB")
    with whole_file(path) as draft:
        figure.savefig(draft, dpi=DPI, format="png")


def draw(axes: Any, curve: Curve, measured: str, counted: str, unit: float) -> None:
    x = [point.x for point in curve.points]
    y, theory = ([getattr(point, name) for point in curve.points] for name in (measured, counted))
    if not all(y):
        return
    slopes = [curve.slope(name) or 0.0 for name in (measured, counted)]
    (line,) = axes.plot(x, [value / unit for value in y], "o-", label=f"{curve.part}: {slopes[0]:.2f}, theory {slopes[1]:.2f}")
    scale = math.exp(float(np.mean(np.log(y) - np.log(theory)))) / unit
    axes.plot(x, [value * scale for value in theory], "--", color=line.get_color())
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.legend(fontsize="small")
