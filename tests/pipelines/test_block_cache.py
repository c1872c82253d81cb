"""Blocks left out: nothing changes at bound 0, larger bounds compute fewer, and it goes with guidance, given frames and streaming."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kinema
from kinema.conditioning.frames import Given
from kinema.errors import InputError
from kinema.flow.reuse import BlockCache
from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.store import save_model
from kinema.pipelines.video import VideoPipeline

STEPS = 12


@pytest.fixture(scope="module")
def deep_folder(tiny_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks with embedded guidance, weights small enough that steps are alike."""
    from kinema.dit.model import DiT
    from kinema.vae.model import CausalVAE

    config = replace(tiny_config, name="deep", dit=replace(tiny_config.dit, double_blocks=2, single_blocks=2))
    generator = torch.Generator().manual_seed(0)
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (DiT(config.dit), CausalVAE(config.vae))]
    dit, vae = ({name: 0.05 * torch.randn(shape, generator=generator) for name, shape in each.items()} for each in shapes)
    folder = tmp_path_factory.mktemp("deep")
    save_model(folder, config, dit, vae)
    return folder


def counted(pipeline: VideoPipeline) -> list[Any]:
    """Blocks as they work from now on."""
    run, worked = pipeline.dit.trunk.run, []

    def note(block: torch.nn.Module, *inputs: Any) -> Any:
        worked.append(block)
        return run(block, *inputs)

    pipeline.dit.trunk.run = note
    return worked


def worked_for(pipeline: VideoPipeline, request: Request) -> int:
    worked = counted(pipeline)
    assert pipeline.sample(request).isfinite().all()
    return len(worked)


def request_of(pipeline: VideoPipeline, **chosen: Any) -> Request:
    return pipeline.config.request("A cat.", **{"guidance": 3.0, "seed": 1, "steps": STEPS} | chosen)


def test_bound_zero_is_plain_to_the_last_bit(deep_folder: Path, monkeypatch: pytest.MonkeyPatch):
    pipeline = kinema.load(weights=deep_folder)
    wanted = pipeline.sample(request_of(pipeline))
    asked = []

    def bound_zero(threshold: float, *rest: Any) -> BlockCache:
        asked.append(threshold)
        return BlockCache(0.0, *rest)

    monkeypatch.setattr("kinema.pipelines.video.BlockCache", bound_zero)
    assert torch.equal(pipeline.sample(request_of(pipeline, cache=0.5)), wanted)
    assert asked == [0.5]


@pytest.mark.parametrize("forecast", [False, True])
def test_larger_bounds_compute_fewer_blocks(deep_folder: Path, forecast: bool):
    pipeline = kinema.load(weights=deep_folder)
    plain = worked_for(pipeline, request_of(pipeline))
    blocks = [
        worked_for(kinema.load(weights=deep_folder), request_of(pipeline, cache=bound, forecast=forecast))
        for bound in (0.02, 0.1, 0.4, 0.9)
    ]
    assert plain == 2 * STEPS * 4
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[-1] < plain / 2
    assert blocks[-1] >= 2 * (STEPS + 3)  # the first block always works, and once all do


def test_smaller_bounds_come_nearer(deep_folder: Path):
    pipeline = kinema.load(weights=deep_folder)
    wanted = pipeline.sample(request_of(pipeline))
    errors = [float((pipeline.sample(request_of(pipeline, cache=bound)) - wanted).norm()) for bound in (0.05, 0.2, 0.8)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_blocks_from_disk_are_left_out_alike(deep_folder: Path):
    plain, streamed = (kinema.load(weights=deep_folder, offload=offload) for offload in ("none", "blocks"))
    request = request_of(plain, cache=0.4, forecast=True)
    assert torch.equal(plain.sample(request), streamed.sample(request))


def test_given_frames_stay_and_every_way_to_need_less_goes_together(deep_folder: Path, tmp_path: Path):
    pipeline = kinema.load(weights=deep_folder)
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(tmp_path / "first.png")
    chosen = {"given": (Given.picture(tmp_path / "first.png"),), "cache": 0.4, "guidance_interval": (0.3, 0.9)}
    request = request_of(pipeline, height=32, width=48, **chosen)
    latents = pipeline.sample(request)
    known = pipeline.sample(replace(request, cache=0.0))
    assert torch.equal(latents[:, 0], known[:, 0])
    both = worked_for(pipeline, replace(request, reuse=2, forecast=True))
    assert both < worked_for(kinema.load(weights=deep_folder), request)


def test_a_run_leaves_nothing_for_the_next(deep_folder: Path):
    pipeline = kinema.load(weights=deep_folder)
    request = request_of(pipeline, cache=0.3)
    first = pipeline.sample(request)
    assert pipeline.dit.trunk.spare is None
    assert torch.equal(pipeline.sample(request), first)


def test_it_stands_in_the_recipe_and_only_there_where_used(deep_folder: Path):
    pipeline = kinema.load(weights=deep_folder)
    said = pipeline.recipe(request_of(pipeline, cache=0.3, forecast=True))["request"]
    assert (said["cache"], said["forecast"]) == (0.3, True)
    assert not {"cache", "forecast"} & pipeline.recipe(request_of(pipeline))["request"].keys()


@pytest.mark.parametrize("wrong", [{"cache": -0.1}, {"cache": 1.0}, {"forecast": True}])
def test_bounds_that_mean_nothing_are_refused(tiny_config: ModelConfig, wrong: dict[str, Any]):
    with pytest.raises(InputError, match=next(iter(wrong))):
        tiny_config.request("A cat.", seed=1, **wrong)
