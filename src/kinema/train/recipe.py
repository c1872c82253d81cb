"""A recipe is everything a run needs, in one TOML file: which model, on what, when, for how long, on which ranks.

`kinema train RECIPE` reads it, and `write_run_card` leaves it beside the run as it was resolved.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kinema.config import to_toml
from kinema.data.shards import follow
from kinema.dit.model import DiT, DiTConfig
from kinema.errors import InputError
from kinema.parallel import apply
from kinema.parallel.memory import Checkpointing
from kinema.parallel.mesh import MeshConfig, World, open_world
from kinema.pipelines.files import write_json
from kinema.pipelines.recipe import commit, versions
from kinema.train import ranks
from kinema.train.loop import LoopConfig, Run, fit
from kinema.train.samples import SampleConfig, Sampler
from kinema.train.stages import Walk
from kinema.train.vae import VaeTask, VaeTraining, grow_from
from kinema.train.video import Batches, VideoTask, VideoTraining
from kinema.vae.model import CausalVAE, VAEConfig
from kinema.weights import load_state

RECIPE_FILE, CARD_FILE = "recipe.toml", "run.json"


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What a step keeps and what it computes twice; see parallel/memory.py."""

    checkpointing: Checkpointing = "none"
    offload_activations: bool = False


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """Train a causal VAE."""

    kind: Literal["vae"] = "vae"
    model: VAEConfig
    task: VaeTask
    loop: LoopConfig
    start: Path | None = None  # weights to begin with
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class VideoRecipe:
    """Train a DiT on encoded clips."""

    kind: Literal["video"] = "video"
    model: DiTConfig
    task: VideoTask
    loop: LoopConfig
    mesh: MeshConfig = field(default_factory=MeshConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    sample: SampleConfig | None = None  # videos on the way, and a whole model at the end
    start: Path | None = None  # weights to begin with
    device: str = "auto"

    def resolved(self) -> "VideoRecipe":
        """With the rows of its stages written out, and the run's length from them where none is given."""
        length = self.loop.steps or sum(row.steps for row in self.task.rows)
        return replace(self, task=replace(self.task, stages=self.task.rows), loop=replace(self.loop, steps=length))


def train_vae(recipe: VaeRecipe) -> Run:
    """Train the VAE of a recipe. Raises InputError where its held-out folder has no clips."""
    refuse_empty(recipe.task.heldout)
    write_run_card(recipe, recipe.loop)
    with prepared(MeshConfig(), recipe) as world:
        model = CausalVAE(recipe.model)
        start_from(model, recipe.start)
        training = VaeTraining(model, recipe.task, str(world.device), recipe.loop.out)
        training.wait_for_data()
        return fit(training, recipe.loop)


def train_video(recipe: VideoRecipe) -> Run:
    """Train the DiT of a recipe."""
    recipe = recipe.resolved()
    with prepared(recipe.mesh, recipe) as world:
        if ranks.is_first():
            write_run_card(recipe, recipe.loop)
        training = make_training(recipe, world)
        rate = partial(training.walk.rate, warmup=recipe.loop.warmup)
        return fit(training, recipe.loop, rate, world.data_rank)


def make_training(recipe: VideoRecipe, world: World) -> VideoTraining:
    """The model on its ranks, and its task."""
    batches = Batches(recipe.task, world.device, recipe.loop.seed, world.data_rank, world.data_ranks)
    model = spread(recipe, world)
    sampler = Sampler(recipe.sample, recipe.model, recipe.loop.out / "samples", world.device) if recipe.sample else None
    return VideoTraining(model, batches, Walk(recipe.task.rows, bool(recipe.loop.seconds)), sampler)


def spread(recipe: VideoRecipe, world: World) -> DiT:
    """A fresh model, or the one that `start` names, over the ranks of the mesh."""
    model = DiT(recipe.model)
    model.init_weights()
    start_from(model, recipe.start)
    options = {"checkpointing": recipe.memory.checkpointing, "offload_activations": recipe.memory.offload_activations}
    return apply(model.to(world.device), world, compile=recipe.task.compile, **options)  # type: ignore[arg-type]


def start_from(model: nn.Module, weights: Path | None) -> None:
    """Begin with these weights: a file, or a folder that has dit.safetensors or vae.safetensors; a VAE may have grown since."""
    if weights is not None:
        own = weights / ("vae.safetensors" if isinstance(model, CausalVAE) else "dit.safetensors")
        state = load_state(own if own.exists() else weights)
        grow_from(model, state) if isinstance(model, CausalVAE) else model.load_state_dict(state)


@contextmanager
def prepared(mesh: MeshConfig, recipe: Any) -> Iterator[World]:
    """This process among the others, its random numbers and its number formats set."""
    with open_world(mesh, recipe.device) as world:
        torch.manual_seed(recipe.loop.seed)
        if world.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        yield world


def refuse_empty(folder: Path | None) -> None:
    if folder is not None and not any(follow(folder, set())):
        raise InputError(
            f"task.heldout={folder} has no shards of clips: render some with `kinema world render --split heldout`, or use none"
        )


def write_run_card(recipe: Any, loop: LoopConfig) -> None:
    """The recipe as it was resolved, and what ran it: versions, commit, seed, ranks."""
    facts = {"seed": loop.seed, "ranks": ranks.size(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "commit": commit()}
    write_json(loop.out / CARD_FILE, facts | {"versions": versions()})
    draft = loop.out / f".{RECIPE_FILE}.part"
    draft.write_text(to_toml(recipe), encoding="utf-8")
    draft.replace(loop.out / RECIPE_FILE)
