"""Solvers of dx/dsigma = velocity(x, sigma), from noise at sigma 1 to data at sigma 0.

Each works in float32 (or float64, where the noise is), whatever the model computes in, and each states its order: halve the steps
of a solver of order p and its error shrinks 2^p times. A new one needs a function and a line in SAMPLERS; the tests take it in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""(x, sigma) -> dx/dsigma, of x's shape."""
OnStep = Callable[[int, Tensor], None]
"""(steps done, the clean latents as predicted at that step): for progress and previews."""


def ignore_step(done: int, clean: Tensor) -> None:
    """For callers that do not want to know."""


@dataclass(frozen=True)
class Sampler:
    """A solver and what it promises."""

    solve: Callable[[Velocity, Tensor, list[float], OnStep], Tensor]
    order: int
    calls: int  # of the model, a step

    def __call__(
        self, velocity: Velocity, noise: Float[Tensor, "*shape"], sigmas: Float[Tensor, " S"], on_step: OnStep | None = None
    ) -> Float[Tensor, "*shape"]:
        """From noise to data along `sigmas`, which fall from 1 to 0."""
        start = noise.to(torch.promote_types(noise.dtype, torch.float32))
        return self.solve(lambda x, sigma: velocity(x, sigma).to(x.dtype), start, sigmas.tolist(), on_step or ignore_step)


def steps_of(sigmas: list[float]) -> Iterator[tuple[int, float, float]]:
    """(number from 1, sigma, sigma of the next stop) of each step."""
    return ((number, now, after) for number, (now, after) in enumerate(pairwise(sigmas), 1))


def euler(velocity: Velocity, x: Tensor, sigmas: list[float], on_step: OnStep) -> Tensor:
    """Straight on; exact where the velocity is constant, as a perfect straight path would have it."""
    for number, now, after in steps_of(sigmas):
        slope = velocity(x, now)
        on_step(number, x - now * slope)
        x = x + (after - now) * slope
    return x


def heun(velocity: Velocity, x: Tensor, sigmas: list[float], on_step: OnStep) -> Tensor:
    """Go, look again, and take the mean of both slopes; the last step, onto sigma 0, is Euler's: there is nothing to look at beyond it.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
    """
    for number, now, after in steps_of(sigmas):
        slope = velocity(x, now)
        on_step(number, x - now * slope)
        if after > 0:
            slope = (slope + velocity(x + (after - now) * slope, after)) / 2
        x = x + (after - now) * slope
    return x


def adams(velocity: Velocity, x: Tensor, sigmas: list[float], on_step: OnStep) -> Tensor:
    """Adams-Bashforth of two steps: the slope is carried on as it changed since the step before, for one call a step.

    Source: Hairer, Nørsett and Wanner 1993, Solving Ordinary Differential Equations I, section III.5 (variable steps).
    """
    last_slope, last_move = None, 1.0
    for number, now, after in steps_of(sigmas):
        slope, move = velocity(x, now), after - now
        on_step(number, x - now * slope)
        bend = 0 if last_slope is None else (slope - last_slope) * (move / last_move / 2)
        x = x + move * (slope + bend)
        last_slope, last_move = slope, move
    return x


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(euler, order=1, calls=1),
    "heun": Sampler(heun, order=2, calls=2),
    "adams": Sampler(adams, order=2, calls=1),
}
