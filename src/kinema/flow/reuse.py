"""Fewer computations for the same steps: velocities used again, blocks left out, and guidance only where it matters.

Velocities of neighbouring steps are alike, so the last one stands in for those between (`reused`). Nearer: the first block always works,
and what it adds tells how far this step is from the last one that was computed whole; while that is within a bound, what all other
blocks added then is added again (`BlockCache`), or goes on as a straight line through the last two (forecast).
All wrap a velocity or a trunk from outside, so they go together, and with any way to place or split a model.
Sources: Liu et al. 2024 (arXiv 2411.19108) for steps that decide by their change, Cheng 2024 (ParaAttention) for deciding by the first
block; Liu et al. 2025 (arXiv 2503.06923) for the forecast; Kynkäänniemi et al. 2024 (arXiv 2404.07724) for guidance in an interval.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.flow.samplers import Velocity

WARM_UP = 3  # calls that are all made: the path bends most at the start
TINY = 1e-12
Tokens = Float[Tensor, "B L D"]
Given = Bool[Tensor, "B L 1"] | None


def reused(velocity: Velocity, every: int) -> Velocity:
    """Call `velocity` once in `every` times, after the first few, and give its last answer in between.

    every: 1 leaves it as it is. For one run: make a new one for the next.
    """
    return velocity if every == 1 else Reused(velocity, every)


class Reused:
    """Remembers the last velocity."""

    def __init__(self, velocity: Velocity, every: int):
        self.velocity, self.every = velocity, every
        self.asked = 0
        self.last: Tensor | None = None

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        since, self.asked = self.asked - WARM_UP + 1, self.asked + 1
        if self.last is None or since <= 0 or since % self.every == 0:
            self.last = self.velocity(x, sigma)
        return self.last


Rest = Callable[[], Tensor]
"""All blocks after the first, with what the first made of the tokens."""
Total = Callable[[Tensor], Tensor]
"""A sum over the ranks that share the tokens."""


def alone(numbers: Tensor) -> Tensor:
    """For a single process."""
    return numbers


class BlockCache:
    """Says at which steps of one run the blocks after the first are computed, for all texts alike: guidance subtracts their velocities."""

    def __init__(self, threshold: float, forecast: bool = False, total: Total = alone):
        """threshold: relative change (L1) of what the first block adds since the last step computed whole, below which the others'
        part is not computed; 0: always computed. forecast: that part goes on as a straight line, rather than staying.
        """
        self.threshold, self.forecast, self.total = threshold, forecast, total
        self.step = self.whole = 0  # numbers of this step, and of the last one that was computed whole
        self.sigma: float | None = None
        self.called: set[int] = set()

    def stream(self) -> "Stream":
        """For the velocities of one text."""
        return Stream(self)

    def begin(self, stream: "Stream", sigma: float) -> bool:
        """Whether this call is the first of a step; a step calls each stream once."""
        opens = sigma != self.sigma or id(stream) in self.called
        if opens:
            self.step, self.sigma, self.called = self.step + 1, sigma, set()
        self.called.add(id(stream))
        return opens


class Stream:
    """What was computed for one text: what the first block added, and what the others added after it."""

    def __init__(self, cache: BlockCache):
        self.cache = cache
        self.first: Tensor | None = None
        self.kept: list[tuple[int, Tensor]] = []  # (step, what the others added), newest first

    def call(self, sigma: float, rest: Rest, before: Tokens, after: Tokens, given: Given) -> Tokens:
        """What all blocks make of video tokens. before, after: the first block; given: tokens that do not count."""
        cache, added = self.cache, after - before
        if cache.begin(self, sigma) and not self.is_near(added, given):
            cache.whole = cache.step
        if cache.whole != cache.step and self.kept and self.kept[0][0] == cache.whole:
            return after + self.expected()
        made = rest()
        self.first = added
        self.kept = [(cache.step, made - after), *self.kept[: int(cache.forecast)]]
        return made

    def is_near(self, added: Tokens, given: Given) -> bool:
        """Whether the first block adds about what it added at the last step that was computed whole."""
        if self.first is None or not self.kept or self.kept[0][0] != self.cache.whole:
            return False
        parts: tuple[Tensor, ...] = ((added - self.first).abs(), self.first.abs())
        parts = parts if given is None else tuple(part.masked_fill(given, 0) for part in parts)
        moved, size = self.cache.total(torch.stack([part.sum(dtype=torch.float32) for part in parts])).tolist()
        return moved < self.cache.threshold * max(size, TINY)

    def expected(self) -> Tokens:
        """What the other blocks would add now."""
        (step, last), *earlier = self.kept
        if not earlier:
            return last
        before, other = earlier[0]
        return last + (last - other) * ((self.cache.step - step) / (step - before))


def guided_within(guided: Velocity, plain: Velocity, interval: tuple[float, float]) -> Velocity:
    """`guided` at noise levels in the interval, both ends included, and `plain`, which costs half, at the others."""
    low, high = interval
    return lambda x, sigma: guided(x, sigma) if low <= sigma <= high else plain(x, sigma)
