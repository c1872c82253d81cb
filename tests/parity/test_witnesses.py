"""Stored runs of the published models, where they are at hand."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinema.dit.model import DiT, DiTConfig
from kinema.errors import WeightsError
from kinema.evaluate.witness import verify

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
FILES = sorted(REFERENCE.glob("*.safetensors"))


@pytest.mark.parametrize("file", FILES or [None], ids=lambda file: file.stem if file else "absent")
def test_the_published_run_is_ours_too(file: Path | None):
    if file is None:
        pytest.skip(f"no witnesses in {REFERENCE}")
    checks = verify(file)
    assert checks
    assert [check for check in checks if not check.ok] == []


CONFIG = DiTConfig(
    width=48, heads=2, double_blocks=1, single_blocks=1, rope_axes=(8, 8, 8), text_width=20, pooled_width=12,
    guidance=False, in_channels=33, image_condition="latent_concat",
)  # fmt: skip
METADATA = {
    "config": json.dumps({"hidden_size": 48, "heads_num": 2, "rope_dim_list": [8, 8, 8], "guidance_embed": False}),
    "rope_theta": "256",
    "image_condition": "latent_concat",
}


@pytest.fixture
def own_witness(tmp_path: Path) -> Path:
    """A run of our own with 33 input channels, in the form of the published ones."""
    torch.manual_seed(0)
    dit = DiT(CONFIG)
    inputs = {
        "input.latents": torch.randn(1, 33, 3, 4, 6),
        "input.timestep": torch.tensor([937.5]),
        "input.text_states": torch.randn(1, 5, 20),
        "input.text_mask": torch.tensor([[1, 1, 1, 0, 0]]),
        "input.pooled_text": torch.randn(1, 12),
    }
    with torch.no_grad():
        values = list(inputs.values())
        velocity = dit(*values[:3], values[3].bool(), values[4])
    weights = {f"weights.{name}": tensor for name, tensor in dit.state_dict().items()}
    file = tmp_path / "concat.safetensors"
    save_file({**inputs, **weights, "output.velocity": velocity}, file, metadata=METADATA)
    return file


def test_33_channels_are_verified_from_config_and_shapes(own_witness: Path):
    assert [(check.name, check.ok) for check in verify(own_witness)] == [("velocity", True)]


def test_a_wrong_output_is_out_of_bounds(own_witness: Path):
    tensors = load_file(own_witness)
    save_file(tensors | {"output.velocity": tensors["output.velocity"] + 1e-4}, own_witness, metadata=METADATA)
    assert not verify(own_witness)[0].ok


def test_what_is_no_witness_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        verify(tmp_path / "absent.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no witness"):
        verify(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:20])
    with pytest.raises(WeightsError, match="cannot be read"):
        verify(tmp_path / "cut.safetensors")
