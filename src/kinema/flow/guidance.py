"""Ways to follow the prompt more closely: away from another prompt (two calls a step; three, where a picture of the subject is followed at
a scale of its own), or told to the model (one call).

Sources: Ho and Salimans 2022 (arXiv 2207.12598) for classifier-free guidance; Brooks et al. 2023 (arXiv 2211.09800) for two scales;
Meng et al. 2023 (arXiv 2210.03142) for guidance distilled into an embedding.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.flow.samplers import Velocity


def classifier_free(unconditional: Velocity, conditional: Velocity, scale: float) -> Velocity:
    """Away from the unconditional (or negative) prompt, by `scale` times the way to the conditional one.

    scale: 1 is the conditional velocity alone, at one call a step; 6 is usual.
    """
    if scale == 1:
        return conditional

    def velocity(x: Float[Tensor, "*shape"], sigma: float) -> Float[Tensor, "*shape"]:
        base = unconditional(x, sigma).to(x.dtype)
        return base + scale * (conditional(x, sigma).to(x.dtype) - base)

    return velocity


def by_two_scales(unconditional: Velocity, by_text: Velocity, by_both: Velocity, scale: float, reference_scale: float) -> Velocity:
    """From the unconditional prompt `scale` times the way to the prompt, and from there `reference_scale` times that to the picture too.

    Three calls a step; with equal scales the middle one falls out, and it is `classifier_free` of the first and the last.
    """
    if scale == reference_scale:
        return classifier_free(unconditional, by_both, scale)

    def velocity(x: Float[Tensor, "*shape"], sigma: float) -> Float[Tensor, "*shape"]:
        base, text, both = (each(x, sigma).to(x.dtype) for each in (unconditional, by_text, by_both))
        return base + scale * (text - base) + reference_scale * (both - text)

    return velocity


def embedded_guidance(scale: float | Tensor, dtype: torch.dtype) -> Float[Tensor, "*any"]:
    """The value that a guidance-distilled model is told: 1000 x scale, rounded by bfloat16 as in its training: 6.0 becomes 6016."""
    return (torch.as_tensor(scale, dtype=torch.bfloat16) * 1000).to(dtype)
