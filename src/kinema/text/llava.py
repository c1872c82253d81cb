"""A picture and a prompt through a multimodal language model: what it sees becomes tokens in front of the prompt's.

The picture passes CLIP's vision tower and a small projector, and takes the place of `<image>` in the template. The states at its places,
every `image_step`-th of them, come first; then those of the prompt, without the template's and without the four tokens that hand over
to the assistant (all but the last of what stands behind the prompt), as the published weights were trained.

Sources: LLaVA (arXiv 2310.03744); HunyuanVideo (arXiv 2412.03603, section 5.2) and its image-to-video release.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from kinema.errors import WeightsError
from kinema.text.llama import Llama, read_tensors
from kinema.text.llm import PromptTokenizer

IMAGE_TOKEN = "<image>"
HANDOVER = 5  # tokens behind the prompt: end of turn, the assistant's header in three, an empty line
VISION_PREFIXES = ("vision_tower.vision_model.", "vision_tower.", "model.vision_tower.vision_model.", "model.vision_tower.")
PROJECTOR_PREFIXES = ("multi_modal_projector.", "model.multi_modal_projector.")
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training pictures


@dataclass(frozen=True)
class Eye:
    """CLIP's vision tower with LLaVA's projector: a picture as embeddings of the language model."""

    tower: nn.Module
    projector: nn.Module
    layer: int  # of the tower's hidden states
    side: int  # pixels

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> "Eye":
        """From a published folder, under either dialect of names.

        Raises WeightsError where the folder holds a language model alone, or another kind of vision tower.
        """
        fields = json.loads((folder / "config.json").read_text())
        vision, strategy = fields.get("vision_config") or {}, fields.get("vision_feature_select_strategy", "default")
        if vision.get("model_type") != "clip_vision_model" or strategy != "default":
            raise WeightsError(f"{folder} holds no LLaVA with CLIP's vision tower: put llava-llama-3-8b-v1_1-transformers there")
        tower = load_tower(folder, vision, device, dtype)
        projector = load_projector(folder, vision["hidden_size"], fields["text_config"]["hidden_size"], device, dtype)
        return cls(tower, projector, fields.get("vision_feature_layer", -2), vision["image_size"])

    def __call__(self, picture: UInt8[Tensor, "H W 3"]) -> Float[Tensor, "N D"]:
        """One embedding a patch, row by row."""
        weight = next(self.projector.parameters())
        seen = self.tower(clip_pixels(picture, self.side).to(weight), output_hidden_states=True).hidden_states[self.layer]
        return self.projector(seen[0, 1:])  # the first is CLIP's summary


def load_tower(folder: Path, vision: dict[str, Any], device: torch.device, dtype: torch.dtype) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    with torch.device("meta"):
        tower = CLIPVisionModel(CLIPVisionConfig(**vision))
    names = {name: name.removeprefix("vision_model.") for name in tower.state_dict()}
    found = read_tensors(folder, list(names.values()), device, dtype, VISION_PREFIXES)
    tower.load_state_dict({name: found[bare] for name, bare in names.items()}, assign=True)
    for name, places in list(tower.named_buffers()):  # numbers of the patches: no file holds them
        parent, _, own = name.rpartition(".")
        tower.get_submodule(parent).register_buffer(own, torch.arange(places.shape[-1], device=device)[None], persistent=False)
    return tower.eval().requires_grad_(False)


def load_projector(folder: Path, width: int, out: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        projector = nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))
    names = {name: name.replace("0.", "linear_1.").replace("2.", "linear_2.") for name in projector.state_dict()}
    found = read_tensors(folder, list(names.values()), device, dtype, PROJECTOR_PREFIXES)
    projector.load_state_dict({name: found[theirs] for name, theirs in names.items()}, assign=True)
    return projector.eval().requires_grad_(False)


def clip_pixels(picture: UInt8[Tensor, "H W 3"], side: int) -> Float[Tensor, "1 3 s s"]:
    """As CLIP wants it: the shorter side resized (bicubic), the middle cut out, colours standardised."""
    height, width, _ = picture.shape
    scale = side / min(height, width)
    size = (max(int(width * scale), side), max(int(height * scale), side))
    image = Image.fromarray(picture.numpy()).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
    standard = (pixels - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return torch.from_numpy(standard).permute(2, 0, 1)[None]


def black(side: int) -> UInt8[Tensor, "s s 3"]:
    """What is seen where guidance must not see the picture."""
    return torch.zeros(side, side, 3, dtype=torch.uint8)


def sight_and_prompt(
    model: Llama, eye: Eye, tokenize: PromptTokenizer, prompt: str, picture: UInt8[Tensor, "H W 3"] | None, image_step: int
) -> Float[Tensor, "L D"]:
    """States of one picture and one prompt. picture: None is a black one. Raises WeightsError where the tokeniser knows no <image>."""
    token = tokenize.tokenizer.token_to_id(IMAGE_TOKEN)
    if token is None or tokenize.head.count(token) != 1:
        raise WeightsError(f"this tokenizer.json knows no {IMAGE_TOKEN}: it belongs to a language model that cannot see")
    tokens, place = tokenize([prompt]), tokenize.head.index(token)
    ids = tokens.ids[0].to(model.embed_tokens.weight.device)
    seen = eye(black(eye.side) if picture is None else picture)
    words = model.embed_tokens(ids)
    states = model.run(torch.cat([words[:place], seen.to(words), words[place + 1 :]])[None])[0]
    said = states[tokens.crop - 1 + len(seen) :]
    whole = len(said) < tokenize.text_len or ids[-1] == tokenize.tail[-1]
    behind = len(said) - (1 if whole else 0)
    return torch.cat([states[place : place + len(seen)][::image_step], said[: behind - HANDOVER + 1], said[behind:]])
