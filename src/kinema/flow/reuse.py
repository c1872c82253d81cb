"""Fewer calls of the model for the same steps: velocities used again between calls, and guidance only where it matters.

Both wrap a velocity and know nothing of the model, so they go together, and with any way to place or split it.
Velocities of neighbouring steps are alike, so the last one stands in for those between. Continuing it as a polynomial of the noise level,
as Liu et al. 2025 (arXiv 2503.06923) do with features, came out worse on mini (docs/speed.md).
Guidance in an interval: Kynkäänniemi et al. 2024 (arXiv 2404.07724).
"""

from torch import Tensor

from kinema.flow.samplers import Velocity

WARM_UP = 3  # calls that are all made: the path bends most at the start


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


def guided_within(guided: Velocity, plain: Velocity, interval: tuple[float, float]) -> Velocity:
    """`guided` at noise levels in the interval, both ends included, and `plain`, which costs half, at the others."""
    low, high = interval
    return lambda x, sigma: guided(x, sigma) if low <= sigma <= high else plain(x, sigma)
