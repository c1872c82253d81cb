"""Kinema's side of each measurement: a part built as the pipeline builds it, and one call of it.

Every function here and in `rivals.py` draws the same weights and the same inputs from the same arguments, in any process.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.dit.model import DiT, DiTConfig
from kinema.evaluate.bench.timing import Work
from kinema.pipelines.compiled import compile_dit
from kinema.pipelines.placement import Placement
from kinema.shapes import PixelShape
from kinema.text.encoder import TextConfig, load_text_encoder
from kinema.vae.model import CausalVAE, VAEConfig, channels_last
from kinema.vae.streaming import decode_stream
from kinema.weights import load_dit, load_vae

SEED = 7
TEXT_TOKENS = 32  # of a prompt of two sentences
TIME = 900.0  # of 1000: early in the sampling
PROMPT = "A cat walks on the grass, cinematic style."


def make_dit(config: DiTConfig, weights: Path | None) -> DiT:
    """weights: their file; None: random ones, on which timings do not depend."""
    torch.manual_seed(SEED)
    return (DiT(config) if weights is None else load_dit(weights, config)).eval()


def make_vae(config: VAEConfig, weights: Path | None) -> CausalVAE:
    torch.manual_seed(SEED)
    return (CausalVAE(config) if weights is None else load_vae(weights, config)).eval()


def normal(shape: tuple[int, ...], placement: Placement) -> Float[Tensor, " ..."]:
    """The same numbers on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).to(placement.device, placement.dtype)


def latents_of(shape: PixelShape, channels: int, placement: Placement) -> Float[Tensor, "1 C t h w"]:
    return normal((1, channels, shape.latent.t, shape.latent.h, shape.latent.w), placement)


def pixels_of(shape: PixelShape, placement: Placement) -> Float[Tensor, "1 3 T H W"]:
    return normal((1, 3, shape.frames, shape.height, shape.width), placement).clamp(-1, 1)


def dit_inputs(config: DiTConfig, shape: PixelShape, placement: Placement) -> dict[str, Any]:
    """One step's inputs by the names of `DiT.forward`; no text is padding."""
    guidance = torch.tensor([6000.0], device=placement.device) if config.guidance else None
    return {
        "latents": latents_of(shape, config.in_channels, placement),
        "time": torch.tensor([TIME], device=placement.device),
        "text": normal((1, TEXT_TOKENS, config.text_width), placement),
        "text_mask": None,
        "pooled": normal((1, config.pooled_width), placement),
        "guidance": guidance,
    }


def dit_step(config: DiTConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    dit = make_dit(config, weights).to(placement.device, placement.dtype)
    if placement.compile != "none":
        compile_dit(dit, placement.compile, placement.device)
    inputs = dit_inputs(config, shape, placement)
    return lambda: [dit(**inputs)]


def place_vae(config: VAEConfig, weights: Path | None, placement: Placement) -> CausalVAE:
    vae = make_vae(config, weights).to(placement.device, placement.dtype)
    channels_last(vae)
    return vae


def vae_encode(config: VAEConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    vae = place_vae(config, weights, placement)
    pixels = pixels_of(shape, placement)
    return lambda: [vae.encode(pixels).mode()]


def vae_decode(config: VAEConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    vae = place_vae(config, weights, placement)
    latents = latents_of(shape, config.latent_channels, placement)
    return lambda: [vae.decode(latents)]


def vae_decode_stream(config: VAEConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    """Frames are given out as they come; nobody keeps them."""
    vae = place_vae(config, weights, placement)
    latents = latents_of(shape, config.latent_channels, placement)

    def work() -> Iterator[Tensor]:
        return decode_stream(vae, [latents])

    return work


def text_encode(config: TextConfig, weights: Path | None, placement: Placement) -> Work:
    encoder = load_text_encoder(config, weights, placement.device, placement.dtype)
    return lambda: [encoder.encode([PROMPT]).states]
