"""A recipe is everything a run needs, in one TOML file: which model, on what, for how long."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

from kinema.dit.model import DiT, DiTConfig
from kinema.train.loop import LoopConfig, Run, fit
from kinema.train.vae import VaeTask, VaeTraining
from kinema.train.video import VideoTask, VideoTraining
from kinema.vae.model import CausalVAE, VAEConfig


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """Train a causal VAE."""

    model: VAEConfig
    task: VaeTask
    loop: LoopConfig
    start: Path | None = None  # weights to begin with
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, kw_only=True)
class VideoRecipe:
    """Train a DiT on encoded clips."""

    model: DiTConfig
    task: VideoTask
    loop: LoopConfig
    start: Path | None = None
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")


def train_vae(recipe: VaeRecipe) -> Run:
    """Train the VAE of a recipe to the end of its schedule; resumes by itself."""
    prepare(recipe.loop.seed, recipe.device)
    model = CausalVAE(recipe.model)
    if recipe.start is not None:
        model.load_state_dict(load_file(recipe.start))
    training = VaeTraining(model, recipe.task, recipe.device)
    training.wait_for_data()
    return fit(training, recipe.loop)


def train_video(recipe: VideoRecipe) -> Run:
    """Train the DiT of a recipe to the end of its schedule; resumes by itself."""
    prepare(recipe.loop.seed, recipe.device)
    model = DiT(recipe.model)
    model.init_weights()
    if recipe.start is not None:
        model.load_state_dict(load_file(recipe.start))
    training = VideoTraining(model, recipe.task, recipe.device)
    training.wait_for_data()
    return fit(training, recipe.loop)


def prepare(seed: int, device: str) -> None:
    torch.manual_seed(seed)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
