"""What a file of weights is, and the same weights in another layout."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import save_file

from kinema.dit.model import DiTConfig
from kinema.errors import KinemaError, OutputError, WeightsError
from kinema.media.files import whole_file
from kinema.vae.model import VAEConfig
from kinema.weights.fit import published
from kinema.weights.gguf import Packed
from kinema.weights.guess import DIT_MARK, VAE_ATTENTION, VAE_MARK, infer_dit_config, infer_vae_config
from kinema.weights.lora import DIALECTS, read_lora, write_lora
from kinema.weights.names import is_diffusers, to_diffusers
from kinema.weights.read import State, load_state, open_state, shapes_of, weight_files

Layout = Literal["safetensors", "published", "diffusers", "comfy", "kohya", "peft"]
LAYOUTS: tuple[Layout, ...] = ("safetensors", "published", "diffusers", "comfy", "kohya", "peft")
"""One file with the names as they are; one file with the published names; a diffusers folder with its config. Of adapters: the
dialects of weights/lora.py, among them diffusers'."""
LORA = "LoRA"
WITNESS_PARTS = ("weights.", "input.", "output.", "tiled.", "trajectory.", "rope.")
DIFFUSERS_FILE, DIFFUSERS_CONFIG = "diffusion_pytorch_model.safetensors", "config.json"


def describe(path: Path) -> dict[str, Any]:
    """What a file or folder of weights holds, as plain data.

    Raises WeightsError where it cannot be read.
    """
    stored, state = open_state(path), shapes_of(path)
    config = config_of(state, path)
    adapters = facts_of(path) if kind_of(state) == LORA else {}
    return adapters | {
        "file": str(path),
        "format": "folder" if path.is_dir() else weight_files(path)[0].suffix.lstrip("."),
        "holds": kind_of(state),
        "names": "diffusers" if is_diffusers(state) else "published",
        "dtypes": sorted({each.kind if isinstance(each, Packed) else str(each.dtype).removeprefix("torch.") for each in stored.values()}),
        "tensors": len(state),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "config": None if config is None else asdict(config),
    }


def facts_of(path: Path) -> dict[str, Any]:
    """What adapters are for; why they cannot be used, where that is so."""
    try:
        lora = read_lora(path)
    except WeightsError as error:
        return {"error": str(error)}
    return {
        "layers": len(lora.pairs),
        "rank": lora.rank,
        "alpha": sorted({pair.alpha for pair in lora.pairs.values()}),
        "about": lora.about,
    }


def kind_of(state: State) -> str:
    if DIT_MARK in state or is_diffusers(state):
        return "HunyuanVideo DiT"
    if VAE_MARK in state:
        return "HunyuanVideo VAE" if VAE_ATTENTION in state else "Kinema VAE"
    if all(name.startswith(WITNESS_PARTS) for name in state):
        return "witness, for kinema verify"
    return LORA if any("lora_" in name for name in state) else "unknown"


def config_of(state: State, path: Path) -> DiTConfig | VAEConfig | None:
    """The config that the shapes show, helped by a diffusers folder's own; None for what we do not know."""
    infer = infer_vae_config if VAE_MARK in state else infer_dit_config
    try:
        return infer(published(state), **known_of(path))
    except KinemaError:
        return None


def known_of(path: Path) -> dict[str, Any]:
    """What a diffusers config says beyond the shapes."""
    file = path / DIFFUSERS_CONFIG
    fields = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    known = {
        "rope_axes": tuple(fields.get("rope_axes_dim", ())),
        "rope_theta": fields.get("rope_theta"),
        "image_condition": fields.get("image_condition_type"),
        "groups": fields.get("norm_num_groups"),
        "scaling_factor": fields.get("scaling_factor"),
    }
    return {name: value for name, value in known.items() if value}


def convert(source: Path, target: Path, layout: Layout) -> None:
    """Write the weights of `source` at `target` in another layout; dtypes stay. The target appears whole or not at all.

    Raises WeightsError where the source cannot be read or does not have such a layout, OutputError where writing fails.
    """
    state = load_state(source)
    if kind_of(state) == LORA:
        convert_lora(source, target, layout)
    elif layout in DIALECTS and layout != "diffusers":
        raise WeightsError(f"{source} holds {kind_of(state)}: {layout} is a dialect of LoRA; use safetensors, published or diffusers")
    elif layout == "diffusers":
        write_diffusers(state, source, target)
    else:
        with whole_file(target) as draft:
            write_tensors(published(state) if layout == "published" else state, draft)


def convert_lora(source: Path, target: Path, layout: Layout) -> None:
    dialect = next((name for name in DIALECTS if name == layout), None)
    if dialect is None:
        raise WeightsError(f"{source} holds LoRA: give one of its dialects, {', '.join(DIALECTS)}")
    write_lora(target, read_lora(source), dialect)


def write_tensors(state: State, path: Path) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:  # its way of telling that the disk is full
        raise OutputError(f"cannot write {path.parent}: {error}; choose another folder, or free some space there") from error


def write_diffusers(state: State, source: Path, target: Path) -> None:
    config = config_of(state, source)
    if config is None:
        raise WeightsError(f"{source} holds {kind_of(state)}, which has no diffusers layout here: only HunyuanVideo's DiT and VAE have")
    fields = dit_fields(config) if isinstance(config, DiTConfig) else vae_fields(config)
    with whole_folder(target) as draft:
        write_tensors(to_diffusers(published(state)) if isinstance(config, DiTConfig) else state, draft / DIFFUSERS_FILE)
        (draft / DIFFUSERS_CONFIG).write_text(json.dumps(fields, indent=2), encoding="utf-8")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder that takes its name when it is complete."""
    if path.exists():
        raise OutputError(f"{path} is there already: name a new folder")
    try:
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    except OSError as error:
        raise OutputError(f"cannot write in {path.parent}: {error.strerror}; choose another folder") from error
    try:
        yield draft
        draft.chmod(0o755)
        draft.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder, or free some space there") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def dit_fields(config: DiTConfig) -> dict[str, Any]:
    """The config.json of diffusers' class for this DiT."""
    return {
        "_class_name": "HunyuanVideoTransformer3DModel",
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "num_layers": config.double_blocks,
        "num_single_layers": config.single_blocks,
        "num_refiner_layers": config.refiner_blocks,
        "mlp_ratio": config.mlp_ratio,
        "patch_size": config.patch[1],
        "patch_size_t": config.patch[0],
        "guidance_embeds": config.guidance,
        "text_embed_dim": config.text_width,
        "pooled_projection_dim": config.pooled_width,
        "rope_theta": config.rope_theta,
        "rope_axes_dim": list(config.rope_axes),
        "image_condition_type": None if config.image_condition == "none" else config.image_condition,
    }


def vae_fields(config: VAEConfig) -> dict[str, Any]:
    """The config.json of diffusers' class for this autoencoder."""
    return {
        "_class_name": "AutoencoderKLHunyuanVideo",
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.encoder_layers[0],
        "norm_num_groups": config.groups,
        "scaling_factor": config.scaling_factor,
    }
