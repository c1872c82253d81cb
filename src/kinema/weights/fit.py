"""Tensors -> a model: all of them fit, or an error lists those that do not."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from kinema.dit.model import DiT, DiTConfig
from kinema.dit.quantise import make_room
from kinema.errors import WeightsError
from kinema.vae.model import CausalVAE, VAEConfig, channels_last
from kinema.weights.guess import infer_dit_config
from kinema.weights.names import from_diffusers, is_diffusers
from kinema.weights.read import State, listed, load_state
from kinema.weights.scales import with_scales

UNSEEN = ("rope_axes", "rope_theta", "image_condition", "riflex_above")  # what a DiT's shapes do not show


def load_dit(path: Path, config: DiTConfig, key: str | None = None) -> DiT:
    """A DiT with the weights of a file or folder, in the dtype they have there; published or diffusers names.

    key: as in `load_state`.
    Raises WeightsError where the file cannot be read, or a key is missing, unknown or misshapen.
    """
    state = with_scales(published(load_state(path, key)), path)
    with torch.device("meta"):
        dit = DiT(config)
    make_room(dit, state)
    fill(dit, state, path, advice=differences(config, state))
    return dit.eval()


def load_vae(path: Path, config: VAEConfig) -> CausalVAE:
    """An autoencoder with the weights of a file or folder, its kernels laid out for speed; errors as `load_dit`."""
    with torch.device("meta"):
        vae = CausalVAE(config)
    fill(vae, load_state(path), path)
    channels_last(vae)
    return vae.eval()


def published(state: State) -> State:
    """A DiT's state under the published names, whichever it came with."""
    return from_diffusers(state) if is_diffusers(state) else state


def fill(model: nn.Module, state: State, path: Path, advice: str = "") -> None:
    """Put the tensors themselves into a model built on the meta device: nothing is copied."""
    wanted = model.state_dict()
    found = misfits(wanted, state)
    if found:
        raise WeightsError(f"{path} does not fit the model: {'; '.join(found)}{advice}")
    model.load_state_dict(state, assign=True)


def misfits(wanted: dict[str, Tensor], state: State) -> list[str]:
    """One phrase for each way in which a state differs from what a model wants."""
    shared = wanted.keys() & state.keys()
    misshapen = [
        f"{name} is {list(state[name].shape)}, not {list(wanted[name].shape)}"
        for name in sorted(shared)
        if state[name].shape != wanted[name].shape
    ]
    groups = {"missing": sorted(wanted.keys() - shared), "unknown": sorted(state.keys() - shared), "misshapen": misshapen}
    return [f"{len(names)} {what} ({listed(names)})" for what, names in groups.items() if names]


def differences(config: DiTConfig, state: State) -> str:
    """What the file's own shapes say against the config; empty where they agree or say nothing."""
    try:
        own = asdict(infer_dit_config(state))
    except WeightsError:
        return ""
    said = [f"{name}={own[name]} instead of {value}" for name, value in asdict(config).items() if name not in UNSEEN and own[name] != value]
    return f". Its shapes are those of a DiT with {', '.join(said)}" if said else ""
