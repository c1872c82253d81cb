"""Causal convolution in time, the two norms, and how a clip moves between grids.

Everything here works on a whole clip or on successive chunks of it. What a layer must remember between chunks it keeps in
`Past`; without one, the tensor given is the whole clip. The first frame is special: it stands for itself, later ones for groups.
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Stride = tuple[int, int, int]  # along t, h, w
Border = Literal["replicate", "zeros"]
Past = dict[nn.Module, Tensor]
"""What each layer keeps of the chunks before: its last frames, or an empty tensor for "there was one"."""


def opens(layer: nn.Module, frames: Tensor, past: Past | None) -> bool:
    """Whether these are the first frames this layer sees; it remembers that there were some."""
    if past is None:
        return True
    first = layer not in past
    past[layer] = frames[:, :, :0]
    return first


class CausalConv3d(nn.Module):
    """A 3D convolution whose output frame sees its own and earlier frames only.

    Before the first frame stand copies of it. Beyond the picture's border stand copies of the border ("replicate", as
    HunyuanVideo has it) or zeros, which costs no copy.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int = 3, stride: Stride = (1, 1, 1), border: Border = "replicate"):
        super().__init__()
        side = kernel // 2
        self.border = side if border == "replicate" else 0
        self.memory = kernel - 1  # frames put before the first one
        self.overlap = max(kernel - stride[0], 0)  # frames that the next chunk's first output still sees
        padding = 0 if border == "replicate" else (0, side, side)
        self.conv = nn.Conv3d(width_in, width_out, kernel, stride, padding)

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B D t h w"]:
        before = [frames[:, :, :1]] * self.memory if past is None or self not in past else [past[self]]
        if self.memory:
            frames = torch.cat([*before, frames], 2)
        if past is not None:
            past[self] = frames[:, :, frames.shape[2] - self.overlap :].clone()
        if self.border:
            frames = F.pad(frames, (self.border,) * 4 + (0, 0), mode="replicate")
        return self.conv(frames)


class FrameNorm(nn.Module):
    """Root-mean-square norm over the channels of each position by itself, so that frames never mix and a clip can stream.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467).
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        wide = frames.to(torch.promote_types(frames.dtype, torch.float32))
        scale = torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-6)
        return frames * scale.to(frames.dtype) * self.weight[:, None, None, None].to(frames.dtype)


def fit_channels(frames: Float[Tensor, "B C T H W"], width: int) -> Float[Tensor, "B D T H W"]:
    """Repeat every channel, or average neighbouring ones, until there are `width`; one number must divide the other."""
    if frames.shape[1] >= width:
        return rearrange(frames, "B (D g) T H W -> B D g T H W", D=width).mean(2)
    return frames.repeat_interleave(width // frames.shape[1], 1)


def pack(frames: Float[Tensor, "B C T H W"], stride: Stride, opening: bool = True) -> Float[Tensor, "B D t h w"]:
    """Fold each block of `stride` positions into channels; a clip's opening frame fills a block by itself, repeated."""
    if opening:
        frames = torch.cat([frames[:, :, :1]] * (stride[0] - 1) + [frames], 2)
    p, q, r = stride
    return rearrange(frames, "B C (t p) (h q) (w r) -> B (C p q r) t h w", p=p, q=q, r=r)


def unpack(frames: Float[Tensor, "B C t h w"], stride: Stride, opening: bool = True) -> Float[Tensor, "B D T H W"]:
    """The inverse of `pack`: channels become blocks again, and of the opening block only its last frame is kept."""
    p, q, r = stride
    frames = rearrange(frames, "B (C p q r) t h w -> B C (t p) (h q) (w r)", p=p, q=q, r=r)
    return frames[:, :, p - 1 :] if opening else frames


def enlarge(frames: Float[Tensor, "B C t h w"], stride: Stride, opening: bool = True) -> Float[Tensor, "B C T H W"]:
    """Nearest-neighbour upsampling; a clip's opening frame grows in space only."""
    for axis, factor in zip((2, 3, 4), stride, strict=True):
        frames = frames.repeat_interleave(factor, axis) if factor > 1 else frames
    return frames[:, :, stride[0] - 1 :] if opening else frames


class StridedDown(nn.Module):
    """Downsampling of the published model: a strided causal convolution."""

    def __init__(self, width: int, stride: Stride, border: Border):
        super().__init__()
        self.conv = CausalConv3d(width, width, stride=stride, border=border)

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B C t h w"]:
        return self.conv(frames, past)


class NearestUp(nn.Module):
    """Upsampling of the published model: nearest neighbours, then a causal convolution."""

    def __init__(self, width: int, stride: Stride, border: Border):
        super().__init__()
        self.stride = stride
        self.conv = CausalConv3d(width, width, border=border)

    def forward(self, frames: Float[Tensor, "B C t h w"], past: Past | None = None) -> Float[Tensor, "B C T H W"]:
        return self.conv(enlarge(frames, self.stride, opens(self, frames, past)), past)


class PackedDown(nn.Module):
    """Downsampling around a shortcut without parameters: pack and average channels, plus a learned mix that starts at zero.

    Source: residual autoencoding of DC-AE (Chen et al. 2024, arXiv 2410.10733), here in time too.
    """

    def __init__(self, width_in: int, width_out: int, stride: Stride):
        super().__init__()
        self.stride, self.width = stride, width_out
        self.conv = CausalConv3d(width_in * stride[0] * stride[1] * stride[2], width_out, kernel=1)
        start_at_zero(self.conv)

    def forward(self, frames: Float[Tensor, "B C T H W"], past: Past | None = None) -> Float[Tensor, "B D t h w"]:
        packed = pack(frames, self.stride, opens(self, frames, past))
        return self.conv(packed) + fit_channels(packed, self.width)


class PackedUp(nn.Module):
    """Upsampling around a shortcut without parameters: repeat channels and unpack, plus a learned mix that starts at zero."""

    def __init__(self, width_in: int, width_out: int, stride: Stride):
        super().__init__()
        self.stride, self.width = stride, width_out * stride[0] * stride[1] * stride[2]
        self.conv = CausalConv3d(width_in, self.width, kernel=1)
        start_at_zero(self.conv)

    def forward(self, frames: Float[Tensor, "B C t h w"], past: Past | None = None) -> Float[Tensor, "B D T H W"]:
        return unpack(self.conv(frames) + fit_channels(frames, self.width), self.stride, opens(self, frames, past))


def start_at_zero(layer: CausalConv3d) -> None:
    """Let a residual branch begin by adding nothing."""
    nn.init.zeros_(layer.conv.weight)
    if layer.conv.bias is not None:
        nn.init.zeros_(layer.conv.bias)
