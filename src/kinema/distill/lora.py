"""Adapt a model to a few clips of one's own: encode them, train adapters beside a model that stays as it is, write one small file."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kinema.config import read_config
from kinema.data.encode import EncodeJob, Encoder, encode_folder
from kinema.data.loader import Loader, LoaderConfig
from kinema.data.store import Store
from kinema.dit.lora import Adapters, LoraConfig
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.parallel import apply, average_gradients
from kinema.parallel.mesh import MeshConfig, World
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.recipe import sha256
from kinema.pipelines.store import CONFIG_FILE, ModelFiles, find_files
from kinema.text.encoder import load_text_encoder
from kinema.train import ranks
from kinema.train.loop import LoopConfig, Run, Task, fit
from kinema.train.objective import FlowConfig, by_sigma, draw, drop_text, flow_loss, hashed
from kinema.train.recipe import MemoryConfig, prepared, write_run_card
from kinema.train.speed import Work
from kinema.version import __version__
from kinema.weights import load_dit, load_vae
from kinema.weights.lora import Dialect, write_lora
from kinema.weights.read import listed

LOG = logging.getLogger(__name__)
ENCODED = "encoded"  # beside the run: the clips as latents and text states


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """Which model learns which clips, and how."""

    kind: Literal["lora"] = "lora"
    model: Path  # a model's folder with its config.toml
    clips: Path  # videos (and pictures), each with its caption in a .txt of the same name
    loop: LoopConfig
    lora: LoraConfig = field(default_factory=LoraConfig)
    trigger: str = ""  # the word that stands for what is new; it goes into the file
    frames: tuple[int, ...] = ()  # lengths that clips are cut to; default: the model's own
    side: int | None = None  # clips are brought to about side x side pixels; None: as they are
    batch: int = 2  # clips a step, of all ranks together
    shift: float = 2.0  # of the training times
    text_dropout: float = 0.1
    dialect: Dialect = "comfy"
    mesh: MeshConfig = field(default_factory=MeshConfig)  # data and shard: clips over the ranks, and the model that stays as it is
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    device: str = "auto"

    def __post_init__(self):
        if self.mesh.peers > 1:
            raise InputError(f"mesh sequence={self.mesh.sequence}, tensor={self.mesh.tensor}: adapters train over data and shard alone")


class LoraTraining(Task):
    """The Task that trains adapters."""

    model: Adapters

    def __init__(self, dit: DiT, recipe: LoraRecipe, loader: Loader, about: dict[str, Any], world: World):
        """dit: stays as it is; its layers ask the adapters from now on. about: goes into the file."""
        self.recipe, self.loader, self.about, self.world = recipe, loader, about, world
        self.flow = FlowConfig(shift=recipe.shift, text_dropout=recipe.text_dropout)
        options: dict[str, Any] = {
            "checkpointing": recipe.memory.checkpointing,
            "offload_activations": recipe.memory.offload_activations,
        }
        self.dit = apply(dit.requires_grad_(False), world, **options)
        self.model = Adapters(self.dit, recipe.lora)
        self.model.attach(self.dit)
        average_gradients(self.model, world)
        self.last = Work()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))  # for dropout: a step draws its own
        key, batch = hashed(self.recipe.loop.seed, self.loader.consumed), self.loader.next()
        first = batch.total * self.world.data_rank // self.world.data_ranks
        draws = draw(batch.latents.shape, batch.bucket.tokens, batch.total, first, key, self.flow, self.loader.device)
        text, mask, pooled = drop_text(batch.text, batch.text_mask, batch.pooled, self.loader.null, draws.dropped)
        each = flow_loss(self.forward, batch.latents, text, mask, pooled, draws)
        self.last = Work(samples=len(each), tokens=len(each) * batch.bucket.tokens, size=str(batch.bucket))
        return each.sum() * self.world.data_ranks / batch.total, by_sigma(each, draws.sigma)  # the mean over ranks is that over samples

    def work(self) -> Work:
        return self.last

    def forward(self, *args: Any, **options: Any) -> Tensor:
        """A model that takes a guidance scale learns at 1, which is none: its own scales stay what they are."""
        told = torch.full_like(args[1], 1000.0) if self.dit.config.guidance else None
        return self.dit(*args, guidance=told, **options)

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write the averaged adapters in bfloat16, with what they are for."""
        halves = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
        name = "lora" if self.recipe.dialect == "peft" else "lora.safetensors"
        write_lora(folder / name, self.model.lora(halves, self.about), self.recipe.dialect)

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)


def encode_clips(recipe: LoraRecipe, config: ModelConfig, files: ModelFiles, device: torch.device) -> Path:
    """Latents and text states of the clips, beside the run; what an earlier start has encoded stays.

    Raises InputError where any clip cannot be used, naming all of them: among twenty each one counts.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    vae = load_vae(files.vae, config.vae).to(device, dtype)
    encoder = Encoder(vae, load_text_encoder(config.text, files.text, device, dtype))
    job = EncodeJob(
        clips=recipe.clips,
        out=recipe.loop.out / ENCODED,
        sides=(recipe.side,) if recipe.side else (),
        frames=recipe.frames or (config.defaults.frames,),
        batch=1,
    )
    report = encode_folder(job, encoder)
    if report.failed:
        raise InputError(f"{len(report.failed)} clips of {recipe.clips} cannot be used: {'; '.join(report.failed)}")
    if not report.written and not report.there:
        raise InputError(f"clips={recipe.clips} holds no videos: put some there, each with its caption in a .txt of the same name")
    return job.out


def open_loader(recipe: LoraRecipe, folder: Path, world: World) -> Loader:
    """Batches of encoded clips: `batch` of the largest of them, more of smaller ones."""
    store = Store(folder)
    strange = [row["clip"] for row in store.rows() if not any(recipe.trigger.lower() in text.lower() for text in row["texts"])]
    if strange:
        LOG.warning("the trigger %r is in no caption of %s", recipe.trigger, listed(strange))
    largest = max(store.checked(path).bucket.tokens for path in store.paths())
    config = LoaderConfig(folders=(folder,), tokens=recipe.batch * largest)
    return Loader(config, recipe.loop.seed, world.data_rank, world.data_ranks, world.device)


def train_lora(recipe: LoraRecipe) -> Run:
    """Train adapters to the end of their schedule; resumes by itself."""
    with prepared(recipe.mesh, recipe) as world:
        if ranks.is_first():
            write_run_card(recipe, recipe.loop)
        config = read_config(ModelConfig, recipe.model / CONFIG_FILE)
        files = find_files(config, recipe.model)
        loader = open_loader(recipe, world.agree(lambda: encode_clips(recipe, config, files, world.device)), world)
        dtype = torch.bfloat16 if world.device.type == "cuda" else torch.float32
        dit = load_dit(files.dit, config.dit).to(world.device, dtype)
        about = {
            "base_model": config.name,
            "base_sha256": sha256(files.dit),
            "trigger": recipe.trigger,
            "rank": recipe.lora.rank,
            "alpha": recipe.lora.alpha or recipe.lora.rank,
            "steps": recipe.loop.steps,
            "kinema": __version__,
        }
        return fit(LoraTraining(dit, recipe, loader, about, world), recipe.loop, data_rank=world.data_rank)
