"""An avatar: everything that drives a face, as one module beside a transformer that stays as it is.

Voice (cross-attention), expression and pose (channels, frame by frame), identity (channels: the picture's own latent at every frame).
Each may be left out: what is not given adds zero, or what `known` says. In a file it stands with the adapters of the transformer's
own layers that were trained with it.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinema.conditioning import expression, pose
from kinema.conditioning.audio import TOKENS as VOICE_TOKENS
from kinema.conditioning.audio import AudioAdapter, AudioConfig
from kinema.conditioning.draft import Draft, DraftConfig
from kinema.conditioning.track import TrackAdapter
from kinema.config import build
from kinema.dit.added import Added
from kinema.dit.lora import Lora, Pair
from kinema.errors import WeightsError
from kinema.media.files import whole_file
from kinema.shapes import TIME_STRIDE

KIND = "kinema avatar"
LORA = "lora."


@dataclass(frozen=True, kw_only=True)
class AvatarConfig:
    """Size of the adapters, and what they were made for."""

    width: int  # D of the transformer
    latent_channels: int
    audio: AudioConfig
    draft: DraftConfig = field(default_factory=DraftConfig)
    hidden: int = 96  # of the tracks' networks
    fps: int = 12
    frames: int = 33  # T at once
    side: int = 64  # pixels
    patch: int = 2


@dataclass(frozen=True)
class Drive:
    """What drives one call; samples whose flag is False have no such track."""

    heard: Float[Tensor, "B S five d"]  # Whisper's states
    expression: Float[Tensor, "B T 6"]
    has_expression: Bool[Tensor, " B"]
    pose: Float[Tensor, "B T 5"]
    has_pose: Bool[Tensor, " B"]
    reference: Float[Tensor, "B C h w"]  # the latent of the picture alone
    mask: Float[Tensor, "B t h2 w2"]  # 1 where a token belongs to the face
    first: int = 0  # frame of the sound that is frame 0 of this call

    def to(self, device: torch.device) -> "Drive":
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


class Avatar(nn.Module):
    """All adapters of a talking face."""

    def __init__(self, config: AvatarConfig):
        super().__init__()
        self.config = config
        self.audio = AudioAdapter(config.audio, config.width)
        self.expression = TrackAdapter(expression.VALUES, config.width, config.hidden)
        self.pose = TrackAdapter(pose.VALUES, config.width, config.hidden)
        channels = config.latent_channels * config.patch**2
        self.draft = Draft(config.draft, TIME_STRIDE * VOICE_TOKENS * config.audio.width, expression.VALUES + pose.VALUES + 2, channels)
        self.reference = nn.Linear(2 * channels, config.width)  # the picture's patch, and the sketch's
        nn.init.zeros_(self.reference.weight)
        nn.init.zeros_(self.reference.bias)

    def voice(self, drive: Drive) -> Float[Tensor, "B t n a"]:
        return self.audio.voice(drive.heard, drive.pose.shape[1], self.config.fps, drive.first)

    def sketch(self, drive: Drive) -> Float[Tensor, "B C t h w"]:
        """Clean latents as the small network draws them."""
        p, side = self.config.patch, drive.reference.shape[-1] // self.config.patch
        patches = self.sketched(drive, self.voice(drive))
        return rearrange(patches, "B t (h w) (C ph pw) -> B C t (h ph) (w pw)", ph=p, pw=p, w=side)

    def sketched(self, drive: Drive, voice: Float[Tensor, "B t n a"]) -> Float[Tensor, "B t s p"]:
        known = [(drive.expression, drive.has_expression), (drive.pose, drive.has_pose)]
        flags = [flag[:, None, None].to(track).expand(*track.shape[:2], 1) for track, flag in known]
        tracks = torch.cat([part for (track, _), flag in zip(known, flags, strict=True) for part in (track * flag, flag)], 2)
        return self.draft(self.patches(drive.reference), voice, tracks, drive.mask.flatten(1).any(1))

    def patches(self, picture: Float[Tensor, "B C h w"]) -> Float[Tensor, "B s p"]:
        p = self.config.patch
        return rearrange(picture, "B C (h ph) (w pw) -> B (h w) (C ph pw)", ph=p, pw=p)

    def forward(self, drive: Drive) -> Added:
        """For one call of the transformer, or, as only noise changes, for all calls of a video."""
        tokens, voice = drive.mask[0].numel(), self.voice(drive)
        sketch = self.sketched(drive, voice).detach()
        picture = self.patches(drive.reference)[:, None].expand_as(sketch)
        channels = self.reference(torch.cat([picture, sketch], -1)).flatten(1, 2)
        channels = channels + self.expression(drive.expression, drive.has_expression, tokens)
        channels = channels + self.pose(drive.pose, drive.has_pose, tokens)
        return Added(channels=channels, cross=self.audio.cross(voice, drive.mask.flatten(1)))


@dataclass(frozen=True)
class AvatarFile:
    """What is shipped: an avatar, its LoRA, and facts."""

    avatar: Avatar
    lora: Lora
    about: dict[str, str] = field(default_factory=dict)


def save_avatar(path: Path, avatar: AvatarConfig, state: dict[str, Tensor], lora: Lora, about: dict[str, str]) -> None:
    """In half precision, atomically. Raises OutputError where it cannot be written."""
    tensors = dict(state)
    for name, pair in lora.pairs.items():
        tensors |= {f"{LORA}{name}.down": pair.down, f"{LORA}{name}.up": pair.up}
    alphas = {name: pair.alpha for name, pair in lora.pairs.items()}
    metadata = {"kind": KIND, "config": json.dumps(asdict(avatar)), "alphas": json.dumps(alphas), **about}
    with whole_file(path) as draft:
        save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, draft, metadata)


def config_of(text: str) -> AvatarConfig:
    """As it stands in a file's metadata."""
    return build(AvatarConfig, json.loads(text))


def read_avatar_config(path: Path) -> AvatarConfig:
    """Without its weights. Raises WeightsError where the file is missing, damaged, or no avatar."""
    try:
        with safe_open(path, "pt") as file:
            return config_of((file.metadata() or {})["config"])
    except (OSError, SafetensorError, KeyError) as error:
        raise WeightsError(f"cannot read {path} as an avatar: {error}") from error


def load_avatar(path: Path) -> AvatarFile:
    """In float32, frozen. Raises WeightsError where the file is missing, damaged, or no avatar."""
    try:
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path} as an avatar: {error}") from error
    if about.pop("kind", None) != KIND:
        raise WeightsError(f"{path} is no avatar: give a file that `kinema train runs/mini_avatar.toml` wrote")
    avatar = Avatar(config_of(about.pop("config")))
    avatar.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(LORA)})
    alphas = json.loads(about.pop("alphas"))
    pairs = {name: Pair(tensors[f"{LORA}{name}.down"], tensors[f"{LORA}{name}.up"], alpha) for name, alpha in alphas.items()}
    return AvatarFile(avatar.eval().requires_grad_(False), Lora(pairs), about)
