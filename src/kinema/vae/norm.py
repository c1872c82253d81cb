"""The two norms, each with the SiLU behind it, over a clip in pieces.

`over(clip)` looks at the whole clip where the norm needs that, and returns what to do with each piece.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.vae.conv import Clip, Ready

EPSILON = 1e-6
IN_CACHE = {"cpu": 2**19}  # numbers looked at together: what is made of them on the way stays in the processor's cache
LARGE = 2**25  # on an accelerator


def wide(dtype: torch.dtype) -> torch.dtype:
    """What statistics are computed in: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def in_cache(frames: Float[Tensor, "B C T H W"]) -> int:
    """How many frames are looked at together."""
    return max(1, IN_CACHE.get(frames.device.type, LARGE) // frames[:, :, :1].numel())


class ClipNorm(nn.GroupNorm):
    """Group norm over all frames and positions of a clip (HunyuanVideo's): exact only when the whole clip is at hand."""

    def __init__(self, groups: int, width: int):
        super().__init__(groups, width, eps=EPSILON)

    def over(self, clip: Clip) -> Ready:
        """Statistics piece by piece where no gradient is needed; the clip is left as it is."""
        if torch.is_grad_enabled():
            return self.activate
        mean, variance = self.moments(clip)
        return partial(self.activate_with, mean, variance)

    def activate(self, frames: Float[Tensor, "B C T H W"], out: Tensor | None) -> Float[Tensor, "B C T H W"]:
        assert out is None
        return F.silu(self(frames))

    def moments(self, clip: Clip) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Mean and variance of each group, given for each channel."""
        sums = [power_sums(few.to(wide(few.dtype))) for frames in clip for few in frames.split(in_cache(frames), 2)]
        numbers = sum(frames[0, 0].numel() for frames in clip)
        groups = torch.stack(sums).sum(0).unflatten(2, (self.num_groups, -1)).mean(3) / numbers
        mean, square = groups.repeat_interleave(self.num_channels // self.num_groups, 2)
        return mean, (square - mean.square()).clamp_min(0)

    def activate_with(
        self, mean: Float[Tensor, "B C"], variance: Float[Tensor, "B C"], frames: Float[Tensor, "B C T H W"], out: Tensor | None
    ) -> Float[Tensor, "B C T H W"]:
        """Batch norm's kernel with our statistics: one pass, and the right rounding for 16-bit frames."""
        weight, bias = self.weight.to(mean.dtype), self.bias.to(mean.dtype)
        out = torch.empty_like(frames) if out is None else out
        length = in_cache(frames[:1])
        for one, target, m, v in zip(frames.split(1), out.split(1), mean, variance, strict=True):
            for few, place in zip(one.split(length, 2), target.split(length, 2), strict=True):
                torch.ops.aten.silu.out(F.batch_norm(few, m, v, weight, bias, eps=self.eps), out=place)
        return out


def power_sums(frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "2 B C"]:
    """Sum and sum of squares of each channel."""
    return torch.stack([frames.sum((2, 3, 4)), frames.square().sum((2, 3, 4))])


class FrameNorm(nn.Module):
    """Root-mean-square norm over the channels of each position by itself, so that frames never mix and a clip can stream.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467).
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return frames * self.scale(frames) * self.weight[:, None, None, None].to(frames.dtype)

    def scale(self, frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 1 T H W"]:
        power = frames.to(wide(frames.dtype)).square().mean(1, keepdim=True)
        return torch.rsqrt(power + EPSILON).to(frames.dtype)

    def over(self, clip: Clip) -> Ready:
        return self.activate

    def activate(self, frames: Float[Tensor, "B C T H W"], out: Tensor | None) -> Float[Tensor, "B C T H W"]:
        if out is None:
            return F.silu(self(frames))
        length = in_cache(frames)
        for few, place in zip(frames.split(length, 2), out.split(length, 2), strict=True):
            torch.mul(few, self.scale(few), out=place)
            F.silu(place.mul_(self.weight[:, None, None, None]), inplace=True)
        return out
