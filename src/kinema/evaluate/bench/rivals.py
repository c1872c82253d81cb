"""diffusers' side of each measurement: its classes with the very weights and inputs of ours, used as its documentation shows.

diffusers is an optional dependency, imported only here. Its autoencoder cuts clips in time by default; that is switched off,
so that both compute the same thing.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.dit.model import DiTConfig
from kinema.errors import MissingExtraError
from kinema.evaluate.bench.sides import dit_inputs, latents_of, make_dit, make_vae, pixels_of
from kinema.evaluate.bench.timing import Work
from kinema.pipelines.placement import Placement
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig
from kinema.weights import to_diffusers
from kinema.weights.convert import dit_fields, vae_fields

NAME = "diffusers"


def make_rival(fields: dict[str, Any], state: dict[str, Tensor]) -> Any:
    """diffusers' class for a config in its words, with these weights.

    Raises MissingExtraError where diffusers is not installed.
    """
    try:
        diffusers = importlib.import_module(NAME)
    except ImportError as error:
        raise MissingExtraError(NAME, "dev") from error
    diffusers.utils.logging.set_verbosity_error()
    model = getattr(diffusers, fields["_class_name"]).from_config(fields)
    model.load_state_dict(state)
    return model.eval()


def make_rival_dit(config: DiTConfig, weights: Path | None) -> Any:
    return make_rival(dit_fields(config), to_diffusers(make_dit(config, weights).state_dict()))


def make_rival_vae(config: VAEConfig, weights: Path | None) -> Any:
    vae = make_rival(vae_fields(config), make_vae(config, weights).state_dict())  # the two share every name
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae


def dit_step(config: DiTConfig, shape: PixelShape, weights: Path | None, placement: Placement) -> Work:
    dit = make_rival_dit(config, weights).to(placement.device, placement.dtype)
    if placement.compile != "none":
        dit.compile_repeated_blocks(dynamic=True)
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
