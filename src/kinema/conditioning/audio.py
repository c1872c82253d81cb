"""A voice as a door of the transformer: Whisper's states around each frame -> 4 tokens a frame -> cross-attention after chosen blocks.

A frame sees a window of 10 states (0.2 s) of all 5 layers; the tokens of the four frames of a latent are read by that latent's video
tokens alone, and only a face listens. Fresh, it adds zero.
Source: HunyuanVideo-Avatar (arXiv 2505.20156), its audio adapter; that model's sizes are larger, and its first matrix is not factorised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.conditioning.track import grouped
from kinema.conditioning.whisper import STATE_RATE, STATES, WIDTH
from kinema.shapes import TIME_STRIDE

WINDOW = 10  # states around a frame
TOKENS = 4  # a frame


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Size of the voice's adapter."""

    blocks: tuple[int, ...]  # after which the face listens, double blocks first
    squeeze: int = 48  # channels that one moment's states are brought to
    width: int = 192  # of a token, and of the attention's head


def windows(moments: Float[Tensor, "B S c"], frames: int, fps: float | int, first: int = 0) -> Float[Tensor, "B T ten c"]:
    """What is heard around the middle of frames first ... first + T; beyond the sound there is nothing but zeros."""
    middles = ((torch.arange(first, first + frames) + 0.5) / fps * STATE_RATE).round().long()
    index = middles[:, None] + torch.arange(-WINDOW // 2, WINDOW - WINDOW // 2)
    inside = ((index >= 0) & (index < moments.shape[1])).to(moments.device, moments.dtype)
    return moments[:, index.clamp(0, moments.shape[1] - 1).to(moments.device)] * inside[..., None]


class AudioProjection(nn.Module):
    """States -> tokens."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        self.squeeze = nn.Linear(STATES * WIDTH, config.squeeze)
        self.mix = nn.Linear(WINDOW * config.squeeze, 2 * config.width)
        self.tokens = nn.Linear(2 * config.width, TOKENS * config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, heard: Float[Tensor, "B S five d"], frames: int, fps: float | int, first: int = 0) -> Float[Tensor, "B T 4 a"]:
        """Tokens of frames first ... first + T."""
        around = windows(F.gelu(self.squeeze(heard.flatten(2))), frames, fps, first)
        found = self.tokens(F.gelu(self.mix(around.flatten(2))))
        return self.norm(rearrange(found, "B T (n a) -> B T n a", n=TOKENS))


class Listening(nn.Module):
    """One cross-attention: video tokens ask, the voice of their own latent frame answers."""

    def __init__(self, config: AudioConfig, width: int):
        super().__init__()
        self.query, self.key_value = nn.Linear(width, config.width), nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, voice: Float[Tensor, "B t n a"], mask: Float[Tensor, "B L"], video: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        q = rearrange(self.query(F.layer_norm(video, video.shape[-1:])), "B (t s) a -> B t s a", t=voice.shape[1])
        k, v = self.key_value(voice).chunk(2, -1)
        found = rearrange(F.scaled_dot_product_attention(q, k, v), "B t s a -> B (t s) a")
        return self.out(found) * mask[..., None]


class AudioAdapter(nn.Module):
    """The voice's whole way."""

    def __init__(self, config: AudioConfig, width: int):
        super().__init__()
        self.config = config
        self.projection = AudioProjection(config)
        self.places = nn.Parameter(0.02 * torch.randn(TIME_STRIDE, TOKENS, config.width))  # which frame of the latent, which token
        self.listening = nn.ModuleList(Listening(config, width) for _ in config.blocks)

    def voice(self, heard: Float[Tensor, "B S five d"], frames: int, fps: float | int, first: int = 0) -> Float[Tensor, "B t n a"]:
        """Tokens of each latent frame: 16, those of the first frame repeated."""
        tokens = self.projection(heard, frames, fps, first)
        return rearrange(grouped(tokens) + self.places, "B t f n a -> B t (f n) a")

    def cross(
        self, voice: Float[Tensor, "B t n a"], mask: Float[Tensor, "B L"]
    ) -> dict[int, Callable[[Float[Tensor, "B L D"]], Float[Tensor, "B L D"]]]:
        """For `Added.cross`. mask: 1 where a token belongs to the face that speaks."""
        return {block: partial(layer, voice, mask) for block, layer in zip(self.config.blocks, self.listening, strict=True)}


def every_other(blocks: int) -> Sequence[int]:
    """After every second block, from the first on."""
    return tuple(range(0, blocks, 2))
