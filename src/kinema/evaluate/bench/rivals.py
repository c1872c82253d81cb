"""diffusers' side of each measurement: its classes with the very weights and inputs of ours, used as its documentation shows.

diffusers is an optional dependency, imported only here. Its autoencoder cuts clips in time by default; that is switched off,
so that both compute the same thing.
"""

import importlib
from pathlib import Path
from typing import Any

import torch

from kinema.dit.model import DiTConfig
from kinema.errors import MissingExtraError
from kinema.evaluate.bench.sides import dit_inputs, latents_of, make_dit, make_vae, pixels_of
from kinema.evaluate.bench.timing import Work
from kinema.pipelines.placement import Placement
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig
from kinema.weights import to_diffusers

NAME = "diffusers"


def published(name: str) -> Any:
    """A class of diffusers; MissingExtraError where it is not installed."""
    try:
        diffusers = importlib.import_module(NAME)
    except ImportError as error:
        raise MissingExtraError(NAME, "dev") from error
    diffusers.utils.logging.set_verbosity_error()
    return getattr(diffusers, name)


def make_rival_dit(config: DiTConfig, weights: Path | None) -> Any:
    dit = published("HunyuanVideoTransformer3DModel")(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        num_layers=config.double_blocks,
        num_single_layers=config.single_blocks,
        num_refiner_layers=config.refiner_blocks,
        mlp_ratio=config.mlp_ratio,
        patch_size=config.patch[1],
        patch_size_t=config.patch[0],
        guidance_embeds=config.guidance,
        text_embed_dim=config.text_width,
        pooled_projection_dim=config.pooled_width,
        rope_theta=config.rope_theta,
        rope_axes_dim=config.rope_axes,
    )
    dit.load_state_dict(to_diffusers(make_dit(config, weights).state_dict()))
    return dit.eval()


def make_rival_vae(config: VAEConfig, weights: Path | None) -> Any:
    vae = published("AutoencoderKLHunyuanVideo")(
        latent_channels=config.latent_channels,
        block_out_channels=config.channels,
        layers_per_block=config.encoder_layers[0],
        norm_num_groups=config.groups,
        scaling_factor=config.scaling_factor,
    )
    vae.load_state_dict(make_vae(config, weights).state_dict())  # the two share every name
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae.eval()


def dit_step(config: DiTConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    dit = make_rival_dit(config, weights).to(placement.device, placement.dtype)
    inputs = dit_inputs(config, shape, placement)
    named = {
        "hidden_states": inputs["latents"],
        "timestep": inputs["time"],
        "encoder_hidden_states": inputs["text"],
        "encoder_attention_mask": torch.ones(1, inputs["text"].shape[1], dtype=torch.bool, device=placement.device),
        "pooled_projections": inputs["pooled"],
        "guidance": inputs["guidance"],
    }
    return lambda: [dit(**named).sample]


def vae_encode(config: VAEConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    vae = make_rival_vae(config, weights).to(placement.device, placement.dtype)
    pixels = pixels_of(shape, placement)
    return lambda: [vae.encode(pixels).latent_dist.mode()]


def vae_decode(config: VAEConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    vae = make_rival_vae(config, weights).to(placement.device, placement.dtype)
    latents = latents_of(shape, config.latent_channels, placement)
    return lambda: [vae.decode(latents).sample]
