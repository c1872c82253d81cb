"""Published networks, used where their weights lie on this machine: nothing is downloaded.

Each is looked for where `kinema evaluate run --backbone NAME=PATH` or its environment variable says (`KINEMA_CLIP` ...), else in the cache
of Hugging Face or of the torch hub. `Published.get` says where people get it.
"""

import hashlib
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
from kinema.errors import InputError, WeightsError
from kinema.evaluate.exported import MUSIQ, ViCLIP
from kinema.evaluate.raft import RAFT
from kinema.vae.perceptual import VGG_URL, PerceptualDistance, torchvision_vgg

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


def lpips(path: str) -> PerceptualDistance:
    """LPIPS on the VGG16 of a torchvision checkpoint. Raises WeightsError where the file is not here or is another network's."""
    try:
        return PerceptualDistance(torchvision_vgg(torch.load(path, map_location="cpu", weights_only=True)))
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} holds no VGG16 of torchvision: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True)
class Published:
    """A network, where it is looked for, and where it is to be had."""

    title: str
    build: Callable[[str], Any]
    variable: str
    default: str  # empty: only where the variable says
    get: str

    @property
    def source(self) -> str:
        return os.environ.get(self.variable) or self.default

    def load(self) -> Any:
        return self.build(self.source)

    def missing(self) -> str:
        """Why it cannot be used here; empty where it can."""
        if self.source and (Path(self.source).exists() or cached(self.source)):
            return ""
        name = next(name for name, published in BACKBONES.items() if published is self)
        return f"{self.title} is not on this machine: get {self.get}, then say --backbone {name}=PATH (or {self.variable}=PATH)"

    def identity(self) -> str:
        """Tells one set of weights from another: every file's name, size and time of change."""
        path = Path(self.source)
        files = sorted(path.iterdir()) if self.source and path.is_dir() else [path] if path.is_file() else []
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(repr((self.source, stats)).encode()).hexdigest()[:16]


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


RAFT_FILE = "raft_large_C_T_V2-1bb1363a.pth"

BACKBONES = {
    "clip": Published(
        "CLIP ViT-B/32", CLIP, "KINEMA_CLIP", "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32 from Hugging Face"
    ),
    "dino": Published("DINO ViT-B/16", DINO, "KINEMA_DINO", "facebook/dino-vitb16", "facebook/dino-vitb16 from Hugging Face"),
    "laion": Published(
        f"LAION's aesthetic predictor (CLIP ViT-L/14 and {LINEAR_HEAD})",
        lambda name: LAIONPredictor(Path(name)),
        "KINEMA_LAION",
        "laion",
        f"openai/clip-vit-large-patch14 from Hugging Face and {LINEAR_HEAD} from github.com/LAION-AI/aesthetic-predictor, in one folder",
    ),
    "vgg16": Published("torchvision's VGG16", lpips, "KINEMA_VGG16", hub_file(Path(VGG_URL).name), VGG_URL),
    "i3d": Published(
        "I3D (torchscript)", I3D, "KINEMA_I3D", hub_file(I3D_FILE), f"{I3D_FILE}, to which github.com/universome/stylegan-v links"
    ),
    "raft": Published(
        "RAFT",
        RAFT.load,
        "KINEMA_RAFT",
        hub_file(RAFT_FILE),
        f"https://download.pytorch.org/models/{RAFT_FILE}, or raft-things.pth of github.com/princeton-vl/RAFT, with which VBench measures",
    ),
    "musiq": Published(
        "MUSIQ", MUSIQ, "KINEMA_MUSIQ", "", "the package pyiqa, whose musiq-spaq VBench uses, and export it (docs/evaluation.md)"
    ),
    "viclip": Published(
        "ViCLIP", ViCLIP, "KINEMA_VICLIP", "", "ViClip-InternVid-10M-FLT from OpenGVLab, and export it (docs/evaluation.md)"
    ),
}
"""Name -> network. A metric that needs one that is missing is left out, with the reason in the report."""


def place_backbone(text: str) -> None:
    """Take in "NAME=PATH": this process and those that it starts look there. Raises InputError for an unknown name or a missing path."""
    name, _, path = text.partition("=")
    if name not in BACKBONES or not path:
        raise InputError(f"backbone={text!r} must be NAME=PATH, NAME one of: {', '.join(BACKBONES)}")
    if not Path(path).exists():
        raise InputError(f"backbone={text!r}: there is no {path}; get {BACKBONES[name].get}")
    os.environ[BACKBONES[name].variable] = str(Path(path).resolve())
