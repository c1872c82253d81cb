"""Teach a transformer that stays as it is to speak: adapters for voice, expression, pose and identity, and a LoRA of its own layers.

First the voice's projection learns, alone, to tell opening and width of the mouth from what is heard, then the sketch learns to draw
latents (minutes on a processor); then all adapters learn by flow matching, with the first frame given, where face and mouth count
more than what lies around them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.conditioning.audio import AudioAdapter, AudioConfig, every_other
from kinema.conditioning.avatar import Avatar, AvatarConfig, Drive, save_avatar
from kinema.conditioning.pose import scaled
from kinema.config import read_config
from kinema.dit.lora import Adapters, LoraConfig
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.flow.path import interpolate, training_sigmas, velocity_target
from kinema.media.files import whole_file
from kinema.parallel.mesh import MeshConfig
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.recipe import sha256
from kinema.pipelines.store import CONFIG_FILE, find_files
from kinema.shapes import PATCH, PixelShape
from kinema.text.encoder import TextEncoder, load_text_encoder
from kinema.train.avatar_clips import PROMPTS, AvatarClips, boxes_on_grid, joined, prepare, read_clips
from kinema.train.loop import LoopConfig, Run, Task, fit
from kinema.train.objective import by_sigma
from kinema.train.recipe import prepared, write_run_card
from kinema.train.speed import Work
from kinema.vae.model import CausalVAE
from kinema.version import __version__
from kinema.weights import load_dit, load_vae

FACE_WEIGHT, MOUTH_WEIGHT = 2.0, 6.0  # of the loss, beside 1 everywhere
MASK_WIDER = 1.15  # the face that listens: times its box
WARM_CLIPS, WARM_RATE = 24, 2e-3
DRAFT_RATE = 1.5e-3
SILENT, FIRST_SILENT = "silent", 5_000_000  # their folder within that of the clips, and their first seed
FILE, BEGUN_FILE = "avatar.safetensors", "begun.safetensors"


@dataclass(frozen=True, kw_only=True)
class AvatarRecipe:
    """Which model learns to speak, and how."""

    kind: Literal["avatar"] = "avatar"
    model: Path  # a model's folder with its config.toml
    clips: Path  # where talking clips of the world lie, or are made
    count: int  # of them
    silent: int = 0  # further ones in which nobody speaks, made in a tenth of the time: more characters, expressions and poses
    loop: LoopConfig
    lora: LoraConfig = field(default_factory=LoraConfig)
    frames: int = 33
    side: int = 64
    batch: int = 8
    shift: float = 3.0  # of the training times
    warm_steps: int = 300  # of the voice's projection alone
    draft_steps: int = 600  # of the sketching network alone
    draft_batch: int = 16
    drop: float = 0.1  # share of samples without voice; expression and pose are each left out of half
    device: str = "auto"

    def __post_init__(self):
        _ = PixelShape(self.frames, self.side, self.side)
        if self.count < self.batch:
            raise InputError(f"count={self.count} must be at least a batch ({self.batch})")


def warm(audio: AudioAdapter, clips: AvatarClips, steps: int, fps: float | int, seed: int) -> float:
    """Teach the projection to hear mouths. Returns the correlation of heard and true openings on the last batch."""
    probe = nn.Linear(4 * audio.config.width, 2)
    parameters = [*audio.projection.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, WARM_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, WARM_RATE, total_steps=max(steps, 1))
    generator, agreed = torch.Generator().manual_seed(seed), 0.0
    for _ in range(steps):
        chosen = torch.randint(len(clips.prompt), (WARM_CLIPS,), generator=generator)
        told = probe(audio.projection(clips.heard[chosen].float(), clips.shape.shape[1], fps).flatten(2))
        loss = F.mse_loss(told, clips.shape[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        agreed = float(torch.corrcoef(torch.stack([told[..., 0].detach().flatten(), clips.shape[chosen][..., 0].flatten()]))[0, 1])
    return agreed


class AvatarTraining(Task):
    """The Task that trains an avatar."""

    def __init__(
        self, dit: DiT, recipe: AvatarRecipe, config: AvatarConfig, clips: AvatarClips, texts: list[tuple[Tensor, Tensor]], about: dict
    ):
        """texts: states and pooled vector of each of PROMPTS, of one length."""
        self.dit, self.recipe, self.config, self.clips, self.about = dit.requires_grad_(False), recipe, config, clips, about
        self.states, self.pooled = torch.cat([states for states, _ in texts]), torch.cat([pooled for _, pooled in texts])
        adapters = Adapters(dit, recipe.lora)
        adapters.attach(dit)
        self.avatar, self.adapters = Avatar(config), adapters
        self.model = nn.ModuleDict({"avatar": self.avatar, "lora": adapters})
        self.device = next(dit.parameters()).device
        self.model.to(self.device)
        self.last = Work()

    def drive(self, chosen: Int[Tensor, " B"], generator: torch.Generator) -> Drive:
        """What drives these clips; some of it is left out by chance."""
        clips, (frames, height, width) = self.clips, self.clips.latents.shape[-3:]
        speaks, shows, turns = (torch.rand(len(chosen), generator=generator) >= share for share in (self.recipe.drop, 0.5, 0.5))
        mask = boxes_on_grid(clips.face_box[chosen], frames, height // PATCH, width // PATCH, MASK_WIDER)
        found = Drive(
            heard=clips.heard[chosen].float(),
            expression=clips.face[chosen],
            has_expression=shows,
            pose=scaled(clips.pose[chosen]),
            has_pose=turns,
            reference=clips.latents[chosen, :, 0],
            mask=mask * speaks[:, None, None, None],
        )
        return found.to(self.device)

    def weights(self, chosen: Int[Tensor, " B"]) -> Float[Tensor, "B t h w"]:
        """How much each latent cell counts; their mean is 1."""
        size = self.clips.latents.shape[-3:]
        found = (
            1
            + FACE_WEIGHT * boxes_on_grid(self.clips.face_box[chosen], *size)
            + MOUTH_WEIGHT * boxes_on_grid(self.clips.mouth_box[chosen], *size)
        )
        return (found / found.mean((1, 2, 3), keepdim=True)).to(self.device)

    def begin(self, folder: Path) -> None:
        """What is learned before the transformer takes part; done once a run."""
        path = folder / BEGUN_FILE
        if not path.exists():
            agreed = warm(self.avatar.audio, self.clips, self.recipe.warm_steps, self.config.fps, self.recipe.loop.seed)
            print(f"the voice's projection: correlation {agreed:.3f} with the true openings", flush=True)
            self.draft()
            with whole_file(path) as file:
                save_file(self.avatar.state_dict(), file)
        self.avatar.load_state_dict(load_file(path))
        for known in (self.avatar.draft, self.avatar.audio.projection):  # what the sketch hears stays what it learned to hear
            known.requires_grad_(False)

    def draft(self) -> None:
        """Teach the sketch to draw latents."""
        steps = self.recipe.draft_steps
        optimizer = torch.optim.AdamW([*self.avatar.draft.parameters(), *self.avatar.audio.parameters()], DRAFT_RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, DRAFT_RATE, total_steps=max(steps, 1), pct_start=0.1)
        generator = torch.Generator().manual_seed(self.recipe.loop.seed)
        for step in range(steps):
            chosen = torch.randint(len(self.clips.prompt), (self.recipe.draft_batch,), generator=generator)
            data = self.clips.latents[chosen].to(self.device)
            error = (self.avatar.sketch(self.drive(chosen, generator)) - data).square().mean(1) * self.weights(chosen)
            loss = error[:, 1:].mean()
            loss.backward()
            nn.utils.clip_grad_norm_(self.avatar.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 20 == 0:
                print(f"sketch {step}/{steps}: {loss.item():.4f}", flush=True)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        count, latents = self.recipe.batch, self.clips.latents.shape[2]
        chosen = torch.randint(len(self.clips.prompt), (count,), generator=own)
        data = self.clips.latents[chosen].to(self.device)
        noise = torch.randn(data.shape, generator=own).to(self.device)
        sigma = training_sigmas(count, self.recipe.shift, own).to(self.device)
        begun = torch.where(torch.rand(count, generator=own) < 0.7, 1, torch.randint(2, 4, (count,), generator=own))
        given = (torch.arange(latents) < begun[:, None]).to(self.device)
        drive, prompts = self.drive(chosen, own), self.clips.prompt[chosen].to(self.device)
        noisy = torch.where(given[:, None, :, None, None], data, interpolate(data, noise, sigma))
        with torch.autocast(self.device.type, torch.bfloat16):
            added = self.avatar(drive)
            velocity = self.dit(noisy, 1000 * sigma, self.states[prompts], None, self.pooled[prompts], given=given, added=added)
        error = (velocity.float() - velocity_target(data, noise)).square().mean(1) * self.weights(chosen)
        each = (error.mean((2, 3)) * ~given).sum(1) / (~given).sum(1)
        self.last = Work(samples=count, tokens=count * drive.mask[0].numel(), size=f"{latents}")
        return each.mean(), by_sigma(each, sigma)

    def work(self) -> Work:
        return self.last

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write the averaged adapters."""
        parts: dict[str, dict[str, Tensor]] = {"avatar": {}, "lora": {}}
        for name, tensor in weights.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        save_avatar(folder / FILE, self.config, parts["avatar"], self.adapters.lora(parts["lora"]), self.about)


def read_prompts(config: ModelConfig, text: Path | None, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """States and pooled vectors of PROMPTS, cut to the shortest, which spares a mask."""
    encoder = load_text_encoder(config.text, text, torch.device("cpu"), torch.float32)
    assert isinstance(encoder, TextEncoder)
    found = [encoder.encode([prompt]).trim() for prompt in PROMPTS]
    length = min(each.states.shape[1] for each in found)
    return [(each.states[:, :length].clone().to(device), each.pooled.clone().to(device)) for each in found]


def all_clips(recipe: AvatarRecipe, vae: CausalVAE) -> AvatarClips:
    """Those that speak and those that do not; made where they are missing."""
    size = (recipe.frames, recipe.side, recipe.side)
    prepare(recipe.clips, recipe.count, size, vae, "train")
    if not recipe.silent:
        return read_clips(recipe.clips, recipe.count)
    prepare(recipe.clips / SILENT, recipe.silent, size, vae, "train", FIRST_SILENT, silent=True)
    return joined([read_clips(recipe.clips, recipe.count), read_clips(recipe.clips / SILENT, recipe.silent)])


def train_avatar(recipe: AvatarRecipe) -> Run:
    """Prepare clips where they are missing, warm the voice up, and train to the end of the schedule; resumes by itself."""
    with prepared(MeshConfig(), recipe) as world:
        write_run_card(recipe, recipe.loop)
        model = read_config(ModelConfig, recipe.model / CONFIG_FILE)
        files = find_files(model, recipe.model)
        clips = all_clips(recipe, load_vae(files.vae, model.vae).float())
        blocks = model.dit.double_blocks + model.dit.single_blocks
        config = AvatarConfig(
            width=model.dit.width,
            latent_channels=model.vae.latent_channels,
            audio=AudioConfig(blocks=tuple(every_other(blocks))),
            frames=recipe.frames,
            side=recipe.side,
        )
        dit = load_dit(files.dit, model.dit).to(world.device, torch.float32)
        texts = read_prompts(model, files.text, world.device)
        about = {
            "base_model": model.name,
            "base_sha256": sha256(files.dit),
            "kinema": __version__,
            "loop": json.dumps({"steps": recipe.loop.steps}),
        }
        training = AvatarTraining(dit, recipe, config, clips, texts, about)
        training.begin(recipe.loop.out)
        return fit(training, recipe.loop)
