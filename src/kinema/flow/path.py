"""The straight path between data and noise, and where on it training looks.

x at sigma is (1 - sigma) data + sigma noise; along it the velocity dx/dsigma is noise - data everywhere.
Source: Lipman et al. 2023 (arXiv 2210.02747); Liu et al. 2023 (arXiv 2209.03003).
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinema.flow.sigmas import shift_sigmas


def interpolate(data: Float[Tensor, " B *rest"], noise: Float[Tensor, " B *rest"], sigma: Float[Tensor, " B"]) -> Float[Tensor, " B *rest"]:
    """Each sample at its own noise level in [0, 1]: 0 gives the data, 1 the noise."""
    level = rearrange(sigma, f"B -> B {'1 ' * (data.ndim - 1)}")
    return (1 - level) * data + level * noise


def velocity_target(data: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What the model learns to predict."""
    return noise - data


def training_sigmas(count: int, shift: float, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Noise levels to train at, strictly between 0 and 1, on the generator's device: logit-normal(0, 1), then shifted as in sampling.

    Source: Esser et al. 2024 (arXiv 2403.03206), section 3.1.
    """
    return shift_sigmas(torch.randn(count, generator=generator, device=generator.device).sigmoid(), shift)
