"""Between grids: the published way down and up, and ours, around shortcuts that have no parameters.

The first frame is special: it stands for itself, later ones for groups of `stride`.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from kinema.vae.conv import Border, CausalConv3d, Clip, Past, Stride, Window, as_they_are, convolve, drain, opens, pieces, start_at_zero


def channels_first(frames: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B C T H W"]:
    """Only a view: in memory the channels stay last, as the convolutions like it."""
    return rearrange(frames, "B T H W C -> B C T H W")


def fit_channels(frames: Float[Tensor, "B C T H W"], width: int) -> Float[Tensor, "B D T H W"]:
    """Repeat every channel, or average neighbouring ones, until there are `width`; one number must divide the other."""
    if frames.shape[1] >= width:
        return rearrange(frames, "B (D g) T H W -> B D g T H W", D=width).mean(2)
    return channels_first(repeat(frames, "B C T H W -> B T H W (C g)", g=width // frames.shape[1]))


def pack(frames: Float[Tensor, "B C T H W"], stride: Stride, opening: bool = True) -> Float[Tensor, "B D t h w"]:
    """Fold each block of `stride` positions into channels; a clip's opening frame fills a block by itself, repeated."""
    if opening and stride[0] > 1:
        frames = torch.cat([frames[:, :, :1]] * (stride[0] - 1) + [frames], 2)
    p, q, r = stride
    return channels_first(rearrange(frames, "B C (t p) (h q) (w r) -> B t h w (C p q r)", p=p, q=q, r=r))


def unpack(frames: Float[Tensor, "B C t h w"], stride: Stride, opening: bool = True) -> Float[Tensor, "B D T H W"]:
    """The inverse of `pack`: channels become blocks again, and of the opening block only its last frame is kept."""
    p, q, r = stride
    frames = channels_first(rearrange(frames, "B (C p q r) t h w -> B (t p) (h q) (w r) C", p=p, q=q, r=r))
    return frames[:, :, p - 1 :] if opening else frames


class StridedDown(nn.Module):
    """Downsampling of the published model: a strided causal convolution."""

    def __init__(self, width: int, stride: Stride, border: Border):
        super().__init__()
        self.conv = CausalConv3d(width, width, stride=stride, border=border)

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        return list(self.conv.sweep(drain(clip), past))


class PackedDown(nn.Module):
    """Downsampling around a shortcut: pack and average channels, plus a learned mix that starts at zero.

    Source: residual autoencoding of DC-AE (Chen et al. 2024, arXiv 2410.10733), here in time too.
    """

    def __init__(self, width_in: int, width_out: int, stride: Stride):
        super().__init__()
        self.stride, self.width = stride, width_out
        self.conv = CausalConv3d(width_in * stride[0] * stride[1] * stride[2], width_out, kernel=1)
        start_at_zero(self.conv)

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        opening, out = opens(self, past), []
        for frames in drain(clip):  # not cut further: the stride must divide them
            packed = pack(frames, self.stride, opening)
            out.append(self.conv(packed) + fit_channels(packed, self.width))
            opening = False
        return out


class PackedUp(nn.Module):
    """Upsampling around a shortcut: repeat channels and unpack, plus a learned mix that starts at zero."""

    def __init__(self, width_in: int, width_out: int, stride: Stride):
        super().__init__()
        self.stride, self.width = stride, width_out * stride[0] * stride[1] * stride[2]
        self.conv = CausalConv3d(width_in, self.width, kernel=1)
        start_at_zero(self.conv)

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        opening, out = opens(self, past), []
        for frames in pieces(clip, self.width / self.conv.conv.in_channels):
            out.append(unpack(self.conv(frames) + fit_channels(frames, self.width), self.stride, opening))
            opening = False
        return out


class NearestUp(nn.Module):
    """Upsampling of the published model: nearest neighbours, then a causal convolution; the opening frame grows in space only.

    Of three neighbours in the large picture two are always the same, so each phase of the output is a convolution of the small
    picture with two taps an axis, the published weights added up: 8 products in place of 27.
    """

    def __init__(self, width: int, stride: Stride, border: Border):
        super().__init__()
        self.stride = stride
        self.conv = CausalConv3d(width, width, border=border)

    def forward(self, clip: Clip, past: Past | None = None) -> Clip:
        opening, out = opens(self, past), []
        memory = 3 - self.stride[0]
        window = Window(memory, memory, self.conv.margin, None if past is None else past.get(self.conv))
        phases = self.phases()
        for frames in pieces(clip, self.stride[0] * self.stride[1] * self.stride[2]):
            grown = self.grow(window.slide(frames, as_they_are), frames.shape, phases)
            out.append(grown[:, :, self.stride[0] - 1 :] if opening else grown)
            opening = False
        if past is not None:
            past[self.conv] = window.tail().clone()
        return out

    def phases(self) -> dict[tuple[int, int], Tensor]:
        """Kernels by the phase in height and width; those of the phases in time stand behind each other as output channels."""
        weight = self.conv.conv.weight.to(torch.promote_types(self.conv.conv.weight.dtype, torch.float32))
        timed = torch.cat(fold(weight, 2, self.stride[0])[::-1])  # causal: the window ends at the frame, not after it
        rows = enumerate(fold(timed, 3, self.stride[1]))
        kernels = {(q, r): kernel for q, row in rows for r, kernel in enumerate(fold(row, 4, self.stride[2]))}
        return {phase: kernel.to(self.conv.conv.weight.dtype) for phase, kernel in kernels.items()}

    def grow(self, surrounded: Tensor, small: torch.Size, phases: dict[tuple[int, int], Tensor]) -> Tensor:
        (B, C, t, h, w), (P, Q, R) = small, self.stride
        out = torch.empty(
            (B, C, t * P, h * Q, w * R), dtype=surrounded.dtype, device=surrounded.device, memory_format=torch.channels_last_3d
        )
        bias = self.conv.conv.bias
        assert bias is not None
        for (q, r), kernel in phases.items():
            both = convolve(surrounded, kernel, bias.repeat(P), (1, 1, 1), self.conv.padding)[..., q : q + h, r : r + w]
            for p, phase in enumerate(both.chunk(P, 1)):
                out[:, :, p::P, q::Q, r::R] = phase
        return out


def fold(weight: Float[Tensor, "D C i j k"], axis: int, factor: int) -> list[Tensor]:
    """The kernels of an axis' output phases on the picture before it grew `factor`-fold."""
    if factor == 1:
        return [weight]
    before, here, after = weight.unbind(axis)
    return [torch.stack([before, here + after], axis), torch.stack([before + here, after], axis)]
