"""A small convolutional network that names what a picture shows; the recogniser is two of them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class FrameNetConfig:
    """Size of a network."""

    classes: int
    size: int  # pixels of a picture's height; the width keeps the picture's aspect
    widths: tuple[int, ...]  # channels a stage
    blocks: tuple[int, ...]  # residual blocks a stage
    strides: tuple[int, ...]  # of a stage's entrance: 1 or 2


class Bottleneck(nn.Module):
    """Residual block: 1x1 to half the width, 3x3, 1x1 back; it starts as the identity."""

    def __init__(self, width: int):
        super().__init__()
        inner = width // 2
        self.narrow, self.narrow_norm = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.mix, self.mix_norm = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.widen, self.widen_norm = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        nn.init.zeros_(self.widen_norm.weight)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        inside = F.silu(self.narrow_norm(self.narrow(x)))
        inside = F.silu(self.mix_norm(self.mix(inside)))
        return F.silu(x + self.widen_norm(self.widen(inside)))


class Entrance(nn.Module):
    """Into a stage: average down by its stride, then change the width."""

    def __init__(self, width_in: int, width_out: int, stride: int):
        super().__init__()
        self.stride = stride
        self.change, self.norm = nn.Conv2d(width_in, width_out, 1, bias=False), nn.BatchNorm2d(width_out)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d hs ws"]:
        smaller = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return F.silu(self.norm(self.change(smaller)))


class FrameNet(nn.Module):
    """Pictures to logits. Where to look is learned: a small thing in a wide frame is not averaged away."""

    def __init__(self, config: FrameNetConfig):
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.stem, self.stem_norm = nn.Conv2d(3, first, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(first)
        layers: list[nn.Module] = []
        for width_in, width, blocks, stride in zip((first, *config.widths), config.widths, config.blocks, config.strides, strict=False):
            layers += [Entrance(width_in, width, stride), *(Bottleneck(width) for _ in range(blocks))]
        self.body = nn.Sequential(*layers)
        self.look = nn.Conv2d(config.widths[-1], 1, 1)
        self.head = nn.Linear(config.widths[-1], config.classes)

    def forward(self, pictures: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B classes"]:
        """pictures: in [0, 1], of any size of which the strides leave something."""
        features = self.body(F.silu(self.stem_norm(self.stem((pictures - 0.5) / 0.25))))
        places = rearrange(self.look(features), "B 1 h w -> B (h w)").float().softmax(dim=-1)
        seen = torch.einsum("B c p, B p -> B c", rearrange(features, "B c h w -> B c (h w)"), places.to(features.dtype))
        return self.head(seen)


def subject_net(classes: int) -> FrameNetConfig:
    """The network that names the subject: 2.2 million parameters for 734 classes."""
    return FrameNetConfig(classes=classes, size=128, widths=(64, 128, 256, 384), blocks=(2, 2, 3, 2), strides=(2, 2, 2, 1))


def place_net(classes: int) -> FrameNetConfig:
    """The network that names the place: 0.3 million parameters."""
    return FrameNetConfig(classes=classes, size=64, widths=(32, 64, 128, 192), blocks=(1, 1, 2, 1), strides=(1, 2, 2, 1))
