"""Every option on every preset, without numbers: it builds and can be planned; options that exclude each other say so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kinema
from kinema.dit.model import DiT
from kinema.dit.quantise import FORMS, Quantised
from kinema.errors import InputError
from kinema.parallel.mesh import MeshConfig
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.dryrun import build_dit
from kinema.pipelines.placement import planned
from kinema.pipelines.plan import Plan
from kinema.pipelines.quantise import quantise_file
from kinema.pipelines.store import ModelFiles
from kinema.pipelines.video import VideoPipeline
from kinema.presets import MODELS

SIZE = {"frames": 9, "height": 64, "width": 64, "seed": 0}
REQUESTS: dict[str, dict[str, Any]] = {
    "reuse": {"reuse": 3},
    "cache": {"cache": 0.1},
    "cache and forecast": {"cache": 0.1, "forecast": True},
    "all to need less": {"reuse": 2, "cache": 0.1, "forecast": True},
    "heun": {"sampler": "heun"},
    "adams": {"sampler": "adams"},
    "few steps": {"steps": 4, "shift": 3.0},
}
PLANS: dict[str, dict[str, Any]] = {
    **{form: {"form": form} for form in FORMS},
    "given": {"given": 5},
    "sequence": {"mesh": MeshConfig(sequence=2)},
    "tensor": {"mesh": MeshConfig(tensor=2)},
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", [None, *FORMS])
def test_every_form_of_every_preset_builds_without_numbers(name: str, form: Any):
    config = MODELS[name]()
    dit = build_dit(config.dit, torch.bfloat16, form)
    assert all(tensor.is_meta for tensor in dit.state_dict().values())
    stored = [layer for layer in dit.modules() if isinstance(layer, Quantised)]
    assert bool(stored) == (form is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_option_of_every_preset_is_planned(name: str):
    config = MODELS[name]()
    plain = config.request("a cat", **SIZE)
    for offload in ("none", "parts", "blocks"):
        for tile in (None, 128):
            place = planned("cuda", "bf16", offload, tile)
            assert Plan(config=config, request=plain, placement=place).peak > 0
    for request in REQUESTS.values():
        assert Plan(config=config, request=config.request("a cat", **SIZE | request), placement=place).peak > 0
    for options in PLANS.values():
        chosen = Plan(config=config, request=plain, placement=place, **options)
        assert all(stage.total > 0 for stage in chosen.stages())


def quantised_with_lora(folder: Path, config: ModelConfig, scratch: Path) -> None:
    quantise_file(folder / "dit.safetensors", scratch / "few.safetensors", config.dit, "int8", lambda *_: None)
    _ = kinema.load(weights=folder, dit=scratch / "few.safetensors", loras=[str(folder / "dit.safetensors")]).dit


def mesh_and_blocks(mesh: MeshConfig) -> Callable[..., None]:
    def load(folder: Path, config: ModelConfig, scratch: Path) -> None:
        from kinema.parallel.mesh import World
        from kinema.pipelines.streamed import load_streamed

        placement = planned("cpu", "fp32", "blocks", None)
        load_streamed(folder / "dit.safetensors", None, config.dit, placement, World(mesh, 0, 1, torch.device("cpu")))

    return load


EXCLUDED: dict[str, tuple[Callable[..., Any], str]] = {
    "forecast without cache": (lambda folder, config, _: config.request("a", seed=0, forecast=True), "cache"),
    "interval without guidance": (lambda folder, config, _: config.request("a", seed=0, guidance_interval=(0.2, 0.8)), "guidance"),
    "stability without picture": (lambda folder, config, _: config.request("a", seed=0, stability=True), "first frame"),
    "lora and blocks": (
        lambda folder, *_: kinema.load(weights=folder, offload="blocks", loras=[str(folder / "dit.safetensors")]).dit,
        "adapters",
    ),
    "lora and quantised": (quantised_with_lora, "quantised"),
    "tensor and blocks": (mesh_and_blocks(MeshConfig(tensor=2)), "tensor"),
    "shard and one video": (
        lambda folder, config, _: VideoPipeline(
            config, ModelFiles(folder, folder), planned("cpu", "fp32", "none", None), kinema_world(MeshConfig(shard=2))
        ),
        "training",
    ),
}


def kinema_world(mesh: MeshConfig) -> Any:
    from kinema.parallel.mesh import World

    return World(mesh, 0, 2, torch.device("cpu"))


@pytest.mark.parametrize("name", EXCLUDED)
def test_options_that_exclude_each_other_say_so(name: str, tiny_folder: Path, tiny_config: ModelConfig, tmp_path: Path):
    ask, message = EXCLUDED[name]
    with pytest.raises(InputError, match=message):
        ask(tiny_folder, tiny_config, tmp_path)


def test_a_trunk_without_double_blocks_computes_all_its_blocks():
    from dataclasses import replace

    dit = DiT(replace(MODELS["tiny"]().dit, double_blocks=0))
    dit.trunk.spare = lambda *_: pytest.fail("there is no first double block to decide by")
    text, pooled = torch.zeros(1, 3, 576), torch.zeros(1, dit.config.pooled_width)
    assert dit(torch.zeros(1, 16, 1, 4, 4), torch.zeros(1), text, None, pooled).shape == (1, 16, 1, 4, 4)
