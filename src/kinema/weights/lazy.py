"""Weights that stay on disk until they are asked for, block by block, and leave memory again.

Files are mapped; what is asked for is copied, and the pages that it was read from are given back, so that a 26 GB file never fills memory.
"""

import ctypes
import mmap
import sys
from pathlib import Path

import torch
from torch import Tensor

from kinema.dit.quantise import SCALE
from kinema.errors import WeightsError
from kinema.weights.gguf import Packed
from kinema.weights.names import TO_OURS, from_diffusers, is_diffusers, split_name
from kinema.weights.read import OnDisk, State, open_state
from kinema.weights.scales import with_scales

MADV_DONTNEED = 4


def forget(start: int, size: int) -> None:
    """Drop the pages of a stretch of a mapped file; they are read again when needed."""
    if sys.platform != "linux" or not size:
        return
    page = mmap.PAGESIZE
    first, last = -(-start // page) * page, (start + size) // page * page
    if last > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)


class LazyState:
    """The DiT's weights in a file or folder, under the published names whichever it has; nothing is read but what is asked for.

    Raises WeightsError as `load_state`.
    """

    def __init__(self, path: Path, key: str | None = None):
        self.mapped: OnDisk = with_scales(open_state(path, key), path)
        self.owners = {name: own_name(name) if is_diffusers(self.mapped) else name for name in self.mapped}
        self.renamed = is_diffusers(self.mapped)
        self.groups: dict[str, list[str]] = {}
        for theirs, ours in self.owners.items():
            self.groups.setdefault(group_of(ours), []).append(theirs)

    def read(self, group: str, dtype: torch.dtype | None) -> State:
        """The weights of a block such as `double_blocks.3`, or of all that is no block (""), without the block's name in front.

        dtype: what 16- and 32-bit numbers become; None leaves them. Raises WeightsError where the file has no such block.
        """
        if group not in self.groups:
            raise WeightsError(f"the file of weights has no {group or 'layers beside its blocks'}: it is of a smaller model")
        state = {name: copied(self.mapped[name], dtype, name.endswith(SCALE)) for name in self.groups[group]}
        state = from_diffusers(state) if self.renamed else state
        return {name.removeprefix(f"{group}.") if group else name: tensor for name, tensor in state.items()}

    def shapes(self, group: str) -> State:
        """`read` without numbers, on the meta device."""
        state = {name: torch.empty(self.mapped[name].shape, dtype=self.mapped[name].dtype, device="meta") for name in self.groups[group]}
        state = from_diffusers(state) if self.renamed else state
        return {name.removeprefix(f"{group}.") if group else name: tensor for name, tensor in state.items()}


def copied(mapped: Tensor | Packed, dtype: torch.dtype | None, scale: bool) -> Tensor:
    if isinstance(mapped, Packed):
        widened = mapped.read()
        forget(*mapped.pages())
        return widened.to(dtype or mapped.dtype)
    wide = not scale and mapped.dtype in (torch.float32, torch.float16, torch.bfloat16)
    found = mapped.to(dtype if dtype and wide else mapped.dtype, copy=True)
    forget(mapped.data_ptr(), mapped.nbytes)
    return found


def own_name(theirs: str) -> str:
    """The published name of a diffusers name. Raises WeightsError for one that the DiT does not have."""
    layer, number, kind = split_name(theirs)
    if layer not in TO_OURS:
        raise WeightsError(f"{theirs} is not of HunyuanVideo's DiT with diffusers names")
    return f"{TO_OURS[layer][0].replace('#', number)}.{kind}"


def group_of(name: str) -> str:
    """The trunk's block that a parameter belongs to, or ""."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] in ("double_blocks", "single_blocks") else ""
