"""Files -> named tensors, mapped from disk where the format allows, so that opening 26 GB takes no memory and no time.

A pickle can run code when it is opened, so `.pt` files are read by PyTorch's restricted reader and no other.
"""

import json
import mmap
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kinema.errors import WeightsError
from kinema.weights.gguf import MAGIC, Packed, read_gguf

State = dict[str, Tensor]
OnDisk = dict[str, Tensor | Packed]
"""Mapped tensors, or those of a GGUF file, which are widened when they are read."""

KEYS = ("module", "ema", "state_dict")  # under which a .pt may keep its weights, in this order
PREFIXES = ("module.", "model.diffusion_model.", "model.model.", "diffusion_model.")  # wrappers' additions to every name
VAE_PREFIX = "vae."
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".gguf")  # of weights in a folder, best first
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Of safetensors."""
ZIP, PICKLE = b"PK", b"\x80"  # how new and old PyTorch files begin


def load_state(path: Path, key: str | None = None) -> State:
    """Every tensor of a file or folder by name, without wrappers' prefixes; dtypes as stored, quantised GGUF as float16.

    path: safetensors, a PyTorch checkpoint, GGUF, or a folder with one of them, whole or in shards with an index.
    key: which weights of a PyTorch checkpoint: module, ema or state_dict; None is the first of them that it has.
    Raises WeightsError, in one line, where the file is missing, damaged, holds code, or does not have the key.
    """
    return {name: each.read() if isinstance(each, Packed) else each for name, each in open_state(path, key).items()}


def shapes_of(path: Path, key: str | None = None) -> State:
    """`load_state` without numbers, on the meta device."""
    return {name: torch.empty(each.shape, dtype=each.dtype, device="meta") for name, each in open_state(path, key).items()}


def open_state(path: Path, key: str | None = None) -> OnDisk:
    """`load_state`, but what lies in a GGUF file is not widened yet."""
    state: OnDisk = {}
    for part in weight_files(path):
        state |= read_file(part, key)
    return without_prefix(state)


def weight_files(path: Path) -> list[Path]:
    """The file itself, or those of a folder that make one model."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise WeightsError(f"{path} does not exist: give a .safetensors, .pt or .gguf file, or a folder that holds one")
    indexes = sorted(path.glob("*.index.json"))
    if indexes:
        return shards(indexes[0])
    found = next((files for ending in ENDINGS if (files := weights_in(path, ending))), [])
    if len(found) != 1:
        names = f"{len(found)} files of weights ({listed([file.name for file in found])})" if found else "no weights"
        raise WeightsError(f"{path} holds {names}: name one file, or a folder with one model, such as 'transformer' or 'vae'")
    return found


def weights_in(folder: Path, ending: str) -> list[Path]:
    return [file for file in sorted(folder.glob(f"*{ending}")) if "fp8" not in file.name]  # those lie beside the whole weights


def shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{index} is not an index of shards ({type(error).__name__}): download it again") from error
    files = [index.parent / Path(name).name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise WeightsError(f"{index} names {len(names)} shards, {len(missing)} are missing ({listed(missing)}): download them")
    return files


def read_file(path: Path, key: str | None) -> State | dict[str, Packed]:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if start.startswith((ZIP, PICKLE)):
        return tensors_of(read_checkpoint(path, mapped=start.startswith(ZIP)), key, path)
    if start.startswith(MAGIC):
        return read_gguf(path)
    if start[8:] == b"{":
        return read_safetensors(path)
    raise WeightsError(f"{path} is {'empty' if not start else 'no safetensors, PyTorch or GGUF file'}: download it again, or name another")


def read_safetensors(path: Path) -> State:
    try:
        with safe_open(path, "np"):  # checks the header and the length
            pass
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or cut short ({one_line(error)}): download it again") from error
    return map_safetensors(path)


def map_safetensors(path: Path) -> State:
    """Tensors that lie in the mapped file, of a well-formed file.

    Mapped without reserving memory for changes: else a file larger than memory could not be opened at all.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
        if path.stat().st_size == start:
            return {name: torch.empty(fields["shape"], dtype=DTYPES[fields["dtype"]]) for name, fields in facts(header)}
        content = map_file(file.fileno())
    return {name: view(content, start, fields) for name, fields in facts(header)}


def map_file(number: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(number, 0, access=mmap.ACCESS_COPY)
    free = getattr(mmap, "MAP_NORESERVE", 0x4000) if sys.platform == "linux" else 0
    return mmap.mmap(number, 0, flags=mmap.MAP_PRIVATE | free, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def facts(header: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, fields) for name, fields in header.items() if name != "__metadata__"]


def view(content: mmap.mmap, start: int, fields: dict[str, Any]) -> Tensor:
    (first, last), dtype = fields["data_offsets"], DTYPES[fields["dtype"]]
    if first == last:
        return torch.empty(fields["shape"], dtype=dtype)
    flat = torch.frombuffer(content, dtype=torch.uint8, count=last - first, offset=start + first)
    aligned = flat if (start + first) % dtype.itemsize == 0 else flat.clone()
    return aligned.view(dtype).view(fields["shape"])


def read_checkpoint(path: Path, mapped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        if code is None:
            raise WeightsError(f"{path} is damaged: download it again") from error
        raise WeightsError(
            f"{path} holds code ({code[1]}), which is never run: use a .safetensors file, or save only its tensors where you trust it"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({one_line(error)}): download it again") from error


def tensors_of(found: Any, key: str | None, path: Path) -> State:
    """The weights within what a checkpoint holds."""
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not named tensors: save a model's state_dict()")
    if key is not None and key not in found:
        raise WeightsError(f"{path} has no {key!r}; it has {listed(list(map(str, found)))}")
    inner = key or next((name for name in KEYS if isinstance(found.get(name), dict)), None)
    if inner is not None:
        return tensors_of(found[inner], None, path)
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others or not found:
        raise WeightsError(f"{path} is no state dict: {f'{listed(others)} are no tensors' if others else 'it is empty'}")
    return {name: tensor.detach() for name, tensor in found.items()}


def without_prefix(state: OnDisk) -> OnDisk:
    """Names as the model itself gives them; of a file that holds a VAE beside other things, the VAE."""
    if any(name.startswith(VAE_PREFIX) for name in state):
        return {name.removeprefix(VAE_PREFIX): tensor for name, tensor in state.items() if name.startswith(VAE_PREFIX)}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def listed(names: list[str], most: int = 12) -> str:
    """The first dozen, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120]
