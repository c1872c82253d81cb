"""Every preset is a model of the size it names."""

import pytest
import torch

from kinema.config import parse_config, to_toml
from kinema.dit.model import DiT
from kinema.presets import MODELS
from kinema.vae.model import CausalVAE
from kinema.weights import infer_dit_config

DIT_SIZES = {"t2v_13b": (12_810_782_784, 852), "t2v_13b_distilled": (12_821_012_544, 856), "i2v_13b": (12_821_012_544, 856)}
PUBLISHED_VAE = (246_478_803, 248)


def size_of(model: torch.nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), len(model.state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_every_preset_is_built_and_counted(name: str):
    config = MODELS[name]()
    assert config.name == name
    with torch.device("meta"):
        dit, vae = DiT(config.dit), CausalVAE(config.vae)
    if name in DIT_SIZES:
        assert size_of(dit) == DIT_SIZES[name]
    if config.text.kind == "hunyuan":
        assert size_of(vae) == PUBLISHED_VAE


@pytest.mark.parametrize("name", MODELS)
def test_parts_of_a_preset_fit_each_other(name: str):
    config = MODELS[name]()
    assert (config.dit.text_width, config.dit.pooled_width) == (config.text.width, config.text.pooled_width)
    assert config.dit.out_channels == config.vae.latent_channels
    assert config.request("A cat.", seed=0).shape.latent.tokens > 0


@pytest.mark.parametrize("name", [name for name in MODELS if name != "tiny"])
def test_shapes_show_which_preset_it_is(name: str):
    config = MODELS[name]().dit
    with torch.device("meta"):
        state = DiT(config).state_dict()
    known = {"image_condition": "token_replace"} if config.image_condition == "token_replace" else {}
    assert infer_dit_config(state, **known) == config


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_survives_toml(name: str):
    config = MODELS[name]()
    assert parse_config(type(config), to_toml(config)) == config


def test_33_channels_are_noise_image_and_mask():
    assert MODELS["i2v_13b_concat"]().dit.in_channels == 2 * 16 + 1
