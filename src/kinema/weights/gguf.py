"""Weights in GGUF: numbers in blocks of few bits, as llama.cpp and ComfyUI have them; the names are those of the published checkpoint.

A matrix is widened when it is read, and not before, so that a large file is opened at once and read block by block.
GGUF knows at most four axes; ComfyUI's writers note the shape of what has five under `comfy.gguf.orig_shape.<name>`.
Sources: the GGUF specification (ggml-org/ggml, docs/gguf.md); the `gguf` package reads and dequantises.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinema.errors import WeightsError

if TYPE_CHECKING:
    from numpy import ndarray

MAGIC = b"GGUF"
SHAPE_FIELD = "comfy.gguf.orig_shape."
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
WIDE = torch.float16  # what quantised numbers become: more digits than any of the forms has


@dataclass(frozen=True)
class Packed:
    """One tensor of a GGUF file, on disk."""

    name: str
    kind: str  # Q4_K and so on
    shape: torch.Size
    content: "ndarray"  # mapped

    @property
    def dtype(self) -> torch.dtype:
        return PLAIN.get(self.kind, WIDE)

    def numel(self) -> int:
        return self.shape.numel()

    def read(self) -> Tensor:
        """Its numbers. Raises WeightsError for a form that is not known."""
        from gguf import GGMLQuantizationType, dequantize

        try:
            wide = dequantize(self.content, GGMLQuantizationType[self.kind])
        except NotImplementedError as error:
            raise WeightsError(
                f"{self.name} is stored as {self.kind}, which cannot be read: use a file in Q8_0, Q4_K, Q5_K or Q6_K"
            ) from error
        return torch.from_numpy(wide.copy()).to(self.dtype).reshape(self.shape)

    def pages(self) -> tuple[int, int]:
        """Where it lies in memory, and its bytes."""
        return self.content.ctypes.data, self.content.nbytes


def read_gguf(path: Path) -> dict[str, Packed]:
    """Every tensor of a file by name. Raises WeightsError where it is damaged."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        tensors = {str(tensor.name): packed(reader, tensor) for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OverflowError, OSError, struct.error) as error:
        raise WeightsError(f"{path} is damaged or cut short ({str(error)[:80]}): download it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no tensors: name a file of weights")
    return tensors


def packed(reader: Any, tensor: Any) -> Packed:
    """GGUF counts its axes from the last."""
    field = reader.get_field(SHAPE_FIELD + tensor.name)
    shape = [int(size) for size in tensor.shape][::-1] if field is None else [int(field.parts[part][0]) for part in field.data]
    if torch.Size(shape).numel() != int(tensor.n_elements):
        raise ValueError(f"{tensor.name} has {tensor.n_elements} numbers, not {shape}")
    return Packed(str(tensor.name), tensor.tensor_type.name, torch.Size(shape), tensor.data)
