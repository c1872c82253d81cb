"""A first sketch of what a face will say: voice, expression and pose -> clean latents, in one small step.

A mouth's shape follows almost surely from the sound, so a small network can draw it from the picture's own latent, frame by frame. The
sketch is an average over all that is not known, so it is soft; sampling begins from it, noised, and the transformer makes a picture
of it (as SDEdit does: Meng et al. 2021, arXiv 2108.01073). The transformer also sees it through the channels door.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.conditioning.track import grouped
from kinema.shapes import TIME_STRIDE


@dataclass(frozen=True, kw_only=True)
class DraftConfig:
    """Size of the sketching network."""

    width: int = 144
    heads: int = 4
    layers: int = 3
    cells: int = 16  # patches of a latent frame
    told: int = 128  # of a frame's voice, expression and pose together


class Layer(nn.Module):
    """Patches of one frame look at each other; what the frame is told scales and shifts them."""

    def __init__(self, config: DraftConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.told = nn.Linear(config.told, 4 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Float[Tensor, "B s D"], told: Float[Tensor, "B d"]) -> Float[Tensor, "B s D"]:
        scale_a, shift_a, scale_m, shift_m = self.told(told)[:, None].chunk(4, -1)
        normed = F.layer_norm(x, x.shape[-1:]) * (1 + scale_a) + shift_a
        q, k, v = rearrange(self.qkv(normed), "B s (three N K) -> three B N s K", three=3, N=self.heads)
        x = x + self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "B N s K -> B s (N K)"))
        return x + self.mlp(F.layer_norm(x, x.shape[-1:]) * (1 + scale_m) + shift_m)


class Draft(nn.Module):
    """The sketching network; fresh, it repeats the picture."""

    def __init__(self, config: DraftConfig, voice: int, tracks: int, patch_channels: int):
        """voice, tracks: values of a latent frame's voice and of its tracks; patch_channels: of a patch."""
        super().__init__()
        self.voice = nn.Linear(voice, config.told)
        self.tracks = nn.Linear(TIME_STRIDE * tracks, config.told)
        self.mix = nn.Linear(config.told, config.told)
        self.patches = nn.Linear(patch_channels, config.width)
        self.places = nn.Parameter(0.1 * torch.randn(config.cells, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.change = nn.Linear(config.width, patch_channels)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(
        self, picture: Float[Tensor, "B s p"], voice: Float[Tensor, "B t n a"], tracks: Float[Tensor, "B T c"], heard: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B t s p"]:
        """Patches of every latent frame. heard: which samples have a voice."""
        latents = voice.shape[1]
        told = self.voice(voice.flatten(2)) * heard[:, None, None] + self.tracks(grouped(tracks).flatten(2))
        told = F.silu(self.mix(F.silu(told))).flatten(0, 1)
        x = (self.patches(picture) + self.places)[:, None].expand(-1, latents, -1, -1).flatten(0, 1)
        for layer in self.layers:
            x = layer(x, told)
        return picture[:, None] + self.change(x).unflatten(0, (-1, latents))
