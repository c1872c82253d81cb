"""`kinema info`, `convert` and `verify`: what a file holds, the same weights in another layout, the published numerics."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinema.cli import main
from kinema.dit.model import DiT, DiTConfig
from kinema.presets import MODELS

TINY = DiTConfig(width=48, heads=2, double_blocks=1, single_blocks=1, rope_axes=(8, 8, 8), text_width=24, pooled_width=16, guidance=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save({"module": DiT(TINY).state_dict()}, path)
    return path


def test_info_lists_every_preset_and_sampler(capsys: pytest.CaptureFixture[str]):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in said for name in MODELS)
    assert "euler" in said


def test_info_says_what_a_checkpoint_is(checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", str(checkpoint)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["config"]["width"] == TINY.width
    assert facts["parameters"] == sum(parameter.numel() for parameter in DiT(TINY).parameters())


def test_info_shows_the_recipe_of_what_was_generated(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "--weights", str(tiny_folder), "--prompt", "A cat.", "--seed", "5", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    for pattern in ("*.mp4", "latents/*"):
        (path,) = tmp_path.glob(pattern)
        assert main(["info", str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["recipe"]["request"]["seed"] == 5
    assert main(["info", str(tiny_folder)]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["name"] == "tiny"


def test_a_conversion_there_and_back_changes_no_bit(checkpoint: Path, tmp_path: Path):
    theirs, back = tmp_path / "theirs", tmp_path / "back.safetensors"
    assert main(["convert", str(checkpoint), str(theirs), "--to", "diffusers"]) == 0
    assert main(["convert", str(theirs), str(back), "--to", "published"]) == 0
    before, after = torch.load(checkpoint, weights_only=True)["module"], load_file(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_verify_fails_where_one_number_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sound, spoilt = tmp_path / "sound.safetensors", tmp_path / "spoilt.safetensors"
    tensors, metadata = make_witness()
    save_file(tensors, sound, metadata)
    assert main(["verify", str(sound)]) == 0
    tensors["output.velocity"][0, 0, 0, 0, 0] += 1e-3
    save_file(tensors, spoilt, metadata)
    assert main(["verify", str(sound), str(spoilt)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ok   sound.safetensors"] * 2 + ["FAIL spoilt.safetensors"]
    assert main(["verify", str(tmp_path / "none.safetensors")]) == 1


@torch.no_grad()
def make_witness() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A run of our own model in the form of a witness."""
    torch.manual_seed(0)
    dit = DiT(TINY).eval()
    inputs = {
        "latents": torch.randn(1, 16, 2, 4, 4),
        "timestep": torch.tensor([500.0]),
        "text_states": torch.randn(1, 5, TINY.text_width),
        "text_mask": torch.ones(1, 5, dtype=torch.int64),
        "pooled_text": torch.randn(1, TINY.pooled_width),
        "guidance_x1000": torch.tensor([6016.0]),
    }
    velocity = dit(*list(inputs.values())[:3], inputs["text_mask"].bool(), inputs["pooled_text"], inputs["guidance_x1000"])
    tensors = {f"weights.{name}": tensor.clone() for name, tensor in dit.state_dict().items()}
    tensors |= {f"input.{name}": tensor for name, tensor in inputs.items()} | {"output.velocity": velocity}
    config = {"heads_num": TINY.heads, "rope_dim_list": list(TINY.rope_axes), "guidance_embed": True}
    return tensors, {"config": json.dumps(config), "rope_theta": "256"}
