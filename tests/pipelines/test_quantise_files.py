"""Quantised files: written, read by both ways of loading, used by the command line, and the published form of fp8."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import kinema
from kinema.dit.quantise import FORMS, Form, quantise
from kinema.errors import InputError, WeightsError
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.quantise import quantise_file
from kinema.weights import load_dit, load_state

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def ignore(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("form", FORMS)
def test_a_quantised_file_makes_the_same_latents_whole_and_streamed(
    form: Form, tiny_folder: Path, tiny_config: ModelConfig, tmp_path: Path
):
    target = tmp_path / "few.safetensors"
    error = quantise_file(tiny_folder / "dit.safetensors", target, tiny_config.dit, form, ignore)
    assert 0 < error < 0.5
    with safe_open(target, "pt") as file:
        assert float(file.metadata()["error"]) == pytest.approx(error, rel=1e-3)
        assert file.metadata()["quantised"] == form
    whole, streamed = (kinema.load(weights=tiny_folder, dit=target, offload=offload) for offload in ("none", "blocks"))
    request = whole.config.request("A cat.", seed=1, steps=2)
    latents = whole.sample(request)
    assert latents.isfinite().all()
    assert torch.equal(latents, streamed.sample(request))


def published_fp8(folder: Path, source: Path) -> Path:
    """As published: every linear of the blocks in fp8 in one file, a map of their scales by the layers' names in another."""
    state, scales = {name: tensor.to(torch.bfloat16) for name, tensor in load_state(source).items()}, {}
    for name in [name for name in state if name.startswith(("double_blocks.", "single_blocks.")) and state[name].ndim == 2]:
        state[name], scales[name.removesuffix(".weight")] = quantise(state[name], "fp8")
    torch.save({"module": state}, folder / "model_fp8.pt")
    torch.save(scales, folder / "model_fp8_map.pt")
    return folder / "model_fp8.pt"


def test_published_fp8_is_read_with_its_map_and_refused_without(tiny_folder: Path, tiny_config: ModelConfig, tmp_path: Path):
    path = published_fp8(tmp_path, tiny_folder / "dit.safetensors")
    dit, plain = load_dit(path, tiny_config.dit), load_dit(tiny_folder / "dit.safetensors", tiny_config.dit)
    ours, wide = (model.get_submodule("double_blocks.0.img_mlp.fc1").weight.float() for model in (dit, plain))
    assert (ours - wide).norm() / wide.norm() < 0.05
    whole, streamed = (kinema.load(weights=tiny_folder, dit=path, dtype="bf16", offload=offload) for offload in ("none", "blocks"))
    request = whole.config.request("A cat.", seed=1, steps=2)
    assert torch.equal(whole.sample(request), streamed.sample(request))
    (tmp_path / "model_fp8_map.pt").unlink()
    with pytest.raises(WeightsError, match="map"):
        load_dit(path, tiny_config.dit)


def test_comfy_scales_are_read(tiny_folder: Path, tiny_config: ModelConfig, tmp_path: Path):
    state = load_state(tiny_folder / "dit.safetensors")
    name = "double_blocks.0.img_mlp.fc2"
    wide = state[f"{name}.weight"].clone()
    state[f"{name}.weight"], state[f"{name}.scale_weight"] = quantise(wide, "fp8")
    save_file(state, tmp_path / "comfy.safetensors")
    found = load_dit(tmp_path / "comfy.safetensors", tiny_config.dit).get_submodule(name).weight
    assert (found - wide).norm() / wide.norm() < 0.05


def test_adapters_on_quantised_weights_are_refused(tiny_folder: Path, tiny_config: ModelConfig, tmp_path: Path):
    from kinema.pipelines.loras import merge_files

    target = tmp_path / "few.safetensors"
    quantise_file(tiny_folder / "dit.safetensors", target, tiny_config.dit, "int8", ignore)
    with pytest.raises(InputError, match="quantised"):
        merge_files(load_dit(target, tiny_config.dit), [], "tiny")


def test_the_command_writes_a_file_that_generate_takes(command: Command, tiny_folder: Path, tmp_path: Path):
    done = command("quantize", tiny_folder / "dit.safetensors", "few.safetensors", "--to", "fp8-row")
    assert done.returncode == 0, done.stderr
    assert "differs by" in done.stderr
    made = command(
        "generate", "--prompt", "A cat.", "--weights", tiny_folder, "--dit", "few.safetensors", "--offload", "blocks", "--steps", 1
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / made.stdout.strip()).is_file()
