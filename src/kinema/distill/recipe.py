"""A distillation as a recipe: the teacher's folder, the data, what is distilled, and the loop. The student becomes a folder as well."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kinema.config import read_config
from kinema.data.loader import Batch
from kinema.distill.guidance import GuidanceTask, Guided, Texts, guidance_loss, scene_of, student_of
from kinema.distill.steps import StepsTask, steps_loss
from kinema.errors import InputError
from kinema.parallel import apply
from kinema.parallel.mesh import MeshConfig, World
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.store import CONFIG_FILE, find_files, save_model
from kinema.train import ranks
from kinema.train.loop import LoopConfig, Run, Task, fit
from kinema.train.objective import Draws
from kinema.train.recipe import MemoryConfig, prepared, start_from, write_run_card
from kinema.train.speed import Work
from kinema.train.video import Batches, VideoTask
from kinema.weights import load_dit, load_state


@dataclass(frozen=True, kw_only=True)
class DistillRecipe:
    """Guidance distillation, or with a [steps] table few-step distillation at the scales of [guidance].

    Raises InputError where the data have stages, of which a distillation has one.
    """

    kind: Literal["distill"] = "distill"
    teacher: Path  # a model's folder with its config.toml
    data: VideoTask  # one stage; its text dropout is not used
    loop: LoopConfig
    guidance: GuidanceTask = field(default_factory=GuidanceTask)
    steps: StepsTask | None = None
    mesh: MeshConfig = field(default_factory=MeshConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    start: Path | None = None  # the student's first weights; None: the teacher's
    device: str = "auto"

    def __post_init__(self):
        if len(self.data.rows) != 1:
            raise InputError(f"data.stages has {len(self.data.rows)} rows: a distillation has one, at the size that the student will make")


class Distillation(Task):
    """The Task that trains a student."""

    def __init__(self, recipe: DistillRecipe, world: World):
        """Raises InputError where the teacher's guidance is distilled already and no steps are to be."""
        self.recipe, self.config = recipe, read_config(ModelConfig, recipe.teacher / CONFIG_FILE)
        if recipe.steps is None and self.config.dit.guidance:
            raise InputError(f"teacher={recipe.teacher} takes a guidance scale already: give a [steps] table, or an undistilled teacher")
        self.files = find_files(self.config, recipe.teacher)
        teacher = load_dit(self.files.dit, self.config.dit).to(world.device, torch.float32).requires_grad_(False)
        self.model = student_of(teacher)
        start_from(self.model, recipe.start)
        memory: dict[str, Any] = {"checkpointing": recipe.memory.checkpointing, "offload_activations": recipe.memory.offload_activations}
        spread = partial(apply, world=world, compile=recipe.data.compile)
        self.student = Guided(spread(self.model, **memory), embedded=True)
        self.teacher = Guided(spread(teacher), embedded=self.config.dit.guidance)
        data = replace(recipe.data, references="reference" in self.config.conditions)
        self.batches = Batches(data, world.device, recipe.loop.seed, world.data_rank, world.data_ranks)
        self.last = Work()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        batch, draws = self.batches.next()
        each, figures = self.errors(batch, draws, generator)
        self.last = Work(samples=len(each), tokens=len(each) * batch.bucket.tokens, size=str(batch.bucket))
        return each.sum() * self.batches.ranks / batch.total, figures  # the mean over ranks is the mean over samples

    def work(self) -> Work:
        return self.last

    def errors(self, batch: Batch, draws: Draws, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """One error a sample, and figures."""
        recipe, count = self.recipe, len(batch.latents)
        states, pooled = self.batches.null
        texts = Texts(batch.text, batch.text_mask, batch.pooled, states, pooled[None])
        scene = scene_of(texts, recipe.guidance.draw(count, generator), draws, batch.reference)
        if recipe.steps is None:
            return guidance_loss(self.student, self.teacher, batch.latents, draws, scene)
        start = torch.randint(recipe.steps.steps * recipe.steps.stops, (count,), generator=generator, device=generator.device)
        return steps_loss(self.student, self.teacher, batch.latents, draws.noise, scene, recipe.steps, start)

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write a model's folder: the averaged weights in bfloat16, the teacher's VAE, and the student's own defaults."""
        dit = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
        save_model(folder, student_config(self.config, self.recipe.steps), dit, load_state(self.files.vae))

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


def student_config(teacher: ModelConfig, steps: StepsTask | None) -> ModelConfig:
    """The teacher's config for a student; one of few steps walks its own schedule by default."""
    defaults = teacher.defaults if steps is None else replace(teacher.defaults, steps=steps.steps, shift=steps.shift, sampler="euler")
    suffix = "distilled" if steps is None else f"{steps.steps}steps"
    name = f"{teacher.name.removesuffix('_distilled')}_{suffix}"
    return replace(teacher, name=name, dit=replace(teacher.dit, guidance=True), defaults=defaults)


def distill(recipe: DistillRecipe) -> Run:
    """Train a student to the end of its schedule; resumes by itself."""
    with prepared(recipe.mesh, recipe) as world:
        if ranks.is_first():
            write_run_card(recipe, recipe.loop)
        return fit(Distillation(recipe, world), recipe.loop, data_rank=world.data_rank)
