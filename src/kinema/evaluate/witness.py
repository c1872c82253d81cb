"""Runs of the published models, stored with weights, inputs and outputs, held against ours through the public loader.

A witness is one safetensors file: its config in the metadata, `weights.*` under the published names, `input.*`, `output.*`, and
perhaps `tiled.*` (the autoencoder in tiles), `trajectory.*` (Euler from input.latents along its sigmas) and `rope.*`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from kinema.dit.model import DiT, DiTConfig, ImageCondition
from kinema.dit.rope import rope_table
from kinema.errors import WeightsError
from kinema.flow.samplers import SAMPLERS
from kinema.vae.model import CausalVAE, VAEConfig
from kinema.vae.tiling import decode_tiled, encode_tiled
from kinema.weights.fit import fill
from kinema.weights.guess import infer_dit_config, infer_vae_config
from kinema.weights.read import State

DIT_BOUND, TRAJECTORY_BOUND, VAE_BOUND = 2e-5, 1e-4, 1e-4  # largest absolute difference in float32
WEIGHTS = "weights."


@dataclass(frozen=True)
class Check:
    """One stored tensor against ours."""

    name: str
    max_difference: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.max_difference <= self.bound  # false for NaN


@dataclass(frozen=True)
class Witness:
    """A witness file, read."""

    path: Path
    config: dict[str, Any]  # of the published class
    about: dict[str, str]  # the other metadata
    weights: State
    runs: State  # inputs and what came of them

    @classmethod
    def read(cls, path: Path) -> "Witness":
        """Raises WeightsError where the file is missing, damaged, or no witness."""
        try:
            with safe_open(path, "pt") as file:
                about = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read ({error}): give a witness, a safetensors file") from error
        weights = {name.removeprefix(WEIGHTS): tensor for name, tensor in tensors.items() if name.startswith(WEIGHTS)}
        runs = {name: tensor for name, tensor in tensors.items() if not name.startswith(WEIGHTS)}
        if "config" not in about or not weights or not any(name.startswith("output.") for name in runs):
            raise WeightsError(f"{path} is no witness: it needs a config in its metadata, weights.*, input.* and output.*")
        return cls(path, json.loads(about.pop("config")), about, weights, runs)


@torch.inference_mode()
def verify(path: Path) -> list[Check]:
    """Every output in a witness against ours, in float32 on the CPU.

    Raises WeightsError where the file is no witness, or its weights do not fit the model that its config describes.
    """
    witness = Witness.read(path)
    checks = verify_vae(witness) if "input.video" in witness.runs else verify_dit(witness)
    return list(checks)


def difference(name: str, ours: Tensor, theirs: Tensor, bound: float) -> Check:
    same_shape = ours.shape == theirs.shape
    return Check(name, (ours.double() - theirs.double()).abs().max().item() if same_shape else float("inf"), bound)


def dit_config(witness: Witness) -> DiTConfig:
    """The published config says what shapes do not; the rest is in the weights."""
    known: dict[str, Any] = {
        "heads": witness.config["heads_num"],
        "rope_axes": tuple(witness.config["rope_dim_list"]),
        "rope_theta": float(witness.about.get("rope_theta", 256)),
    }
    if witness.about.get("image_condition") in get_args(ImageCondition):
        known["image_condition"] = witness.about["image_condition"]
    return infer_dit_config(witness.weights, **known)


def verify_dit(witness: Witness) -> Iterator[Check]:
    config, runs = dit_config(witness), witness.runs
    with torch.device("meta"):
        dit = DiT(config)
    fill(dit, witness.weights, witness.path)
    yield difference("velocity", run_dit(dit, runs, runs["input.latents"], runs["input.timestep"]), runs["output.velocity"], DIT_BOUND)
    if "trajectory.sigmas" in runs:
        yield difference("trajectory", follow(dit, runs), runs["trajectory.final_latents"], TRAJECTORY_BOUND)
    if "rope.cos" in runs:
        sizes = (n // p for n, p in zip(runs["input.latents"].shape[2:], config.patch, strict=True))
        table = rope_table((next(sizes), next(sizes), next(sizes)), 0, config.rope_axes, config.rope_theta)
        for name, ours in zip(("rope.cos", "rope.sin"), table.repeat_interleave(2, dim=1).unbind(-1), strict=True):
            yield difference(name, ours, runs[name], DIT_BOUND)


def run_dit(dit: DiT, runs: State, latents: Tensor, time: Tensor) -> Tensor:
    guidance = runs.get("input.guidance_x1000") if dit.config.guidance else None
    mask = runs["input.text_mask"].bool()
    return dit(latents, time, runs["input.text_states"], mask, runs["input.pooled_text"], guidance)


def follow(dit: DiT, runs: State) -> Tensor:
    """From the input along the stored sigmas, with the guidance and text of the single run; image channels and frames stay."""

    def velocity(x: Tensor, sigma: float) -> Tensor:
        slope = run_dit(dit, runs, x, torch.full((len(x),), 1000 * sigma))
        if dit.config.image_condition == "token_replace":
            slope[:, :, 0] = 0
        return F.pad(slope, (0, 0) * 3 + (0, x.shape[1] - slope.shape[1]))

    return SAMPLERS["euler"](velocity, runs["input.latents"], runs["trajectory.sigmas"])


def vae_config(witness: Witness) -> VAEConfig:
    config = witness.config
    known = {
        "groups": config["norm_num_groups"],
        "scaling_factor": config.get("scaling_factor", VAEConfig.scaling_factor),
        "tile_size": config.get("sample_size", VAEConfig.tile_size),
        "tile_frames": config.get("sample_tsize", VAEConfig.tile_frames),
    }
    return infer_vae_config(witness.weights, **known)


def verify_vae(witness: Witness) -> Iterator[Check]:
    """Decoding starts from the stored latents, so that an error of the encoder does not count twice."""
    config, runs = vae_config(witness), witness.runs
    with torch.device("meta"):
        vae = CausalVAE(config)
    fill(vae, witness.weights, witness.path)
    posterior = vae.encode(runs["input.video"])
    yield difference("mean", posterior.mean, runs["output.mean"], VAE_BOUND)
    yield difference("logvar", posterior.logvar, runs["output.logvar"], VAE_BOUND)
    yield difference("reconstruction", vae.decode(runs["output.mean"]), runs["output.reconstruction"], VAE_BOUND)
    if "tiled.mean" in runs:
        yield difference("tiled mean", encode_tiled(vae, runs["input.video"]).mean, runs["tiled.mean"], VAE_BOUND)
    if "tiled.reconstruction" in runs:
        yield difference("tiled reconstruction", decode_tiled(vae, runs["output.mean"]), runs["tiled.reconstruction"], VAE_BOUND)
