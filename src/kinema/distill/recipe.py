"""A distillation as a recipe: the teacher's folder, the data, what is distilled, and the loop. The student becomes a folder as well."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from kinema.config import read_config
from kinema.distill.guidance import GuidanceTask, Guided, Texts, guidance_loss, student_of
from kinema.distill.steps import StepsTask, steps_loss
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.store import CONFIG_FILE, find_files, save_model
from kinema.train.loop import LoopConfig, Run, Task, fit
from kinema.train.recipe import prepare
from kinema.train.video import VideoTask, VideoTraining
from kinema.weights import load_dit, load_state


@dataclass(frozen=True, kw_only=True)
class DistillRecipe:
    """Guidance distillation or few-step distillation, whichever table is there."""

    teacher: Path  # a model's folder with its config.toml
    data: VideoTask  # of encoded clips; its text dropout is not used
    loop: LoopConfig
    guidance: GuidanceTask | None = None
    steps: StepsTask | None = None
    start: Path | None = None  # the student's first weights; None: the teacher's
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def __post_init__(self):
        if (self.guidance is None) == (self.steps is None):
            raise InputError("a distillation has one table of [guidance] and [steps]: give one of them")


def as_it_is(model: DiT) -> DiT:
    return model


class Distillation(Task):
    """The Task that trains a student."""

    def __init__(self, recipe: DistillRecipe):
        self.recipe = recipe
        self.config = read_config(ModelConfig, recipe.teacher / CONFIG_FILE)
        if recipe.guidance and self.config.dit.guidance:
            raise InputError(f"teacher={recipe.teacher} takes a guidance scale already: its guidance cannot be distilled again")
        self.files = find_files(self.config, recipe.teacher)
        teacher = load_dit(self.files.dit, self.config.dit).to(recipe.device, torch.float32).requires_grad_(False)
        self.model = student_of(teacher).train().requires_grad_(True)
        if recipe.start is not None:
            self.model.load_state_dict(load_file(recipe.start))
        self.batches = VideoTraining(self.model, replace(recipe.data, text_dropout=0.0), recipe.device)
        compiled = torch.compile if recipe.data.compile else as_it_is
        self.teacher = Guided(compiled(teacher), embedded=self.config.dit.guidance)
        self.student = Guided(compiled(self.model), embedded=True)

    def refresh(self, step: int, progress: float = 0.0) -> None:
        self.batches.refresh(step)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        recipe, (data, states, mask, pooled) = self.recipe, self.batches.draw(generator)
        null = self.batches.null
        texts = Texts(states, mask, pooled, null["text"][:, : int(null["text_lengths"][0])], null["pooled"])
        if recipe.steps:
            return steps_loss(self.student, self.teacher, data, texts, recipe.steps, recipe.data.clean_share, generator)
        assert recipe.guidance is not None
        return guidance_loss(
            self.student, self.teacher, data, texts, recipe.guidance, recipe.data.shift, recipe.data.clean_share, generator
        )

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write a model's folder: the averaged weights in bfloat16, the teacher's VAE, and the student's own defaults."""
        dit = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
        save_model(folder, student_config(self.config, self.recipe.steps), dit, load_state(self.files.vae))


def student_config(teacher: ModelConfig, steps: StepsTask | None) -> ModelConfig:
    """The teacher's config for a student; one of few steps walks its own schedule by default."""
    defaults = teacher.defaults if steps is None else replace(teacher.defaults, steps=steps.steps, shift=steps.shift, sampler="euler")
    suffix = "distilled" if steps is None else f"{steps.steps}steps"
    return replace(teacher, name=f"{teacher.name}_{suffix}", dit=replace(teacher.dit, guidance=True), defaults=defaults)


def distill(recipe: DistillRecipe) -> Run:
    """Train a student to the end of its schedule; resumes by itself."""
    prepare(recipe.loop.seed, recipe.device)
    task = Distillation(recipe)
    task.batches.wait_for_data()
    return fit(task, recipe.loop)
