"""Noise levels from 1 (pure noise) to 0 (data): where a sampler stops on its way.

The model is told 1000 sigma.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError

MANY_STEPS, SHIFT_AT_MANY = 50, 7.0
FEW_STEPS, SHIFT_AT_FEW = 20, 17.0


def shift_sigmas(sigmas: Float[Tensor, " S"], shift: float) -> Float[Tensor, " S"]:
    """Spend more of a schedule at high noise; 0 and 1 stay where they are.

    sigmas: noise levels in [0, 1].
    shift: 1 changes nothing; HunyuanVideo samples with 7.
    Raises InputError unless shift > 0.
    Source: Esser et al. 2024 (arXiv 2403.03206), resolution-dependent timestep shifting.
    """
    if not shift > 0:
        raise InputError(f"shift={shift} must be above 0: 1 leaves the schedule as it is, 7 is usual for video")
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def schedule(steps: int, shift: float) -> Float[Tensor, " S"]:
    """The steps + 1 noise levels of a run, from 1 down to 0, float32.

    Raises InputError unless steps >= 1 and shift > 0.
    """
    if steps < 1:
        raise InputError(f"steps={steps} must be at least 1: 50 is usual")
    return shift_sigmas(torch.linspace(1, 0, steps + 1), shift)


def refining(steps: int, strength: float) -> Float[Tensor, " S"]:
    """Noise levels of a second pass, from `strength` down to 0: its share of a whole run's steps, evenly, since what shift spends more
    steps on, the choice of what is seen, is made.

    Raises InputError unless steps >= 1 and 0 < strength < 1.
    Source: SDEdit (Meng et al. 2022, arXiv 2108.01073), section 3.
    """
    if not 0 < strength < 1:
        raise InputError(f"strength={strength} must lie between 0 (the draft, enlarged) and 1 (nothing of it): 0.5 is usual")
    return strength * schedule(max(round(steps * strength), 1), 1.0)


def default_shift(steps: int) -> float:
    """The shift for a number of steps where the caller names none: 7 from 50 steps on, 17 below 20 steps, a straight line between.

    Source: HunyuanVideo (arXiv 2412.03603), section 4.5 gives the two ends; the line between is ours.
    """
    share = (MANY_STEPS - steps) / (MANY_STEPS - FEW_STEPS)
    return SHIFT_AT_MANY + (SHIFT_AT_FEW - SHIFT_AT_MANY) * min(max(share, 0.0), 1.0)


def timesteps(sigmas: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
    """What the model is told at these noise levels: 0 to 1000."""
    return 1000 * sigmas
