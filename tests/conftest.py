"""What many tests share: one tiny model in a folder, made by the public saving function, and the command line as a process.

Kinema is imported within the fixtures: what is imported before the tests begin is not checked for shapes.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kinema.pipelines.base import ModelConfig

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny_config() -> "ModelConfig":
    """The preset `tiny`, at a size that it makes in no time."""
    from kinema.presets import MODELS

    config = MODELS["tiny"]()
    return replace(config, defaults=replace(config.defaults, frames=5, height=32, width=48, steps=2))


@pytest.fixture(scope="session")
def tiny_folder(tiny_config: "ModelConfig", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights: what it makes is noise, but every part works."""
    import torch

    from kinema.dit.model import DiT
    from kinema.pipelines.store import save_model
    from kinema.vae.model import CausalVAE

    folder = tmp_path_factory.mktemp("tiny")
    generator = torch.Generator().manual_seed(0)
    shapes = [
        {name: tensor.shape for name, tensor in model.state_dict().items()} for model in (DiT(tiny_config.dit), CausalVAE(tiny_config.vae))
    ]
    dit, vae = ({name: 0.1 * torch.randn(shape, generator=generator) for name, shape in each.items()} for each in shapes)
    save_model(folder, tiny_config, dit, vae)
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m kinema ...` in an empty folder, as a person would."""

    def run(*args: object, wrapper: tuple[str, ...] = (), **options: object) -> "subprocess.CompletedProcess[str]":
        words = [*wrapper, sys.executable, "-m", "kinema", *map(str, args)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, **options)

    return run
