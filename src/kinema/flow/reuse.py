"""Fewer calls of the model for the same steps: forecasts between calls, and guidance only where it matters.

Both wrap a velocity and know nothing of the model, so they go together, and with any way to place or split it.
Sources: Liu et al. 2025 (arXiv 2503.06923) forecast features from those of earlier steps by a Taylor series; here it is the velocity
itself, through Lagrange's polynomial, as steps are not of one size. Kynkäänniemi et al. 2024 (arXiv 2404.07724): guidance in an interval.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kinema.flow.samplers import Velocity

ORDER = (
    0  # of the polynomial; on mini, at 30 steps and one call in 3, orders 0, 1, 2 came within 31, 23 and 9 dB of every call (docs/speed.md)
)
WARM_UP = 3  # calls that are all made: the path bends most at the start


def forecasting(velocity: Velocity, every: int) -> Velocity:
    """Call `velocity` once in `every` times, after the first few; in between, go on as the last ones.

    every: 1 leaves it as it is. For one run: make a new one for the next.
    """
    return velocity if every == 1 else Forecast(velocity, every)


class Forecast:
    """Remembers the last velocities, and continues them as a polynomial of the noise level."""

    def __init__(self, velocity: Velocity, every: int, order: int = ORDER):
        self.velocity, self.every, self.order = velocity, every, order
        self.calls = 0
        self.known: list[tuple[float, Tensor]] = []

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        number, self.calls = self.calls, self.calls + 1
        if number < WARM_UP or (number - WARM_UP + 1) % self.every == 0:
            found = self.velocity(x, sigma)
            self.known = [*(each for each in self.known if each[0] != sigma), (sigma, found)][-self.order - 1 :]
            return found
        weights = lagrange([level for level, _ in self.known], sigma)
        return torch.stack([weight * found.float() for weight, (_, found) in zip(weights, self.known, strict=True)]).sum(0)


def lagrange(levels: Sequence[float], wanted: float) -> list[float]:
    """How much of each value at `levels` makes the polynomial through them at `wanted`; exact up to degree len(levels) - 1."""
    weights = []
    for i, own in enumerate(levels):
        weight = 1.0
        for other in (*levels[:i], *levels[i + 1 :]):
            weight *= (wanted - other) / (own - other)
        weights.append(weight)
    return weights


def guided_within(guided: Velocity, plain: Velocity, interval: tuple[float, float]) -> Velocity:
    """`guided` at noise levels in the interval, both ends included, and `plain`, which costs half, at the others."""
    low, high = interval
    return lambda x, sigma: guided(x, sigma) if low <= sigma <= high else plain(x, sigma)
