"""A transformer bound to what a request fixes: one text and what is given, so that only latents and the noise level are left."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.conditioning.frames import Known
from kinema.dit.model import DiT, DiTConfig
from kinema.flow.path import interpolate
from kinema.flow.reuse import Stream
from kinema.flow.samplers import Velocity
from kinema.pipelines.base import Request
from kinema.text.encoder import TextStates

TRACE = 0.001  # of the first frame in the noise, with stability


def bind(
    dit: DiT,
    states: TextStates,
    embedded: Float[Tensor, " 1"] | None,
    known: Known | None,
    stream: Stream | None = None,
    reference: Float[Tensor, "1 C r h w"] | None = None,
) -> Velocity:
    """The model with one trimmed text and what is given, as a velocity of latents [1 C t h w] alone; what is given never moves.

    stream: says when blocks are left out. reference: what the subject looks like, for models that take it.
    """
    shown = {} if reference is None else {"reference": reference.to(states.states.dtype)}
    beside = known.beside if known and dit.config.image_condition == "latent_concat" else []
    kept = None if beside else known

    def velocity(x: Float[Tensor, "1 C t h w"], sigma: float) -> Float[Tensor, "1 C t h w"]:
        time = torch.tensor([1000 * sigma], device=x.device)
        latents = torch.cat([x, *beside], dim=1).to(states.states.dtype)
        with sparing(dit, stream, sigma):
            found = dit(latents, time, states.states, None, states.pooled, embedded, kept.given if kept else None, **shown)
        return found.masked_fill(kept.mask, 0) if kept else found

    return velocity


@contextmanager
def sparing(dit: DiT, stream: Stream | None, sigma: float) -> Iterator[None]:
    """Within, the trunk asks `stream` whether all its blocks must work."""
    dit.trunk.spare = None if stream is None else partial(stream.call, sigma)
    try:
        yield
    finally:
        dit.trunk.spare = None


def start_of(
    noise: Float[Tensor, "1 C t h w"], known: Known | None, drafted: Known | None, request: Request, config: DiTConfig
) -> Float[Tensor, "1 C t h w"]:
    """Noise, with what is given in its place; stability leaves a trace of the first frame in all others.

    drafted: what a first pass made, as latents of this size: the noise covers it as far as `request.strength` says.
    Source of stability: HunyuanVideo-I2V.
    """
    if drafted is not None:
        noise = interpolate(drafted.latents, noise, torch.tensor([request.strength], device=noise.device))
    if known is None:
        return noise
    if request.stability:
        noise = (1 - TRACE) * noise + TRACE * known.latents[:, :, :1]
    return noise if config.image_condition == "latent_concat" else torch.where(known.mask, known.latents, noise)
