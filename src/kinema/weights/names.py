"""The DiT's published parameter names <-> those of diffusers.

The published model packs q, k and v (and, in single blocks, the MLP) into one matrix, and its final modulation is (shift, scale);
diffusers keeps them apart, and its own is (scale, shift). The autoencoder's names are the same in both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from kinema.errors import WeightsError
from kinema.weights.read import State, listed


@dataclass(frozen=True)
class Section:
    """Layers under one name, which may hold a block number as `#`: ours -> theirs, or -> the several that ours packs."""

    ours: str
    theirs: str
    layers: dict[str, str | tuple[str, ...]] = field(default_factory=dict)


SECTIONS = (
    Section(
        "double_blocks.#.",
        "transformer_blocks.#.",
        {
            "img_mod.linear": "norm1.linear",
            "txt_mod.linear": "norm1_context.linear",
            "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
            "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
            "img_attn_q_norm": "attn.norm_q",
            "img_attn_k_norm": "attn.norm_k",
            "txt_attn_q_norm": "attn.norm_added_q",
            "txt_attn_k_norm": "attn.norm_added_k",
            "img_attn_proj": "attn.to_out.0",
            "txt_attn_proj": "attn.to_add_out",
            "img_mlp.fc1": "ff.net.0.proj",
            "img_mlp.fc2": "ff.net.2",
            "txt_mlp.fc1": "ff_context.net.0.proj",
            "txt_mlp.fc2": "ff_context.net.2",
        },
    ),
    Section(
        "single_blocks.#.",
        "single_transformer_blocks.#.",
        {
            "modulation.linear": "norm.linear",
            "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
            "q_norm": "attn.norm_q",
            "k_norm": "attn.norm_k",
            "linear2": "proj_out",
        },
    ),
    Section(
        "txt_in.individual_token_refiner.blocks.#.",
        "context_embedder.token_refiner.refiner_blocks.#.",
        {
            "norm1": "norm1",
            "norm2": "norm2",
            "self_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
            "self_attn_proj": "attn.to_out.0",
            "mlp.fc1": "ff.net.0.proj",
            "mlp.fc2": "ff.net.2",
            "adaLN_modulation.1": "norm_out.linear",
        },
    ),
    Section(
        "",
        "",
        {
            "img_in.proj": "x_embedder.proj",
            "txt_in.input_embedder": "context_embedder.proj_in",
            "txt_in.t_embedder.mlp.0": "context_embedder.time_text_embed.timestep_embedder.linear_1",
            "txt_in.t_embedder.mlp.2": "context_embedder.time_text_embed.timestep_embedder.linear_2",
            "txt_in.c_embedder.linear_1": "context_embedder.time_text_embed.text_embedder.linear_1",
            "txt_in.c_embedder.linear_2": "context_embedder.time_text_embed.text_embedder.linear_2",
            "time_in.mlp.0": "time_text_embed.timestep_embedder.linear_1",
            "time_in.mlp.2": "time_text_embed.timestep_embedder.linear_2",
            "guidance_in.mlp.0": "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.mlp.2": "time_text_embed.guidance_embedder.linear_2",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
            "final_layer.linear": "proj_out",
            "final_layer.adaLN_modulation.1": "norm_out.linear",
        },
    ),
)
SWAPPED = "final_layer.adaLN_modulation.1"  # its halves change places
TELLTALE = "x_embedder.proj.weight"  # a name that only diffusers has


def parts_of(theirs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (theirs,) if isinstance(theirs, str) else theirs


TO_THEIRS = {s.ours + ours: tuple(s.theirs + part for part in parts_of(theirs)) for s in SECTIONS for ours, theirs in s.layers.items()}
TO_OURS = {part: (ours, theirs) for ours, theirs in TO_THEIRS.items() for part in theirs}


def split_name(name: str) -> tuple[str, str, str]:
    """A parameter's layer with `#` for its block number, that number, and `weight` or `bias`."""
    layer, _, kind = name.rpartition(".")
    number = re.search(r"blocks\.(\d+)\.", layer)
    return re.sub(r"blocks\.\d+\.", "blocks.#.", layer, count=1), number[1] if number else "", kind


def is_diffusers(state: Mapping[str, object]) -> bool:
    """Whether these are the DiT's parameters under diffusers' names."""
    return TELLTALE in state


def to_diffusers(state: State) -> State:
    """Published names -> diffusers'; packed matrices become views of their rows.

    Raises WeightsError that lists names which the DiT does not have.
    """
    refuse_unknown([name for name in state if split_name(name)[0] not in TO_THEIRS], "published")
    width = len(state["img_in.proj.weight"])
    renamed: State = {}
    for name, tensor in state.items():
        layer, number, kind = split_name(name)
        theirs = TO_THEIRS[layer]
        pieces = (swap_halves(tensor),) if layer == SWAPPED else unpack(tensor, len(theirs), width)
        renamed |= {f"{part.replace('#', number)}.{kind}": piece for part, piece in zip(theirs, pieces, strict=True)}
    return renamed


def from_diffusers(state: State) -> State:
    """diffusers' names -> the published ones.

    Raises WeightsError that lists names which the DiT does not have, or parts of a packed matrix that are missing.
    """
    refuse_unknown([name for name in state if split_name(name)[0] not in TO_OURS], "diffusers")
    renamed: State = {}
    for name in state:
        layer, number, kind = split_name(name)
        ours, theirs = TO_OURS[layer]
        if layer == theirs[0]:
            renamed[f"{ours.replace('#', number)}.{kind}"] = join(state, [f"{part.replace('#', number)}.{kind}" for part in theirs])
        elif f"{theirs[0].replace('#', number)}.{kind}" not in state:
            raise WeightsError(f"{name} is there without {theirs[0].replace('#', number)}.{kind}, which belongs to the same matrix")
    return {name: swap_halves(tensor) if name.startswith(SWAPPED) else tensor for name, tensor in renamed.items()}


def refuse_unknown(names: list[str], layout: str) -> None:
    if names:
        raise WeightsError(f"{len(names)} keys are not of HunyuanVideo's DiT with {layout} names: {listed(sorted(names))}")


def unpack(tensor: Tensor, parts: int, width: int) -> tuple[Tensor, ...]:
    """q, k and v have `width` rows each; what follows is the MLP's."""
    return tensor.tensor_split(list(accumulate([width] * (parts - 1)))) if parts > 1 else (tensor,)


def join(state: State, names: list[str]) -> Tensor:
    missing = [name for name in names if name not in state]
    if missing:
        raise WeightsError(f"{names[0]} is there without {listed(missing)}, which belong to the same matrix")
    return state[names[0]] if len(names) == 1 else torch.cat([state[name] for name in names])


def swap_halves(tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2)[::-1])
