"""The causal video autoencoder: pixels to latents and back, 4x in time and 8x in space, images as clips of one frame.

One topology, two ways to fill it. The published one (HunyuanVideo, arXiv 2412.03603 §4.1): group norm over all frames,
strided and nearest sampling. Ours: norms that keep frames apart, so that any length streams in constant memory
(`streaming.py`), and shortcuts around every change of grid. The published norm needs tiles instead (`tiling.py`).
Parameter names are the published ones; "original" and diffusers files share them.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.errors import InputError
from kinema.shapes import SPACE_STRIDE, TIME_STRIDE
from kinema.vae.conv import (
    Border,
    CausalConv3d,
    FrameNorm,
    NearestUp,
    PackedDown,
    PackedUp,
    Past,
    Stride,
    StridedDown,
    fit_channels,
    pack,
    start_at_zero,
    unpack,
)

PIXEL_CHANNELS = 3
START_LOGVAR = -6.0  # standard deviation 0.05


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Size and kind of the autoencoder; the defaults are HunyuanVideo's.

    Raises InputError where the levels and the patch do not come to 4x8x8, or channels do not divide.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)  # width of each level, finest first
    encoder_layers: tuple[int, ...] = (2, 2, 2, 2)  # residual blocks of each level, finest first
    decoder_layers: tuple[int, ...] = (3, 3, 3, 3)  # likewise
    latent_channels: int = 16
    patch: int = 1  # pixels a side folded into channels before the first level
    norm: Literal["group", "frame"] = "group"  # over all frames, or each position by itself
    groups: int = 32  # of the group norm
    mid_attention: Literal["causal", "frame", "none"] = "causal"  # each token sees frames up to its own, its own, or no middle at all
    shortcuts: bool = False  # residual autoencoding around every change of grid
    border: Border = "replicate"  # what convolutions see beyond the picture
    scaling_factor: float = 0.476986  # latents times this have unit variance
    tile_size: int = 256  # pixels a side of a spatial tile
    tile_frames: int = 64  # frames of a temporal tile

    def __post_init__(self):
        levels = len(self.channels)
        if not levels == len(self.encoder_layers) == len(self.decoder_layers):
            raise InputError(f"channels={self.channels} must have as many levels as encoder_layers and decoder_layers")
        reached = tuple(prod(axis) for axis in zip((1, self.patch, self.patch), *self.strides, strict=True))
        if reached != (TIME_STRIDE, SPACE_STRIDE, SPACE_STRIDE):
            raise InputError(f"patch={self.patch} with {levels} levels packs {reached}, not 4x8x8: use patch 1, 2, 4 with 4, 3, 3 levels")
        if self.norm == "group" and any(width % self.groups for width in self.channels):
            raise InputError(f"channels={self.channels} must be multiples of groups={self.groups}")

    @property
    def strides(self) -> tuple[Stride, ...]:
        """What lies between neighbouring levels, finest first: space as early as needed, time as late as possible."""
        steps = len(self.channels) - 1
        spatial = (SPACE_STRIDE // self.patch).bit_length() - 1
        temporal = TIME_STRIDE.bit_length() - 1
        return tuple((1 + (i >= steps - temporal), 1 + (i < spatial), 1 + (i < spatial)) for i in range(steps))

    @property
    def streams(self) -> bool:
        """Whether a clip can pass in chunks, exactly and in constant memory."""
        return self.norm == "frame" and self.mid_attention != "causal"

    def make_norm(self, width: int) -> nn.Module:
        return nn.GroupNorm(self.groups, width, eps=1e-6) if self.norm == "group" else FrameNorm(width)


def mini_vae() -> VAEConfig:
    """The autoencoder that ships with `mini`: streams exactly, decodes 33x256x256 on a laptop in seconds."""
    return VAEConfig(
        channels=(96, 128, 128),
        encoder_layers=(1, 1, 1),
        decoder_layers=(3, 2, 1),
        patch=2,
        norm="frame",
        mid_attention="none",
        shortcuts=True,
        border="zeros",
        scaling_factor=1.0,
    )


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, added to the input."""

    def __init__(self, config: VAEConfig, width_in: int, width_out: int):
        super().__init__()
        self.norm1 = config.make_norm(width_in)
        self.conv1 = CausalConv3d(width_in, width_out, border=config.border)
        self.norm2 = config.make_norm(width_out)
        self.conv2 = CausalConv3d(width_out, width_out, border=config.border)
        self.conv_shortcut = CausalConv3d(width_in, width_out, kernel=1) if width_in != width_out else nn.Identity()
        if config.shortcuts:
            start_at_zero(self.conv2)

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B D T H W"]:
        hidden = self.conv1(F.silu(self.norm1(frames)), past)
        return self.conv_shortcut(frames) + self.conv2(F.silu(self.norm2(hidden)), past)


class FrameAttention(nn.Module):
    """One head over the positions of a frame, and of the frames before it where `causal`."""

    def __init__(self, config: VAEConfig, width: int):
        super().__init__()
        self.causal = config.mid_attention == "causal"
        self.group_norm = config.make_norm(width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        tokens = rearrange(self.group_norm(frames), "B C T H W -> B T (H W) C")
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        mixed = self.attend_earlier(q, k, v) if self.causal else F.scaled_dot_product_attention(q, k, v)
        return frames + rearrange(self.to_out[0](mixed), "B T (H W) C -> B C T H W", H=frames.shape[3])

    def attend_earlier(
        self, q: Float[Tensor, "B T S C"], k: Float[Tensor, "B T S C"], v: Float[Tensor, "B T S C"]
    ) -> Float[Tensor, "B T S C"]:
        """Frame by frame over all keys so far: no mask, so memory stays linear in the clip."""
        seen = [
            F.scaled_dot_product_attention(q[:, t : t + 1], k[:, : t + 1].flatten(1, 2)[:, None], v[:, : t + 1].flatten(1, 2)[:, None])
            for t in range(q.shape[1])
        ]
        return torch.cat(seen, 1)


class MidBlock(nn.Module):
    """At the coarsest level: residual block, attention, residual block."""

    def __init__(self, config: VAEConfig, width: int):
        super().__init__()
        self.resnets = nn.ModuleList([ResBlock(config, width, width), ResBlock(config, width, width)])
        self.attentions = nn.ModuleList([FrameAttention(config, width)])

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B C T H W"]:
        frames = self.attentions[0](self.resnets[0](frames, past))
        return self.resnets[1](frames, past)


class DownBlock(nn.Module):
    """One level of the encoder: residual blocks, then the way down."""

    def __init__(self, config: VAEConfig, level: int):
        super().__init__()
        width = config.channels[level]
        before = config.channels[max(level - 1, 0)] if not config.shortcuts else width
        self.resnets = nn.ModuleList(ResBlock(config, width if i else before, width) for i in range(config.encoder_layers[level]))
        if level + 1 < len(config.channels):
            self.downsamplers = nn.ModuleList([self.make_down(config, level)])

    def make_down(self, config: VAEConfig, level: int) -> nn.Module:
        width, stride = config.channels[level], config.strides[level]
        if config.shortcuts:
            return PackedDown(width, config.channels[level + 1], stride)
        return StridedDown(width, stride, config.border)

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B D t h w"]:
        for layer in [*self.resnets, *getattr(self, "downsamplers", ())]:
            frames = layer(frames, past)
        return frames


class UpBlock(nn.Module):
    """One level of the decoder: residual blocks, then the way up."""

    def __init__(self, config: VAEConfig, level: int):
        super().__init__()
        width = config.channels[level]
        before = config.channels[min(level + 1, len(config.channels) - 1)] if not config.shortcuts else width
        self.resnets = nn.ModuleList(ResBlock(config, width if i else before, width) for i in range(config.decoder_layers[level]))
        if level:
            self.upsamplers = nn.ModuleList([self.make_up(config, level)])

    def make_up(self, config: VAEConfig, level: int) -> nn.Module:
        width = config.channels[level]
        if config.shortcuts:
            return PackedUp(width, config.channels[level - 1], config.strides[level - 1])
        return NearestUp(width, config.strides[-level], config.border)  # published: space first on the way up too

    def forward(self, frames: Float[Tensor, "B C t h w"], past: Past | None = None) -> Float[Tensor, "B D T H W"]:
        for layer in [*self.resnets, *getattr(self, "upsamplers", ())]:
            frames = layer(frames, past)
        return frames


class Encoder(nn.Module):
    """Pixels (patched) to the two halves of the posterior, before `quant_conv`."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        finest, coarsest = config.channels[0], config.channels[-1]
        self.conv_in = CausalConv3d(PIXEL_CHANNELS * config.patch**2, finest, border=config.border)
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(len(config.channels)))
        self.mid_block = MidBlock(config, coarsest) if config.mid_attention != "none" else None
        self.conv_norm_out = config.make_norm(coarsest)
        self.conv_out = CausalConv3d(coarsest, 2 * config.latent_channels, border=config.border)
        if config.shortcuts:
            start_at_zero(self.conv_in)
            start_at_zero(self.conv_out)

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B z t h w"]:
        hidden = self.conv_in(frames, past)
        if self.config.shortcuts:
            hidden = hidden + fit_channels(frames, self.config.channels[0])
        for block in self.down_blocks:
            hidden = block(hidden, past)
        if self.mid_block is not None:
            hidden = self.mid_block(hidden, past)
        moments = self.conv_out(F.silu(self.conv_norm_out(hidden)), past)
        if not self.config.shortcuts:
            return moments
        mean, logvar = moments.chunk(2, 1)
        return torch.cat([mean + fit_channels(hidden, self.config.latent_channels), logvar], 1)


class Decoder(nn.Module):
    """Latents, after `post_quant_conv`, to pixels (patched)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        finest, coarsest = config.channels[0], config.channels[-1]
        self.pixels = PIXEL_CHANNELS * config.patch**2
        self.conv_in = CausalConv3d(config.latent_channels, coarsest, border=config.border)
        self.mid_block = MidBlock(config, coarsest) if config.mid_attention != "none" else None
        self.up_blocks = nn.ModuleList(UpBlock(config, level) for level in reversed(range(len(config.channels))))
        self.conv_norm_out = config.make_norm(finest)
        self.conv_out = CausalConv3d(finest, self.pixels, border=config.border)
        if config.shortcuts:
            start_at_zero(self.conv_in)
            start_at_zero(self.conv_out)

    def forward(self, latents: Float[Tensor, "B z t h w"], past: Past | None = None) -> Float[Tensor, "B C T H W"]:
        hidden = self.conv_in(latents, past)
        if self.config.shortcuts:
            hidden = hidden + fit_channels(latents, self.config.channels[-1])
        if self.mid_block is not None:
            hidden = self.mid_block(hidden, past)
        for block in self.up_blocks:
            hidden = block(hidden, past)
        pixels = self.conv_out(F.silu(self.conv_norm_out(hidden)), past)
        return pixels + fit_channels(hidden, self.pixels) if self.config.shortcuts else pixels


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

    def kl(self) -> Float[Tensor, "B"]:
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

    def encode(self, pixels: Float[Tensor, "B 3 T H W"]) -> Posterior:
        """pixels: in [-1, 1]; T = 1 + a multiple of 4, H and W multiples of 8, or InputError."""
        check_pixels(pixels)
        return Posterior.of(self.encode_frames(pixels))

    def encode_frames(self, pixels: Float[Tensor, "B 3 T H W"], past: Past | None = None) -> Float[Tensor, "B zz t h w"]:
        """Both halves of the posterior, for a whole clip or the next chunk of one."""
        patched = pack(pixels, (1, self.config.patch, self.config.patch))
        return self.quant_conv(self.encoder(patched, past))

    def decode(self, latents: Float[Tensor, "B z t h w"], past: Past | None = None) -> Float[Tensor, "B 3 T H W"]:
        """Pixels in about [-1, 1], not clamped; T = 1 + 4 (t - 1) for a whole clip, 4 t for a later chunk."""
        patched = self.decoder(self.post_quant_conv(latents), past)
        return unpack(patched, (1, self.config.patch, self.config.patch))

    def to_latents(self, pixels: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B z t h w"]:
        """The posterior's mode at unit variance: what the DiT learns."""
        return self.encode(pixels).mode() * self.config.scaling_factor

    def to_pixels(self, latents: Float[Tensor, "B z t h w"]) -> Float[Tensor, "B 3 T H W"]:
        """The way back from `to_latents`."""
        return self.decode(latents / self.config.scaling_factor)
