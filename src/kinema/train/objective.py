"""Flow matching: which noise, which time, which text and which given frames a sample is trained with, and its loss.

Everything that is drawn belongs to a sample's place in its global batch, so that any number of ranks draws the same.
Source: HunyuanVideo (arXiv 2412.03603, §4.3-4.5); Esser et al. 2024 (arXiv 2403.03206).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.data.feed import hashed
from kinema.errors import InputError
from kinema.flow.path import interpolate, training_sigmas, velocity_target

SIGMA_BINS = 4
WITHOUT_REFERENCE = 0.5  # of samples with given frames, which show the subject themselves
Forward = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How noise, text and given frames are drawn.

    Raises InputError where a share lies outside [0, 1] or the shift is not above 0.
    """

    shift: float = 2.0  # of the training times, at `shift_tokens`
    shift_tokens: int | None = None  # L; other sizes are shifted with the square root of their tokens. None: all alike
    text_dropout: float = 0.1  # share of samples that see the empty prompt, for classifier-free guidance
    given_share: float = 0.0  # of samples with some clean latent frames, which the model continues or fills in
    reference_dropout: float = 0.1  # share of samples that do not see their reference; nor do those without text

    def __post_init__(self):
        shares = {name: getattr(self, name) for name in ("text_dropout", "given_share", "reference_dropout")}
        if not self.shift > 0 or not all(0 <= share <= 1 for share in shares.values()):
            raise InputError(f"shift={self.shift} must be above 0, and shares between 0 and 1: {shares}")

    def shift_at(self, tokens: int) -> float:
        """A larger picture needs more noise to be hidden as well: shift grows with the side, and is never below 1 on that account.

        Source: Esser et al. 2024, section 5.3.2.
        """
        if self.shift_tokens is None:
            return self.shift
        return max(self.shift * math.sqrt(tokens / self.shift_tokens), min(self.shift, 1.0))


@dataclass(frozen=True)
class Draws:
    """What chance decides for each sample of a rank's batch."""

    sigma: Float[Tensor, " B"]
    dropped: Bool[Tensor, " B"]  # whose text is left out
    given: Bool[Tensor, "B t"]  # latent frames that stay clean
    noise: Float[Tensor, "B C t h w"]
    unseen: Bool[Tensor, " B"] | None = None  # whose reference is left out; None: nobody's


def draw(shape: torch.Size, tokens: int, total: int, first: int, seed: int, config: FlowConfig, device: torch.device) -> Draws:
    """For samples first ... first + B of a global batch of `total`; shape: of this rank's latents [B C t h w]."""
    generator, part = torch.Generator().manual_seed(seed), slice(first, first + shape[0])
    sigma = training_sigmas(total, config.shift_at(tokens), generator)[part]
    dropped = (torch.rand(total, generator=generator) < config.text_dropout)[part]
    given = clean_frames(total, shape[2], config.given_share, generator)[part]
    alone = torch.rand(total, generator=generator)[part]
    unseen = dropped | (alone < torch.where(given.any(1), WITHOUT_REFERENCE, config.reference_dropout))
    noise, own = torch.empty(shape, device=device), torch.Generator(device)
    for place, each in enumerate(noise):
        each.normal_(generator=own.manual_seed(hashed(seed, first + place)))
    return Draws(sigma.to(device), dropped.to(device), given.to(device), noise, unseen.to(device))


def clean_frames(batch: int, frames: int, share: float, generator: torch.Generator) -> Bool[Tensor, "B t"]:
    """Which latent frames a `share` of the samples is given: half of those the first, the others the last, both, or a beginning of
    any length, equally often."""
    device = generator.device
    index = torch.arange(frames, device=device)
    first, last = index == 0, (index == frames - 1) & (index > 0)
    patterns = torch.stack([first, first, first, last, first | last])
    patterns = torch.where(patterns.all(1, keepdim=True), first, patterns)  # of two frames, both would leave nothing to learn
    pick = torch.randint(len(patterns) + 1, (batch,), device=device, generator=generator)
    lengths = torch.randint(1, max(frames, 2), (batch,), device=device, generator=generator)
    begun = index < lengths[:, None]
    chosen = torch.where((pick == len(patterns))[:, None], begun, patterns[pick.clamp(max=len(patterns) - 1)])
    given = torch.rand(batch, device=device, generator=generator) < share
    return chosen & given[:, None] & (frames > 1)


def drop_text(
    text: Float[Tensor, "B L d"],
    mask: Bool[Tensor, "B L"] | None,
    pooled: Float[Tensor, "B p"],
    null: tuple[Float[Tensor, "one n d"], Float[Tensor, " p"]],
    dropped: Bool[Tensor, " B"],
) -> tuple[Float[Tensor, "B L d"], Bool[Tensor, "B L"] | None, Float[Tensor, "B p"]]:
    """The empty prompt's state in place of a dropped text: repeated as often as the text has tokens, so that none is padding."""
    states, vector = null
    return torch.where(dropped[:, None, None], states[:, :1], text), mask, torch.where(dropped[:, None], vector, pooled)


def flow_loss(
    forward: Forward,
    data: Float[Tensor, "B C t h w"],
    text: Float[Tensor, "B L d"],
    mask: Bool[Tensor, "B L"] | None,
    pooled: Float[Tensor, "B p"],
    draws: Draws,
    reference: Float[Tensor, "B C r h w"] | None = None,
    counts: Float[Tensor, "B t h w"] | None = None,
) -> Float[Tensor, " B"]:
    """Each sample's squared error of the velocity, a mean over the frames that are not given; bfloat16 inside, float32 outside.

    counts: how much each cell counts in that mean; None: all alike.
    """
    noisy = torch.where(draws.given[:, None, :, None, None], data, interpolate(data, draws.noise, draws.sigma))
    if reference is not None and draws.unseen is not None:
        reference = reference.masked_fill(draws.unseen[:, None, None, None, None], 0)
    shown = {} if reference is None else {"reference": reference}
    with torch.autocast(data.device.type, torch.bfloat16):
        velocity = forward(noisy, 1000 * draws.sigma, text, mask, pooled, given=draws.given, **shown)
    error = (velocity.float() - velocity_target(data, draws.noise)).square().mean(1)
    shares = (torch.ones_like(error) if counts is None else counts) * ~draws.given[:, :, None, None]
    return (error * shares).sum((1, 2, 3)) / shares.sum((1, 2, 3))


def by_sigma(loss: Float[Tensor, " B"], sigma: Float[Tensor, " B"]) -> dict[str, Tensor]:
    """The mean loss in each quarter of the noise range; NaN where a batch has no sample in it."""
    place = (sigma * SIGMA_BINS).long().clamp(max=SIGMA_BINS - 1)
    return {f"loss_{bin}": torch.where(place == bin, loss.detach(), torch.nan).nanmean() for bin in range(SIGMA_BINS)}
