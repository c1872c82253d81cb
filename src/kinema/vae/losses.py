"""What the autoencoder is trained with, term by term; the weights are the recipe's.

L1 + 0.1 perceptual + 0.05 adversarial + 1e-6 KL is HunyuanVideo's sum (arXiv 2412.03603, §4.1); a squared error may be added,
which is what PSNR measures. Every term is a mean, so that weights hold for any size of clip.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError
from kinema.vae.model import Posterior
from kinema.vae.perceptual import PerceptualDistance

LARGEST_RATIO = 1e4  # of two gradients' lengths


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each term counts; 0 leaves it out. Raises InputError where one is negative."""

    l1: float = 1.0
    squared: float = 0.0
    perceptual: float = 0.1
    adversarial: float = 0.05  # in the stages that have a critic
    kl: float = 1e-6  # of the divergence in nats, a mean over latent numbers

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 0:
                raise InputError(f"{name}={value} must be 0 or more: 0 leaves the term out")


def psnr(squared: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB, from the mean squared error of values in [-1, 1]."""
    return 10 * torch.log10(4 / squared)


def kl_mean(posterior: Posterior) -> Float[Tensor, ""]:
    """Divergence from the standard normal, nats a latent number, in float32."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def perceptual_mean(
    distance: PerceptualDistance, output: Float[Tensor, "B 3 T H W"], pixels: Float[Tensor, "B 3 T H W"], frames: int, draw: torch.Generator
) -> Float[Tensor, ""]:
    """The distance over some frames, drawn for the whole batch: all of them would cost more than the autoencoder itself."""
    chosen = torch.randperm(pixels.shape[2], generator=draw, device=draw.device)[:frames].to(pixels.device)
    ours, theirs = (rearrange(clip[:, :, chosen], "B C T H W -> (B T) C H W") for clip in (output, pixels))
    return distance(ours, theirs).mean()


def critic_loss(real: Float[Tensor, " ..."], fake: Float[Tensor, " ..."]) -> Float[Tensor, ""]:
    """Hinge: each patch of a real clip should score above 1, of a reconstruction below -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adversarial_loss(fake: Float[Tensor, " ..."]) -> Float[Tensor, ""]:
    """What the autoencoder lowers: reconstructions should score high."""
    return -fake.mean()


def balance(reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], output: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, ""]:
    """The factor that makes the adversarial gradient as long as the reconstruction's, both taken at the pixels.

    Source: Esser et al. 2021 (arXiv 2012.09841, eq. 7), who take them at the decoder's last layer; pixels need no pass through it.
    """
    wanted, given = (torch.autograd.grad(loss, output, retain_graph=True)[0].float().norm() for loss in (reconstruction, adversarial))
    return (wanted / (given + 1e-12)).clamp(max=LARGEST_RATIO).detach()
