"""The causal video autoencoder: pixels to latents and back, 4x in time and 8x in space, images as clips of one frame.

One topology, two ways to fill it. The published one (HunyuanVideo, arXiv 2412.03603 §4.1): group norm over all frames,
strided and nearest sampling. Ours: norms that keep frames apart, so that any length streams in constant memory
(`streaming.py`), and shortcuts around every change of grid. The published norm needs tiles instead (`tiling.py`).
Parameter names are the published ones; "original" and diffusers files share them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.errors import InputError
from kinema.shapes import SPACE_STRIDE, TIME_STRIDE
from kinema.vae.blocks import DownBlock, MidBlock, UpBlock, VAEConfig
from kinema.vae.conv import CausalConv3d, Clip, Past, Ready, add, as_they_are, beside, budget, drain, start_at_zero
from kinema.vae.sampling import fit_channels, pack, unpack

Shortcut = Callable[[Tensor], Tensor]

PIXEL_CHANNELS = 3
START_LOGVAR = -6.0  # standard deviation 0.05


def mini_vae() -> VAEConfig:
    """The autoencoder that ships with `mini`: streams exactly, decodes 33x256x256 on a laptop in seconds."""
    return VAEConfig(
        channels=(96, 96, 96),
        encoder_layers=(1, 1, 1),
        decoder_layers=(3, 2, 1),
        patch=4,
        norm="frame",
        mid_attention="none",
        shortcuts=True,
        border="zeros",
        scaling_factor=1.0,
    )


def pass_through(conv: CausalConv3d, clip: Clip, past: Past | None, shortcut: Shortcut | None, ready: Ready = as_they_are) -> Clip:
    """Each piece convolved, and what the shortcut makes of it added."""
    if shortcut is None:
        return list(conv.sweep(drain(clip), past, ready))
    kept: Clip = []
    return [add(kept.pop(0), fresh) for fresh in conv.sweep(beside(clip, shortcut, kept), past, ready)]


def average_to_mean(frames: Float[Tensor, "B C t h w"], width: int) -> Float[Tensor, "B zz t h w"]:
    """The encoder's last shortcut leads to the posterior's mean; its log-variance has none."""
    mean = fit_channels(frames, width)
    return torch.cat([mean, torch.zeros_like(mean)], 1)


class Encoder(nn.Module):
    """Pixels (patched) to the two halves of the posterior, before `quant_conv`."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        finest, coarsest = config.channels[0], config.channels[-1]
        self.conv_in = CausalConv3d(PIXEL_CHANNELS * config.patch**2, finest, border=config.border)
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(len(config.channels)))
        self.mid_block = MidBlock(config, coarsest) if config.mid_attention != "none" else None
        self.conv_norm_out = config.make_norm(coarsest)
        self.conv_out = CausalConv3d(coarsest, 2 * config.latent_channels, border=config.border)
        self.widen = partial(fit_channels, width=finest) if config.shortcuts else None
        self.narrow = partial(average_to_mean, width=config.latent_channels) if config.shortcuts else None
        if config.shortcuts:
            start_at_zero(self.conv_in)
            start_at_zero(self.conv_out)

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        clip = pass_through(self.conv_in, clip, past, self.widen)
        for block in self.down_blocks:
            clip = block(clip, past)
        if self.mid_block is not None:
            clip = self.mid_block(clip, past)
        return pass_through(self.conv_out, clip, past, self.narrow, self.conv_norm_out.over(clip))


class Decoder(nn.Module):
    """Latents, after `post_quant_conv`, to pixels (patched)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        finest, coarsest = config.channels[0], config.channels[-1]
        pixels = PIXEL_CHANNELS * config.patch**2
        self.conv_in = CausalConv3d(config.latent_channels, coarsest, border=config.border)
        self.mid_block = MidBlock(config, coarsest) if config.mid_attention != "none" else None
        self.up_blocks = nn.ModuleList(UpBlock(config, level) for level in reversed(range(len(config.channels))))
        self.conv_norm_out = config.make_norm(finest)
        self.conv_out = CausalConv3d(finest, pixels, border=config.border)
        self.widen = partial(fit_channels, width=coarsest) if config.shortcuts else None
        self.narrow = partial(fit_channels, width=pixels) if config.shortcuts else None
        if config.shortcuts:
            start_at_zero(self.conv_in)
            start_at_zero(self.conv_out)

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        clip = pass_through(self.conv_in, clip, past, self.widen)
        if self.mid_block is not None:
            clip = self.mid_block(clip, past)
        for block in self.up_blocks:
            clip = block(clip, past)
        return pass_through(self.conv_out, clip, past, self.narrow, self.conv_norm_out.over(clip))


@dataclass(frozen=True)
class Posterior:
    """A Gaussian for every latent number, independent of the others."""

    mean: Float[Tensor, "B z t h w"]
    logvar: Float[Tensor, "B z t h w"]  # within [-30, 20]

    @classmethod
    def of(cls, moments: Float[Tensor, "B zz t h w"]) -> "Posterior":
        mean, logvar = moments.chunk(2, 1)
        return cls(mean, logvar.clamp(-30, 20))

    def mode(self) -> Float[Tensor, "B z t h w"]:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "B z t h w"]:
        """One draw; a generator makes it repeatable and must live on the latents' device."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Float[Tensor, " B"]:
        """Divergence from the standard normal in nats, summed over each clip's latent."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1)


def check_pixels(pixels: Float[Tensor, "B C T H W"]) -> None:
    """Raise InputError unless frames = 1 + a multiple of 4 and both sides are multiples of 8."""
    frames, *sides = pixels.shape[2:]
    if (frames - 1) % TIME_STRIDE:
        low = (frames - 1) // TIME_STRIDE * TIME_STRIDE + 1
        raise InputError(f"frames={frames} does not fit the VAE: use {low} or {low + TIME_STRIDE} (1 + a multiple of {TIME_STRIDE})")
    for side in sides:
        if side % SPACE_STRIDE:
            raise InputError(f"{sides[0]}x{sides[1]} pixels do not fit the VAE: both sides must be multiples of {SPACE_STRIDE}")


def start_as_identity(layer: nn.Conv3d) -> None:
    nn.init.dirac_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def start_certain(layer: nn.Conv3d, mean_channels: int) -> None:
    """Begin with a small variance whatever the input: a latent near unit variance would drown what is to be learned."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias[mean_channels:] = START_LOGVAR


def channels_last(vae: nn.Module) -> None:
    """Lay out the kernels as every tensor here is: convolutions are fastest so, and changes of layout slow."""
    for layer in vae.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)


class CausalVAE(nn.Module):
    """Encoder and decoder with one Gaussian latent between them."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        moments = 2 * config.latent_channels
        self.quant_conv = nn.Conv3d(moments, moments, 1)
        self.post_quant_conv = nn.Conv3d(config.latent_channels, config.latent_channels, 1)
        if config.shortcuts:
            start_as_identity(self.quant_conv)
            start_as_identity(self.post_quant_conv)
            start_certain(self.quant_conv, config.latent_channels)
        channels_last(self)

    def encode(self, pixels: Float[Tensor, "B 3 T H W"]) -> Posterior:
        """pixels: in [-1, 1]; T = 1 + a multiple of 4, H and W multiples of 8, or InputError."""
        check_pixels(pixels)
        return Posterior.of(self.encode_frames(pixels))

    def encode_frames(self, pixels: Float[Tensor, "B 3 T H W"], past: Past | None = None) -> Float[Tensor, "B zz t h w"]:
        """Both halves of the posterior, for a whole clip or the next chunk of one."""
        clip = [pack(frames, (1, self.config.patch, self.config.patch)) for frames in self.groups_of_frames(pixels)]
        return torch.cat([self.quant_conv(frames) for frames in drain(self.encoder(clip, past))], 2)

    def groups_of_frames(self, pixels: Float[Tensor, "B 3 T H W"]) -> Clip:
        """Pieces that the encoder's time strides divide: the opening frame by itself, then multiples of four frames."""
        if torch.is_grad_enabled():
            return [pixels]
        finest = pixels[:, 0, 0].numel() // self.config.patch**2 * self.config.channels[0]
        length = max(budget(pixels) // finest // TIME_STRIDE, 1) * TIME_STRIDE
        opening = pixels.shape[2] % TIME_STRIDE
        groups = [pixels[:, :, :opening], *pixels[:, :, opening:].split(length, 2)]
        return [frames for frames in groups if frames.shape[2]]

    def decode(self, latents: Float[Tensor, "B z t h w"], past: Past | None = None) -> Float[Tensor, "B 3 T H W"]:
        """Pixels in about [-1, 1], not clamped; T = 1 + 4 (t - 1) for a whole clip, 4 t for a later chunk."""
        clip = self.decoder([self.post_quant_conv(latents)], past)
        return torch.cat([unpack(frames, (1, self.config.patch, self.config.patch)) for frames in drain(clip)], 2)

    def to_latents(self, pixels: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B z t h w"]:
        """The posterior's mode at unit variance: what the DiT learns."""
        return self.encode(pixels).mode() * self.config.scaling_factor

    def to_pixels(self, latents: Float[Tensor, "B z t h w"]) -> Float[Tensor, "B 3 T H W"]:
        """The way back from `to_latents`."""
        return self.decode(latents / self.config.scaling_factor)
