"""One measurement of the 13B model on random weights, as one JSON row; `bench_gpu.sh` makes them all.

python runs/bench_gpu.py NAME --rows FILE [--device cuda] [--small]
NAME: peak, attention, decode, encode, or step-SIZE-WAY with SIZE 540p or 720p and WAY sdpa, cudnn, flash2, flash3, sage, sliding-tile,
radial, compile, graphs, fp8, offload or diffusers. --small: a tiny model and size, to try the script where there is no GPU.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinema.dit.attending import set_attention
from kinema.dit.model import DiT, DiTConfig
from kinema.dit.quantise import as_quantised, layers_to_quantise, quantise
from kinema.errors import InputError
from kinema.evaluate.bench.cases import QUARTER
from kinema.evaluate.bench.memory import status_bytes
from kinema.evaluate.bench.sides import dit_inputs
from kinema.kernels.choose import KERNELS, Attention
from kinema.kernels.libraries import LIBRARIES
from kinema.kernels.sparse import Sparse
from kinema.media.frames import to_uint8
from kinema.parallel.mesh import MeshConfig, World
from kinema.pipelines.compiled import check_tools, compile_dit
from kinema.pipelines.dryrun import need_of_dit
from kinema.pipelines.placement import Placement, dtype_name
from kinema.pipelines.streamed import load_streamed
from kinema.presets import MODELS
from kinema.shapes import PixelShape
from kinema.vae.model import CausalVAE, VAEConfig, channels_last
from kinema.vae.tiling import decode_parts, encode_tiled
from kinema.version import __version__

TEXT, STEPS, ROUNDS = 256, 50, 2
SIZES = {"540p": PixelShape(129, 544, 960), "720p": PixelShape(129, 720, 1280)}
SMALL_SIZES = {"540p": PixelShape(9, 64, 96), "720p": PixelShape(9, 96, 128)}
SMALL_DIT = DiTConfig(
    width=128, heads=4, double_blocks=2, single_blocks=3, rope_axes=(8, 12, 12), text_width=64, pooled_width=32, guidance=True
)
SMALL_VAE = replace(QUARTER, tile_size=64)
OFFLOAD_BYTES = 24e9
DENSE = 1.0  # noise level: the bench's steps are sparse at once


@dataclass(frozen=True)
class Scene:
    """Where and what."""

    place: Placement
    small: bool
    rows: Path

    @property
    def dit(self) -> DiTConfig:
        return SMALL_DIT if self.small else MODELS["t2v_13b_distilled"]().dit

    @property
    def vae(self) -> VAEConfig:
        return SMALL_VAE if self.small else VAEConfig()

    def size(self, name: str) -> PixelShape:
        return (SMALL_SIZES if self.small else SIZES)[name]

    def inputs(self, shape: PixelShape) -> dict[str, Any]:
        found = dit_inputs(self.dit, shape, self.place)
        return found | {"text": torch.randn(1, TEXT, self.dit.text_width, device=self.place.device, dtype=self.place.dtype)}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best(work: Callable[[], Any], device: torch.device, rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of the first call, which warms up, and of the best after it."""
    taken = []
    for _ in range(rounds + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - began)
    return {"first_s": taken[0], "best_s": min(taken[1:])}


@contextmanager
def memory(device: torch.device, row: dict[str, Any]) -> Iterator[None]:
    """Writes the peak within into `row`: of the device, or of the process on a CPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield
    row["peak_gb"] = (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_bytes("VmHWM")) / 1e9


def make_dit(scene: Scene) -> DiT:
    """Random weights, drawn on the device: noise of 0.02, norms 1."""
    with torch.device("meta"):
        dit = DiT(scene.dit).to(scene.place.dtype).eval()
    dit.to_empty(device=scene.place.device)
    torch.manual_seed(0)
    for name, weight in dit.named_parameters():
        torch.nn.init.ones_(weight) if "norm" in name and name.endswith("weight") else torch.nn.init.normal_(weight, std=0.02)
    return dit


def peak(scene: Scene) -> dict[str, Any]:
    """What a square product reaches: in the model's format, and in fp8 where the device multiplies it."""
    side, device = 512 if scene.small else 8192, scene.place.device
    a, b = (torch.randn(side, side, device=device, dtype=scene.place.dtype) for _ in range(2))
    row: dict[str, Any] = {"tflops": 2 * side**3 / best(lambda: a @ b, device, 20)["best_s"] / 1e12}
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        one = torch.ones((), device=device)
        x, y = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t().contiguous().t()
        product = lambda: torch._scaled_mm(x, y, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: E731
        row["fp8_tflops"] = 2 * side**3 / best(product, device, 20)["best_s"] / 1e12
    return row


def attention(scene: Scene) -> dict[str, Any]:
    """Every kernel that is here, at 720p: seconds of a call, speed on the operations of dense attention, error to the first."""
    shape, config, device = scene.size("720p"), scene.dit, scene.place.device
    grid = (shape.latent.t, shape.latent.h // 2, shape.latent.w // 2)
    tokens, width = shape.latent.tokens + TEXT, config.width // config.heads
    q, k, v = (torch.randn(1, tokens, config.heads, width, device=device, dtype=scene.place.dtype) for _ in range(3))
    row: dict[str, Any] = {"tokens": tokens, "kernels": {}}
    expected = None
    for name in (*KERNELS, f"sliding-tile:dense={DENSE}", f"radial:dense={DENSE}"):
        if name in LIBRARIES and LIBRARIES[name].source() is None:
            row["kernels"][name] = "not installed"
            continue
        try:
            attend = Attention.parse(name).make(device, scene.place.dtype)
        except InputError as error:
            row["kernels"][name] = str(error)
            continue
        if isinstance(attend, Sparse):
            attend.grid = grid
        row["kernels"][name] = measured_kernel(attend, (q, k, v), expected, device)
        expected = attend(q, k, v) if expected is None else expected
    return row


def measured_kernel(
    attend: Callable[..., Tensor], qkv: tuple[Tensor, Tensor, Tensor], expected: Tensor | None, device: torch.device
) -> Any:
    try:
        found = best(lambda: attend(*qkv), device)
        flops = 4.0 * qkv[0].shape[1] ** 2 * qkv[0].shape[2] * qkv[0].shape[3]
        other = None if expected is None else float((attend(*qkv).float() - expected.float()).norm() / expected.float().norm())
    except RuntimeError as error:  # no such kernel for this device
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return found | {"dense_tflops": flops / found["best_s"] / 1e12, "error_to_first": other}


def step(scene: Scene, size: str, way: str) -> dict[str, Any]:
    """One step of the transformer: seconds, share of the measured peak on dense operations, memory, and what 50 steps would take."""
    shape, device = scene.size(size), scene.place.device
    row: dict[str, Any] = {"shape": [shape.frames, shape.height, shape.width], "tokens": shape.latent.tokens + TEXT}
    make = {"diffusers": rival_step, "offload": streamed_step}.get(way, own_step)
    with torch.inference_mode(), memory(device, row), tempfile.TemporaryDirectory() as folder:
        work, inputs = make(scene, way, Path(folder)), scene.inputs(shape)
        row |= best(lambda: work(inputs), device)
        row["finite"] = bool(work(inputs).isfinite().all())
    flops = need_of_dit(scene.dit, shape.latent, TEXT, scene.place.dtype, True).flops
    row |= {"tflop": flops / 1e12, "tflops": flops / row["best_s"] / 1e12, "fifty_steps_s": STEPS * row["best_s"]}
    known = next((each["tflops"] for each in rows_of(scene.rows) if each["name"] == "peak" and "tflops" in each), None)
    return row | {"mfu_of_measured_peak": None if known is None else row["tflops"] / known}


Step = Callable[[dict[str, Any]], Tensor]


def own_step(scene: Scene, way: str, folder: Path) -> Step:
    dit, device = make_dit(scene), scene.place.device
    if way == "fp8":
        for layer in layers_to_quantise(dit).values():
            as_quantised(layer, *quantise(layer.weight, "fp8"))
    elif way in ("compile", "graphs"):
        mode = "blocks" if way == "compile" else "graphs"
        check_tools(mode, device)
        compile_dit(dit, mode, device)
    else:
        options = "" if way in KERNELS else f":dense={DENSE}"
        set_attention(dit, Attention.parse(way + options).make(device, scene.place.dtype))
    return lambda inputs: dit(**inputs)


def streamed_step(scene: Scene, way: str, folder: Path) -> Step:
    """Blocks from disk, on a device that has 24 GB."""
    device = scene.place.device
    save_file(make_dit(scene).state_dict(), folder / "dit.safetensors")
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, OFFLOAD_BYTES / whole), device)
    dit = load_streamed(folder / "dit.safetensors", None, scene.dit, scene.place, World(MeshConfig(), 0, 1, device))
    return lambda inputs: dit(**inputs)


def rival_step(scene: Scene, way: str, folder: Path) -> Step:
    """diffusers with the same weights; its attention is PyTorch's, as its own documentation runs it."""
    import diffusers

    from kinema.weights import to_diffusers
    from kinema.weights.convert import dit_fields

    fields = dit_fields(scene.dit)
    with torch.device("meta"):
        rival = getattr(diffusers, fields["_class_name"]).from_config(fields)
    rival.load_state_dict(to_diffusers(make_dit(scene).state_dict()), assign=True)
    rival.to(scene.place.device).eval()

    def work(inputs: dict[str, Any]) -> Tensor:
        mask = torch.ones(1, inputs["text"].shape[1], dtype=torch.bool, device=scene.place.device)
        names = {"hidden_states": "latents", "timestep": "time", "encoder_hidden_states": "text", "pooled_projections": "pooled"}
        named = {theirs: inputs[ours] for theirs, ours in names.items()}
        found: Tensor = rival(**named, encoder_attention_mask=mask, guidance=inputs["guidance"]).sample
        return found

    return work


def make_vae(scene: Scene) -> CausalVAE:
    torch.manual_seed(0)
    vae = CausalVAE(scene.vae).to(scene.place.device, scene.place.dtype).eval()
    channels_last(vae)
    return vae


def decode(scene: Scene) -> dict[str, Any]:
    """720p in tiles, as the pipeline does, frames given out as they come."""
    shape, device, row = scene.size("720p"), scene.place.device, dict[str, Any]()
    with torch.inference_mode(), memory(device, row):
        vae, latent = make_vae(scene), shape.latent
        latents = torch.randn(1, 16, latent.t, latent.h, latent.w, device=device, dtype=scene.place.dtype)
        row |= best(lambda: [to_uint8(part[0]).cpu() for part in decode_parts(vae, latents)], device, 1)
    return row | {"shape": [shape.frames, shape.height, shape.width]}


def encode(scene: Scene) -> dict[str, Any]:
    shape, device, row = scene.size("720p"), scene.place.device, dict[str, Any]()
    with torch.inference_mode(), memory(device, row):
        vae = make_vae(scene)
        pixels = torch.rand(1, 3, shape.frames, shape.height, shape.width, device=device, dtype=scene.place.dtype) * 2 - 1
        row |= best(lambda: encode_tiled(vae, pixels).mean, device, 1)
    return row | {"shape": [shape.frames, shape.height, shape.width]}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measured(scene: Scene, name: str) -> dict[str, Any]:
    """The row, or why there is none: one failure must not end a run on a borrowed machine."""
    try:
        if name.startswith("step-"):
            _, size, way = name.split("-", 2)
            return step(scene, size, way)
        return {"peak": peak, "attention": attention, "decode": decode, "encode": encode}[name](scene)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if any(row["name"] == args.name and "error" not in row for row in rows_of(args.rows)):
        return
    place = Placement.choose(args.device, "bf16" if args.device.startswith("cuda") else "auto")
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else args.device
    facts = {"name": args.name, "device": device, "dtype": dtype_name(place.dtype), "torch": torch.__version__, "kinema": __version__}
    row = facts | ({"small": True} if args.small else {}) | measured(Scene(place, args.small, args.rows), args.name)
    with args.rows.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
