"""One case measured: first whether its sides agree, then how long each takes, then how much memory."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kinema.errors import KinemaError
from kinema.evaluate.bench.cases import Case
from kinema.evaluate.bench.memory import peak_of
from kinema.evaluate.bench.timing import Clock, Times, Work, interleaved
from kinema.pipelines.placement import Placement, dtype_name

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}  # of the largest value; rounding adds up over layers


@dataclass(frozen=True)
class Figures:
    """What one side took."""

    times: Times
    peak: int | None  # bytes at the peak over weights and inputs; None: not measured


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case and its figures; the first side is judged, the others are what it is held against."""

    part: str
    name: str
    dtype: str
    sides: dict[str, Figures]
    difference: float | None = None  # largest one between sides that must agree
    largest: float | None = None  # value of the output, to see the difference by
    load: tuple[float, ...]  # average over 1, 5, 15 minutes, at the end

    @property
    def judged(self) -> Figures:
        return next(iter(self.sides.values()))

    def speed(self, other: str) -> float:
        """How many times as fast as the other side: ratio of the best times."""
        return self.sides[other].times.best / self.judged.times.best

    def memory(self, other: str) -> float | None:
        """Which share of the other side's peak memory."""
        mine, theirs = self.judged.peak, self.sides[other].peak
        return None if mine is None or not theirs else mine / theirs


def measure(part: str, case: Case, placement: Placement, rounds: int, seconds: float, clock: Clock = time.perf_counter) -> Row:
    """Measure one case.

    rounds, seconds: time for at least so many rounds and at least so long.
    Raises KinemaError where sides that must agree do not: their times would not be of the same thing.
    """
    with torch.inference_mode():
        works = {name: side(placement) for name, side in case.sides.items()}
        difference, largest = disagreement(case, works, placement)
        times = interleaved(works, rounds, seconds, waiter(placement.device), clock)
    del works
    torch.cuda.empty_cache()  # leave the device to the processes below; does nothing where there is none
    sides = {name: Figures(times[name], peak_of(side, placement)) for name, side in case.sides.items()}
    return Row(part=part, name=case.name, dtype=label(placement), sides=sides, difference=difference, largest=largest, load=load())


def label(placement: Placement) -> str:
    return dtype_name(placement.dtype) + (" compiled" if placement.compile != "none" else "")


def disagreement(case: Case, works: dict[str, Work], placement: Placement) -> tuple[float | None, float | None]:
    """Largest difference of the sides that must agree, and the output's largest value; calls every side once."""
    outputs = {name: whole(work) for name, work in works.items()}
    expected = next(iter(outputs.values()))
    if not case.agree:
        return None, None
    difference = max(float((outputs[name] - expected).abs().max()) for name in case.agree)
    largest = float(expected.abs().max())
    if not difference <= tolerance(placement) * largest:
        raise KinemaError(
            f"{case.name}: {' and '.join((next(iter(case.sides)), *case.agree))} differ by {difference:.2g} where values reach "
            f"{largest:.2g} in {dtype_name(placement.dtype)}: their times would not be of the same thing"
        )
    return difference, largest


def tolerance(placement: Placement) -> float:
    """On CUDA, float32 convolutions round to TF32 by default, whose mantissa is that of float16."""
    tf32 = placement.device.type == "cuda" and placement.dtype == torch.float32
    return TOLERANCE[torch.float16 if tf32 else placement.dtype]


def whole(work: Work) -> Tensor:
    return torch.cat(list(work()), dim=2).float()


def waiter(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done its work; the CPU has when a call returns."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def load() -> tuple[float, ...]:
    """The machine's load average; empty where the system has none."""
    return tuple(round(each, 2) for each in os.getloadavg()) if hasattr(os, "getloadavg") else ()
