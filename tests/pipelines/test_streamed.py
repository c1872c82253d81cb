"""Blocks that come from disk as they work: the same bits, from any layout, and never a second copy."""

from pathlib import Path

import pytest
import torch

import kinema
from kinema.errors import InputError, KinemaError, WeightsError
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.loras import LoraFile
from kinema.weights import convert, load_state
from kinema.weights.lazy import LazyState


def test_blocks_from_disk_give_the_same_bits(tiny_folder: Path):
    plain, streamed = (kinema.load(weights=tiny_folder, offload=offload) for offload in ("none", "blocks"))
    request = plain.config.request("A cat.", seed=1, steps=2)
    wanted = plain.sample(request)
    assert torch.equal(streamed.sample(request), wanted)
    assert all(weight.is_meta for name, weight in streamed.dit.named_parameters() if "_blocks." in name)


def test_a_diffusers_folder_is_read_block_by_block(tiny_folder: Path, tmp_path: Path):
    convert(tiny_folder / "dit.safetensors", tmp_path / "theirs", "diffusers")
    ours, theirs = LazyState(tiny_folder / "dit.safetensors"), LazyState(tmp_path / "theirs")
    assert ours.groups.keys() == theirs.groups.keys()
    for group in ours.groups:
        mine, other = (state.read(group, None) for state in (ours, theirs))
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_what_was_forgotten_is_read_again(tiny_folder: Path):
    state = LazyState(tiny_folder / "dit.safetensors")
    first, second = (state.read("double_blocks.0", None) for _ in range(2))
    whole = load_state(tiny_folder / "dit.safetensors")
    assert all(torch.equal(first[name], second[name]) and torch.equal(first[name], whole[f"double_blocks.0.{name}"]) for name in first)


def test_a_file_of_another_model_is_refused(tiny_folder: Path, tiny_config: ModelConfig):
    pipeline = kinema.load("mini", offload="blocks", dit=tiny_folder / "dit.safetensors")
    with pytest.raises(WeightsError, match="does not fit"):
        _ = pipeline.dit


def test_adapters_and_streaming_exclude_each_other(tiny_folder: Path):
    pipeline = kinema.load(weights=tiny_folder, offload="blocks")
    pipeline.loras = (LoraFile(tiny_folder / "dit.safetensors"),)
    with pytest.raises(InputError, match="adapters"):
        _ = pipeline.dit


def test_fewer_computations_compose_and_stand_in_the_recipe(tiny_folder: Path):
    pipeline = kinema.load(weights=tiny_folder)
    request = pipeline.config.request("A cat.", 3.0, seed=1, steps=6)
    fewer = pipeline.config.request("A cat.", 3.0, seed=1, steps=6, reuse=2, guidance_interval=(0.2, 0.9))
    wanted, found = pipeline.sample(request), pipeline.sample(fewer)
    assert found.isfinite().all()
    assert not torch.equal(found, wanted)
    recorded = pipeline.recipe(fewer)["request"]
    assert (recorded["reuse"], tuple(recorded["guidance_interval"])) == (2, (0.2, 0.9))


@pytest.mark.parametrize("wrong", [{"reuse": 0}, {"guidance_interval": (0.9, 0.2)}, {"guidance_interval": (0.2, 0.9), "guidance": 1.0}])
def test_fewer_computations_out_of_range_are_refused(tiny_config: ModelConfig, wrong: dict):
    with pytest.raises(InputError):
        tiny_config.request("A cat.", **{"guidance": 3.0, "seed": 1} | wrong)


def test_what_is_no_number_stops_with_the_backend(tiny_folder: Path):
    pipeline = kinema.load(weights=tiny_folder)
    with torch.no_grad():
        pipeline.dit.final_layer.linear.bias.fill_(torch.nan)
    with pytest.raises(KinemaError, match="attention by"):
        pipeline.sample(pipeline.config.request("A cat.", seed=1, steps=2))
