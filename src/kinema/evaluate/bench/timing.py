"""Seconds that rival pieces of work take, measured in turn so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Work = Callable[[], Iterable[Any]]
"""One call of what is measured; it gives its output piece by piece, so that a stream needs to be held nowhere."""


@dataclass(frozen=True)
class Times:
    """Seconds of each call. The best is what the work itself takes; the median shows how busy the machine was."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What seconds are: those of the clock, or those that this process worked, which on a busy machine tell more where one thread does all."""


def interleaved(
    works: Mapping[str, Work], rounds: int, seconds: float, finish: Callable[[], None], clock: Clock = time.perf_counter
) -> dict[str, Times]:
    """Time every work once a round, and turn the order around from round to round; call each once before, to warm up.

    rounds, seconds: go on for at least so many rounds and at least so long.
    finish: waits until the device has done what it was told.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    began = time.perf_counter()
    done = 0
    while done < rounds or time.perf_counter() - began < seconds:
        for name in order:
            taken[name].append(timed(works[name], finish, clock))
        order.reverse()
        done += 1
    return {name: Times(tuple(each)) for name, each in taken.items()}


def timed(work: Work, finish: Callable[[], None], clock: Clock) -> float:
    finish()
    began = clock()
    for _ in work():
        pass
    finish()
    return clock() - began
