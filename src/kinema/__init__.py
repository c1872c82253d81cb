"""Kinema: large video generative models, every stage in one place."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.version import __version__

if TYPE_CHECKING:
    from kinema.conditioning.frames import Given
    from kinema.dit.model import DiTConfig
    from kinema.parallel.mesh import MeshConfig
    from kinema.pipelines.base import ModelConfig, Request, Result
    from kinema.pipelines.placement import Compile, Offload
    from kinema.pipelines.video import VideoPipeline
    from kinema.text.encoder import TextConfig
    from kinema.vae.model import VAEConfig

__all__ = [
    "DiTConfig",
    "Given",
    "MeshConfig",
    "ModelConfig",
    "Request",
    "Result",
    "TextConfig",
    "VAEConfig",
    "VideoPipeline",
    "__version__",
    "generate",
    "load",
]

HOMES = {
    "DiTConfig": "kinema.dit.model",
    "Given": "kinema.conditioning.frames",
    "MeshConfig": "kinema.parallel.mesh",
    "ModelConfig": "kinema.pipelines.base",
    "Request": "kinema.pipelines.base",
    "Result": "kinema.pipelines.base",
    "TextConfig": "kinema.text.encoder",
    "VideoPipeline": "kinema.pipelines.video",
    "VAEConfig": "kinema.vae.model",
}
"""Public name -> the module it comes from: torch is imported when one is first used."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'kinema' has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


def load(
    model: str | None = None,
    *,
    weights: str | PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    dit: str | PathLike[str] | None = None,
    offload: "bool | Offload" = False,
    tile: int | None = None,
    mesh: "MeshConfig | None" = None,
    attention: str = "sdpa",
    compile: "Compile" = "none",
    loras: Sequence[str] = (),
) -> "VideoPipeline":
    """A model ready to make videos.

    model: name of a preset; None is mini, or what the folder of weights says.
    weights: folder with the model's files; None is where the preset keeps them.
    device: auto, cpu, cuda, cuda:1 ...; dtype: auto, bf16, fp16, fp32; offload: keep on the device only what works:
        "parts" (or True), "blocks", or "none". tile: pixels a side of the tiles that a large video is decoded in.
    dit: the transformer's weights, where they are not in that folder.
    mesh: how the processes that torchrun started share the work; None lets all of them make one video together.
    attention: how the transformer's tokens attend, such as flash3 or radial:dense=0.9; `kinema info` lists what is here.
    compile: "blocks" compiles the transformer, for any size; "graphs" for fixed sizes on CUDA.
    loras: adapters to add, each a file or FILE:SCALE.
    Raises InputError for unknown names, WeightsError where files are missing.
    """
    from kinema.kernels.choose import Attention
    from kinema.parallel.mesh import MeshConfig, launched_ranks, open_world
    from kinema.pipelines.loras import LoraFile
    from kinema.pipelines.placement import Placement
    from kinema.pipelines.store import choose_model
    from kinema.pipelines.video import VideoPipeline
    from kinema.presets import MODELS

    adapters = [LoraFile.parse(lora) for lora in loras]
    config, files = choose_model(MODELS, model, weights, Path(dit) if dit else None)
    placement = Placement.choose(device, dtype, offload)
    placement = replace(placement, tile_size=tile, attention=Attention.parse(attention), compile=compile)
    world = open_world(mesh or MeshConfig(sequence=launched_ranks()), placement.device)
    return VideoPipeline(config, files, replace(placement, device=world.device), world, adapters)


def generate(
    prompt: str,
    *,
    model: str | None = None,
    seed: int = 0,
    image: str | PathLike[str] | None = None,
    video: str | PathLike[str] | None = None,
    **options: Any,
) -> "Result":
    """One video of a prompt: `kinema.generate("A cat walks on the grass.").frames` is uint8 [T H W 3].

    image: a picture that it begins with. video: one whose last frames it goes on from.
    options: fields of Request (frames, height, width, steps, guidance ...); `given` takes several pictures at any place, such as
    `(Given.picture("a.png"), Given.picture("b.png", "last"))`. To make several videos, `load` once.
    Raises InputError where a value breaks a rule or a file cannot be read.
    """
    from kinema.conditioning.frames import Given

    files = ([Given.footage(Path(video))] if video else []) + ([Given.picture(Path(image))] if image else [])
    pipeline = load(model)
    return pipeline.generate(pipeline.config.request(prompt, seed=seed, given=(*files, *options.pop("given", ())), **options))
