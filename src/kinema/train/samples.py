"""Videos from a model that is being trained, made by the very pipeline that users generate with.

The averaged weights are written as a model's folder, which the pipeline loads: what is seen is what would be shipped.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinema.config import build, read_config
from kinema.data.encode import hash_of
from kinema.dit.model import DiTConfig
from kinema.errors import InputError
from kinema.pipelines.base import Defaults, ModelConfig
from kinema.pipelines.placement import Placement
from kinema.pipelines.store import CONFIG_FILE, find_files, save_model
from kinema.pipelines.video import VideoPipeline
from kinema.text.encoder import MINI
from kinema.vae.model import VAEConfig
from kinema.weights import load_state, load_vae

PROMPTS = ("A red fox runs through the snow from left to right.", "A boat on a lake at sunset, the camera zooms in.")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Which videos show how a run is getting on; how often is loop.sample_every.

    Raises InputError where there is no prompt.
    """

    vae: Path  # a model's folder (its text encoder is used too), or a finished VAE run, which goes with mini's text encoder
    name: str = "trained"  # of the model that is written
    prompts: tuple[str, ...] = PROMPTS
    frames: int = 33  # T
    height: int = 128
    width: int = 128
    fps: int = 12
    steps: int = 20
    guidance: float = 5.0
    seed: int = 0

    def __post_init__(self):
        if not self.prompts:
            raise InputError("sample.prompts=[] is empty: give one prompt or more")

    def vae_fingerprint(self) -> str:
        """As `kinema encode` writes it beside latents."""
        return hash_of(load_vae(self.vae / "vae.safetensors", self.vae_config()))

    def vae_config(self) -> VAEConfig:
        """Raises InputError where there is no VAE to decode with."""
        if not (self.vae / "vae.safetensors").exists():
            raise InputError(f"sample.vae={self.vae} holds no vae.safetensors: name a model's folder or a finished VAE run")
        if (self.vae / CONFIG_FILE).exists():
            return read_config(ModelConfig, self.vae / CONFIG_FILE).vae
        return build(VAEConfig, json.loads((self.vae / "vae.json").read_text()))

    def model(self, dit: DiTConfig) -> ModelConfig:
        """The whole model that this DiT becomes a part of."""
        defaults = Defaults(
            frames=self.frames,
            height=self.height,
            width=self.width,
            fps=self.fps,
            steps=max(self.steps, 30),
            guidance=self.guidance,
            window=self.frames,
        )
        whole = read_config(ModelConfig, self.vae / CONFIG_FILE) if (self.vae / CONFIG_FILE).exists() else None
        text, conditions = (whole.text, whole.conditions) if whole else (MINI, ())
        return ModelConfig(name=self.name, dit=dit, vae=self.vae_config(), text=text, defaults=defaults, conditions=conditions)


class Sampler:
    """Makes the videos of a run, in `samples/` beside it."""

    def __init__(self, config: SampleConfig, dit: DiTConfig, folder: Path, device: torch.device):
        self.config, self.model, self.folder, self.device = config, config.model(dit), folder, device
        self.pipeline: VideoPipeline | None = None

    def write_model(self, weights: dict[str, Tensor], folder: Path) -> None:
        """A folder that `kinema generate --weights` takes; the transformer in bfloat16, the VAE as it was."""
        dit = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
        save_model(folder, self.model, dit, load_state(self.config.vae / "vae.safetensors"))

    def sample(self, weights: dict[str, Tensor], step: int) -> list[Path]:
        """One video a prompt; the text encoder stays from call to call. Returns their paths."""
        self.write_model(weights, self.folder / "model")
        fresh = VideoPipeline(self.model, find_files(self.model, self.folder / "model"), Placement.choose(str(self.device)))
        if self.pipeline:
            fresh.prompts.take(self.pipeline.prompts)
        self.pipeline = fresh
        config = self.config
        requests = [self.model.request(prompt, seed=config.seed, steps=config.steps, guidance=config.guidance) for prompt in config.prompts]
        self.pipeline.prompts.prepare(requests)
        paths = [self.pipeline.generate_to(self.folder, request, stem=f"step{step:07}_{number}") for number, request in enumerate(requests)]
        del self.pipeline.dit, self.pipeline.vae
        return paths
