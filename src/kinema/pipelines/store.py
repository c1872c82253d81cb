"""Where the files of a model lie: a folder of ours, the published tree, or a diffusers folder.

A folder of ours holds `config.toml` (the whole ModelConfig), `dit.safetensors` and `vae.safetensors`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from kinema.config import read_config, to_toml
from kinema.errors import InputError, WeightsError
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.files import new_file

CONFIG_FILE = "config.toml"
PRETRAINED = Path(__file__).parents[1] / "pretrained"


TREE = """{folder}/
├── {model}/
│   ├── transformers/mp_rank_00_model_states.pt
│   └── vae/pytorch_model.pt
├── {text:<18}{what} llava-llama-3-8b-v1_1: config.json, tokenizer.json, *.safetensors
└── text_encoder_2/    clip-vit-large-patch14: config.json, tokenizer.json, model.safetensors"""


@dataclass(frozen=True)
class ModelFiles:
    """The parts of one model on disk."""

    dit: Path
    vae: Path
    text: Path | None = None  # folder that holds text_encoder and text_encoder_2; None: SmolLM2, which is found by itself
    load_key: str | None = None  # which weights of a published .pt: module or ema


T2V, I2V = "hunyuan-video-t2v-720p", "hunyuan-video-i2v-720p"
OURS = ("dit.safetensors", "vae.safetensors")
PUBLISHED = ("{model}/transformers/mp_rank_00_model_states.pt", "{model}/vae/pytorch_model.pt")
DIFFUSERS = ("transformer", "vae")


def save_model(folder: Path, config: ModelConfig, dit: dict[str, Tensor], vae: dict[str, Tensor]) -> None:
    """Write a folder of ours; the tensors are kept in the dtype they have."""
    for name, state in zip(OURS, (dit, vae), strict=True):
        with new_file(folder / name) as draft:
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, draft)
    with new_file(folder / CONFIG_FILE) as draft:
        draft.write_text(to_toml(config), encoding="utf-8")


def find_files(config: ModelConfig, folder: Path, own_dit: Path | None = None) -> ModelFiles:
    """The parts of a model in `folder`, which has our layout, the published one, or that of diffusers.

    Raises WeightsError that names what is missing and where to put it.
    """
    layouts = [tuple(folder / part.format(model=published_name(config)) for part in pair) for pair in (OURS, PUBLISHED, DIFFUSERS)]
    dit, vae = next((pair for pair in layouts if pair[1].exists()), layouts[0 if config.text.kind == "smollm2" else 1])
    dit = own_dit or dit
    text = [text_folder(config, folder), folder / "text_encoder_2"] if config.text.kind == "hunyuan" else []
    missing = [str(path) for path in (dit, vae, *text) if not path.exists()]
    if missing:
        raise WeightsError(f"the weights of {config.name} are not there: {', '.join(missing)} missing{advice(config, folder)}")
    return ModelFiles(dit, vae, folder if text else None)


def published_name(config: ModelConfig) -> str:
    """The folder of the published tree that holds this model."""
    return I2V if config.needs_picture else T2V


def text_folder(config: ModelConfig, folder: Path) -> Path:
    """Where the language model lies: a whole LLaVA for models that see, as published or as diffusers names it."""
    whole, plain = folder / "text_encoder_i2v", folder / "text_encoder"
    return whole if config.text.image_step and (whole.exists() or not plain.exists()) else plain


def choose_model(
    presets: Mapping[str, Callable[[], ModelConfig]], name: str | None, weights: str | PathLike[str] | None, dit: Path | None = None
) -> tuple[ModelConfig, ModelFiles]:
    """The config and files of a preset, or of a folder that brings its own config.

    name: of a preset; None is what the folder says, or mini. dit: the transformer's weights, where they lie outside the folder.
    Raises InputError where the name is unknown or is not the folder's, WeightsError where files are missing.
    """
    folder = Path(weights) if weights is not None else None
    if folder and (folder / CONFIG_FILE).exists():
        config = read_config(ModelConfig, folder / CONFIG_FILE)
        if name not in (None, config.name):
            raise InputError(f"preset={name!r} is not what lies in {folder}, which is {config.name!r}: leave one of the two out")
        return config, find_files(config, folder, dit)
    name = name or "mini"
    if name not in presets:
        raise InputError(f"preset={name!r} is not known: use one of {', '.join(presets)}, or name a model's folder with --weights")
    config = presets[name]()
    return config, find_files(config, folder or default_folder(config), dit)


def default_folder(config: ModelConfig) -> Path:
    """Where a preset keeps its files: ours within the package, the published ones in $MODEL_BASE or ./ckpts."""
    return PRETRAINED / config.name if config.text.kind == "smollm2" else Path(os.environ.get("MODEL_BASE", "ckpts"))


def advice(config: ModelConfig, folder: Path) -> str:
    """What to do about missing files."""
    if config.text.kind != "hunyuan":
        return "; give the folder of a whole model"
    text = f"{text_folder(config, folder).name}/"
    tree = TREE.format(
        folder=folder, model=published_name(config), text=text, what="the whole of" if config.text.image_step else "the language model of"
    )
    return f". Put the published files so:\n{tree}\nMeanwhile the built-in model needs no download: kinema demo, or --model mini"
