"""Published networks, used where their weights lie on this machine: nothing is downloaded.

CLIP and DINO are looked for in the Hugging Face cache, or in the folder that an environment variable names (`KINEMA_CLIP`,
`KINEMA_DINO`); I3D as the torchscript file that published FVD code uses (`KINEMA_I3D`, or in the torch hub's cache).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.curation.filters.aesthetic import LINEAR_HEAD, LAIONPredictor
from kinema.errors import WeightsError
from kinema.vae.perceptual import VGG_URL, PerceptualDistance

I3D_FILE, I3D_FRAMES, I3D_SIDE = "i3d_torchscript.pt", 16, 224


class HuggingFace:
    """A model of transformers and its image processor, from local files alone."""

    def __init__(self, folder: str):
        """Raises WeightsError where the files are not here."""
        from transformers import AutoImageProcessor, AutoModel

        self.folder = folder
        try:
            self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
            self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder} is not on this machine: {str(error).splitlines()[0]}") from error

    def pixels(self, frames: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 h w"]:
        return self.processor(images=list(frames), return_tensors="pt")["pixel_values"]


class CLIP(HuggingFace):
    """Radford et al. 2021 (arXiv 2103.00020)."""

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    @torch.inference_mode()
    def features(self, frames: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, "n d"]:
        seen = self.model.vision_model(pixel_values=self.pixels(frames)).pooler_output
        return F.normalize(self.model.visual_projection(seen), dim=-1)

    @torch.inference_mode()
    def similarity(self, frames: UInt8[Tensor, "n 3 H W"], prompt: str) -> float:
        """Mean cosine of the prompt (77 tokens of it) and each frame."""
        tokens = self.tokenizer([prompt], truncation=True, return_tensors="pt")
        text = self.model.text_projection(self.model.text_model(**tokens).pooler_output)
        return float((self.features(frames) @ F.normalize(text, dim=-1).T).mean())


class DINO(HuggingFace):
    """Caron et al. 2021 (arXiv 2104.14294): the class token."""

    @torch.inference_mode()
    def features(self, frames: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, "n d"]:
        return self.model(pixel_values=self.pixels(frames)).last_hidden_state[:, 0]


class I3D:
    """Carreira & Zisserman 2017 on Kinetics-400, as StyleGAN-V's torchscript has it: 400 logits a video."""

    def __init__(self, path: str):
        """Raises WeightsError where the file is not here."""
        if not Path(path).is_file():
            raise WeightsError(f"{path} is not on this machine")
        self.net = torch.jit.load(path).eval()

    @torch.inference_mode()
    def video(self, frames: UInt8[Tensor, "T 3 H W"]) -> Float[Tensor, " d"]:
        """16 evenly spread frames, resized to 224 pixels by the network, in [-1, 1]."""
        places = torch.linspace(0, len(frames) - 1, I3D_FRAMES).round().long()
        clip = F.interpolate(frames[places].float(), (I3D_SIDE, I3D_SIDE), mode="bilinear", align_corners=False) / 127.5 - 1
        return self.net(rearrange(clip, "T c h w -> 1 c T h w"), rescale=False, resize=False, return_features=True)[0]


@dataclass(frozen=True)
class Published:
    """A network and where it is looked for."""

    title: str
    build: Callable[[str], Any]
    variable: str
    default: str

    @property
    def source(self) -> str:
        return os.environ.get(self.variable) or self.default

    def load(self) -> Any:
        return self.build(self.source)

    def missing(self) -> str:
        """Why it cannot be used here; empty where it can."""
        if Path(self.source).exists() or cached(self.source):
            return ""
        return f"{self.title} is not on this machine: name it in {self.variable}"


def cached(name: str) -> bool:
    """Whether the Hugging Face cache holds a model's config."""
    from transformers.utils import cached_file

    try:
        return bool(cached_file(name, "config.json", local_files_only=True))
    except (OSError, ValueError):
        return False


def hub_file(name: str) -> str:
    """Where the torch hub keeps a file."""
    return str(Path(torch.hub.get_dir()) / "checkpoints" / name)


BACKBONES = {
    "clip": Published("CLIP ViT-B/32", CLIP, "KINEMA_CLIP", "openai/clip-vit-base-patch32"),
    "dino": Published("DINO ViT-B/16", DINO, "KINEMA_DINO", "facebook/dino-vitb16"),
    "laion": Published(
        f"LAION's aesthetic predictor (CLIP ViT-L/14 and {LINEAR_HEAD})", lambda name: LAIONPredictor(Path(name)), "KINEMA_LAION", "laion"
    ),
    "vgg16": Published("torchvision's VGG16", lambda _: PerceptualDistance("vgg16"), "KINEMA_VGG16", hub_file(Path(VGG_URL).name)),
    "i3d": Published("I3D (torchscript)", I3D, "KINEMA_I3D", hub_file(I3D_FILE)),
}
"""Name -> network. A metric that needs one that is missing is left out, with the reason in the report."""
