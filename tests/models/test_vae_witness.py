"""The published autoencoder as witness: a stored run of it, and diffusers' class with random weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from kinema.vae.model import CausalVAE, VAEConfig
from kinema.vae.tiling import decode_tiled, encode_tiled

WITNESS = Path(__file__).parents[3] / "shared/reference/vae_small.safetensors"


@pytest.fixture(scope="module")
def witness():
    if not WITNESS.exists():
        pytest.skip(f"no witness file at {WITNESS}")
    with safe_open(WITNESS, "pt") as file:
        published = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    levels = len(published["block_out_channels"])
    config = VAEConfig(
        channels=tuple(published["block_out_channels"]),
        encoder_layers=(published["layers_per_block"],) * levels,
        decoder_layers=(published["layers_per_block"] + 1,) * levels,
        groups=published["norm_num_groups"],
        tile_size=published["sample_size"],
        tile_frames=published["sample_tsize"],
    )
    vae = CausalVAE(config).eval()
    vae.load_state_dict({name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")})
    return vae, tensors


@torch.no_grad()
def test_whole_clips_agree_with_the_published_run(witness):
    vae, tensors = witness
    posterior = vae.encode(tensors["input.video"])
    torch.testing.assert_close(posterior.mean, tensors["output.mean"], rtol=0, atol=1e-4)
    torch.testing.assert_close(posterior.logvar, tensors["output.logvar"], rtol=0, atol=1e-4)
    torch.testing.assert_close(vae.decode(tensors["output.mean"]), tensors["output.reconstruction"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_tiles_agree_with_the_published_run(witness):
    vae, tensors = witness
    torch.testing.assert_close(encode_tiled(vae, tensors["input.video"]).mean, tensors["tiled.mean"], rtol=0, atol=1e-4)
    torch.testing.assert_close(decode_tiled(vae, tensors["output.mean"]), tensors["tiled.reconstruction"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_diffusers_agrees_in_double_precision_and_shares_every_name():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKLHunyuanVideo(block_out_channels=(8, 16, 16, 16), layers_per_block=1, norm_num_groups=4).double().eval()
    config = VAEConfig(channels=(8, 16, 16, 16), encoder_layers=(1,) * 4, decoder_layers=(2,) * 4, groups=4)
    ours = CausalVAE(config).double().eval()
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    for frames in (1, 9):
        pixels = torch.rand(2, 3, frames, 16, 24, dtype=torch.float64) * 2 - 1
        expected = theirs.encode(pixels).latent_dist
        posterior = ours.encode(pixels)
        torch.testing.assert_close(posterior.mean, expected.mean, rtol=0, atol=1e-9)
        torch.testing.assert_close(posterior.logvar, expected.logvar, rtol=0, atol=1e-9)
        torch.testing.assert_close(ours.decode(posterior.mean), theirs.decode(expected.mean).sample, rtol=0, atol=1e-9)
