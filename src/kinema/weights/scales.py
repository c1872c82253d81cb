"""Quantised weights as they are found on disk: which scales belong to which matrix.

Ours: `<layer>.weight_scale` in the same file. Published fp8: a map of scales in a file of its own, by the layer's name.
ComfyUI's: `<layer>.scale_weight`.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from kinema.dit.quantise import SCALE, Form
from kinema.errors import WeightsError
from kinema.weights.read import OnDisk, State, listed, read_checkpoint, shapes_of

Weights = TypeVar("Weights", State, OnDisk)

COMFY_SCALE, COMFY_MARK = "scale_weight", "scaled_fp8"
STORED: dict[torch.dtype, Form] = {torch.float8_e4m3fn: "fp8", torch.float8_e5m2: "fp8", torch.int8: "int8", torch.uint8: "int4"}
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def with_scales(state: Weights, path: Path) -> Weights:
    """The state with a scale beside every 8-bit matrix, under our names; others are returned as they are.

    Raises WeightsError where fp8 weights come without scales.
    """
    eight = [name for name, tensor in state.items() if tensor.dtype in FLOAT8]
    if not eight:
        return state
    found: Any = {rename(name): tensor for name, tensor in state.items() if name != COMFY_MARK}
    missing = [name for name in eight if f"{name.removesuffix('weight')}{SCALE}" not in found]
    if missing:
        found |= scales_of(path, missing)
    return found


def rename(name: str) -> str:
    return f"{name.removesuffix(COMFY_SCALE)}{SCALE}" if name.endswith(f".{COMFY_SCALE}") else name


def scales_of(path: Path, names: list[str]) -> dict[str, Tensor]:
    """From the published map beside the weights: NAME_fp8.pt has NAME_fp8_map.pt."""
    beside = path.with_name(f"{path.stem}_map.pt")
    if not beside.is_file():
        raise WeightsError(f"{path} holds float8 weights without scales: put their map, {beside.name}, beside it, or use the bfloat16 file")
    known = read_checkpoint(beside, mapped=False)
    layers = [name.removesuffix(".weight") for name in names]
    absent = [layer for layer in layers if layer not in known]
    if absent:
        raise WeightsError(f"{beside} has no scales for {len(absent)} layers: {listed(absent)}")
    return {f"{layer}.{SCALE}": torch.as_tensor(known[layer], dtype=torch.float32).reshape(()) for layer in layers}


def form_of(path: Path) -> Form | None:
    """How a file's matrices are quantised, as `kinema quantize` names it; None: not at all. Errors as `load_state`."""
    state = shapes_of(path)
    stored = {tensor.dtype for name, tensor in state.items() if tensor.ndim == 2 and tensor.dtype in STORED}
    if not stored:
        return None
    form = STORED[stored.pop()]
    rows = any(tensor.ndim == 2 for name, tensor in state.items() if name.endswith(SCALE))
    return "fp8-row" if form == "fp8" and rows else form
