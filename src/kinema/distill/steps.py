"""Few-step distillation: a student whose single Euler step goes as far as many small steps of its teacher.

The way from noise to data is cut into as many phases as the student shall take steps. Within a phase every point must land on the
phase's end, and on the same point of it as the teacher's next stop: consistency, phase by phase. Landing is
x + (end - sigma) velocity, so at the end of a phase the student is the identity whatever it has learned, and the student's sampler
is plain Euler along the phases' ends.
Sources: Song et al. 2023 (arXiv 2303.01469); Luo et al. 2023 (arXiv 2310.04378) for latents and guidance; Wang et al. 2024
(arXiv 2405.18407) for phases.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from kinema.distill.guidance import Guided, Latents, Scene, noised, squared_error
from kinema.errors import InputError
from kinema.flow.sigmas import schedule

Field = Callable[[Any, Float[Tensor, " B"]], Any]
"""(x [B ...], a noise level each) -> velocity."""


@dataclass(frozen=True, kw_only=True)
class StepsTask:
    """How many steps the student takes, and how finely its teacher walks."""

    steps: int = 4
    shift: float = 5.0  # of the schedule that the student will be sampled with
    stops: int = 8  # of the teacher, a phase
    jump: int = 2  # of the teacher's steps before the student takes over; `stops` leaves it nothing, which is plain imitation

    def __post_init__(self):
        if self.steps < 1 or self.stops < 1:
            raise InputError(f"steps={self.steps} and stops={self.stops} must be at least 1: 4 and 8 are usual")
        if not 1 <= self.jump <= self.stops:
            raise InputError(f"jump={self.jump} must be 1 to stops={self.stops}: the teacher stays within a phase")

    @property
    def sigmas(self) -> Float[Tensor, " S"]:
        """Every stop of the teacher, from 1 to 0; each `stops`-th ends a phase."""
        return schedule(self.steps * self.stops, self.shift)

    def stretch(self, start: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B J"], Float[Tensor, " B"]]:
        """From stops of these numbers: the noise levels that the teacher walks along, and that on which the phase ends.

        A walk that reaches the end of its phase stays there.
        """
        sigmas, last = self.sigmas.to(start.device), (start // self.stops + 1) * self.stops
        along = start[:, None] + torch.arange(self.jump + 1, device=start.device)
        return sigmas[along.minimum(last[:, None])], sigmas[last]


def column(sigma: Float[Tensor, " B"], like: Tensor) -> Tensor:
    return rearrange(sigma, f"B -> B {'1 ' * (like.ndim - 1)}")


def wanted_velocity(teacher: Field, student: Field, x: Tensor, walk: Float[Tensor, "B J"], end: Float[Tensor, " B"]) -> Tensor:
    """The velocity that takes x at walk[:, 0] to where the teacher, and the student from walk[:, -1] on, would land at `end`.

    With `walk` ending on `end` the student has no say.
    """
    there = x
    for now, after in pairwise(walk.unbind(1)):
        there = there + column(after - now, x) * teacher(there, now)
    landing = there + column(end - walk[:, -1], x) * student(there, walk[:, -1])
    return (landing - x) / column(end - walk[:, 0], x)


def steps_loss(
    student: Guided, teacher: Guided, data: Latents, noise: Latents, scene: Scene, task: StepsTask, start: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], dict[str, Tensor]]:
    """Squared error of the student's velocity against the one that lands consistently, sample by sample; `phase_n` is that of phase n.

    start: the number of the stop that each sample is at.
    """
    walk, end = task.stretch(start)
    noisy = noised(data, noise, walk[:, 0], scene.given)
    with torch.no_grad():
        wanted = wanted_velocity(held(teacher, scene), held(student, scene), noisy, walk, end)
    error = squared_error(student(noisy, walk[:, 0], scene), wanted, scene.given)
    phase = start // task.stops
    return error, {f"phase_{n}": error.detach()[phase == n].mean() for n in range(task.steps)}


def held(model: Guided, scene: Scene) -> Field:
    """The model's velocity for a scene, with frames that are given standing still."""
    return lambda x, sigma: model(x, sigma, scene).masked_fill(scene.given[:, None, :, None, None], 0)
