"""The layers of encoder and decoder, from a config that says which kind."""

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
from kinema.vae.conv import Border, CausalConv3d, Clip, Past, Stride, add, beside, drain, merge, start_at_zero
from kinema.vae.norm import ClipNorm, FrameNorm
from kinema.vae.sampling import NearestUp, PackedDown, PackedUp, StridedDown


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

    def make_norm(self, width: int) -> ClipNorm | FrameNorm:
        return ClipNorm(self.groups, width) if self.norm == "group" else FrameNorm(width)


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

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        kept: Clip = []
        hidden = list(self.conv1.sweep(beside(clip, self.conv_shortcut, kept), past, self.norm1.over(clip)))
        return [add(kept.pop(0), fresh) for fresh in self.conv2.sweep(drain(hidden), past, self.norm2.over(hidden))]


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

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        frames = torch.cat(self.resnets[0](clip, past), 2)
        return self.resnets[1]([self.attentions[0](frames)], past)


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

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        for layer in [*self.resnets, *getattr(self, "downsamplers", ())]:
            clip = layer(clip, past)
        return merge(clip)


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

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        for layer in [*self.resnets, *getattr(self, "upsamplers", ())]:
            clip = layer(clip, past)
        return clip
