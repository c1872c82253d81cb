"""A transformer's file in fewer bits, written matrix by matrix, and how far its velocity is from the original's."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from kinema.dit.model import DiT, DiTConfig
from kinema.dit.quantise import SCALE, Form, layers_to_quantise, quantise
from kinema.parallel.mesh import MeshConfig, World
from kinema.pipelines.files import new_file
from kinema.pipelines.placement import Placement
from kinema.pipelines.streamed import load_streamed
from kinema.weights.lazy import LazyState

NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int8: "I8",
    torch.uint8: "U8",
}
UNKNOWN = "unmeasured"  # as long as a measured error
LATENTS, TEXT, TIMES = (3, 8, 8), 16, (950.0, 600.0, 200.0)  # t, h, w; tokens; of 1000: early, middle, late


def quantise_file(source: Path, target: Path, config: DiTConfig, form: Form, on_group: Callable[[int, int], None]) -> float:
    """Write `target` and return the relative error of its velocity on random latents, which also stands in its metadata.

    on_group: called with (groups done, groups in all). Memory holds a block at a time.
    Raises WeightsError where the source does not fit, OutputError where the target cannot be written.
    """
    state = LazyState(source)
    with torch.device("meta"):
        chosen = {f"{name}.weight" for name in layers_to_quantise(DiT(config))}
    with new_file(target) as draft:
        header = write(draft, state, chosen, form, on_group)
        error = velocity_error(source, draft, config)
        stamp(draft, header, f"{error:.4e}")
    return error


def pieces(state: LazyState, group: str, chosen: set[str], form: Form, *, dry: bool) -> dict[str, Tensor]:
    """What a group's weights become, by their whole names. dry: shapes and dtypes alone."""
    found: dict[str, Tensor] = {}
    weights = state.shapes(group) if dry else state.read(group, None)
    for name, tensor in weights.items():
        whole = f"{group}.{name}" if group else name
        if whole not in chosen:
            found[whole] = tensor
        else:
            found[whole], found[f"{whole.removesuffix('weight')}{SCALE}"] = quantise(tensor, form)
    return found


def write(path: Path, state: LazyState, chosen: set[str], form: Form, on_group: Callable[[int, int], None]) -> bytes:
    """The file with its error still unknown; returns its header."""
    head: dict[str, object] = {"__metadata__": {"format": "pt", "quantised": form, "error": UNKNOWN}}
    place = 0
    for group in state.groups:
        for name, tensor in pieces(state, group, chosen, form, dry=True).items():
            head[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, place + tensor.nbytes]}
            place += tensor.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for done, group in enumerate(state.groups, 1):
            for tensor in pieces(state, group, chosen, form, dry=False).values():
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            on_group(done, len(state.groups))
    return text


def stamp(path: Path, header: bytes, error: str) -> None:
    """Put the error where the file says that it is unknown."""
    with path.open("r+b") as file:
        file.seek(8 + header.index(UNKNOWN.encode()))
        file.write(error.encode().ljust(len(UNKNOWN)))


def velocity_error(wide: Path, narrow: Path, config: DiTConfig) -> float:
    """Relative L2 distance of the two files' velocities, over latents at three noise levels."""
    placement = Placement.choose(dtype="auto", offload="blocks")
    first, second = (velocities(path, config, placement) for path in (wide, narrow))
    return float((second - first).norm() / first.norm().clamp_min(1e-12))


@torch.no_grad()
def velocities(path: Path, config: DiTConfig, placement: Placement) -> Tensor:
    dit = load_streamed(path, None, config, placement, World(MeshConfig(), 0, 1, placement.device))
    generator = torch.Generator().manual_seed(0)
    shapes = ((len(TIMES), config.in_channels, *LATENTS), (len(TIMES), TEXT, config.text_width), (len(TIMES), config.pooled_width))
    latents, text, pooled = (torch.randn(shape, generator=generator).to(placement.device, placement.dtype) for shape in shapes)
    times = torch.tensor(TIMES, device=placement.device)
    guidance = torch.full_like(times, 6016.0) if config.guidance else None
    return dit(latents, times, text, None, pooled, guidance).float().cpu()
