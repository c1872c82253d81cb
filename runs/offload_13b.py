"""One step of the 13B model in little memory: random weights on disk, blocks read as they work. Prints seconds and the peak.

python runs/offload_13b.py FOLDER [--to fp8|fp8-row|int8|int4] [--frames 5 --size 64 64] [--dtype bf16]
With torchrun, ranks share the tokens of the step (gloo on a CPU). The file (bf16: 26 GB, fp8: 13 GB, int4: 8 GB) is written once; delete
it afterwards.
"""

import argparse
import json
import struct
import time
from pathlib import Path

import torch

from kinema.dit.model import DiT
from kinema.dit.quantise import FORMS, Form, as_quantised, layers_to_quantise, quantise
from kinema.evaluate.bench.memory import status_bytes
from kinema.evaluate.bench.sides import dit_inputs
from kinema.parallel.mesh import MeshConfig, launched_ranks, open_world
from kinema.pipelines.placement import Placement
from kinema.pipelines.plan import return_freed_memory
from kinema.pipelines.quantise import NAMES
from kinema.pipelines.streamed import load_streamed
from kinema.presets import MODELS
from kinema.shapes import PixelShape

STEPS = {"fp8": 0.0005, "fp8-row": 0.0005, "int8": 0.0005, "int4": 0.005}  # scales, so that what is stored means noise of about 0.02
NOISE = 1 << 24  # numbers drawn once and written again and again


def write_random(path: Path, form: Form | None) -> None:
    """Every weight of the published size in bfloat16, or the blocks' matrices in fewer bits: noise of 0.02, norms 1. Never in memory."""
    with torch.device("meta"):
        dit = DiT(MODELS["t2v_13b_distilled"]().dit).to(torch.bfloat16)
    if form:
        for layer in layers_to_quantise(dit).values():
            as_quantised(layer, *quantise(layer.weight, form))
    weights = dit.state_dict()
    head, place = {}, 0
    for name, weight in weights.items():
        head[name] = {"dtype": NAMES[weight.dtype], "shape": list(weight.shape), "data_offsets": [place, place + weight.nbytes]}
        place += weight.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    chunks = chunks_of(STEPS[form] if form else 1.0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, weight in weights.items():
            norm = "norm" in name and name.endswith("weight")
            chunk = torch.ones(NOISE, dtype=weight.dtype) if norm else chunks[weight.dtype]
            for start in range(0, weight.numel(), NOISE):
                file.write(memoryview(chunk[: min(NOISE, weight.numel() - start)].view(torch.uint8).numpy()))


def chunks_of(step: float) -> dict[torch.dtype, torch.Tensor]:
    """What is written again and again, by dtype; float32 holds nothing but scales."""
    noise = 0.02 * torch.randn(NOISE, generator=torch.Generator().manual_seed(0))
    numbers = (noise / step).round()
    return {
        torch.bfloat16: noise.to(torch.bfloat16),
        torch.float32: torch.full((NOISE,), step),
        torch.float8_e4m3fn: (noise / step).to(torch.float8_e4m3fn),
        torch.int8: numbers.clamp(-127, 127).to(torch.int8),
        torch.uint8: (17 * (numbers.clamp(-8, 7) + 8)).to(torch.uint8),  # a number of 4 bits, twice
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", choices=FORMS, help="the blocks' matrices in fewer bits; default: bf16")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--dtype", default="bf16")
    args = parser.parse_args()
    return_freed_memory()
    weights = args.folder / f"dit_{args.to or 'bf16'}.safetensors"
    placement, ranks = Placement.choose("auto", args.dtype, "blocks"), launched_ranks()
    with open_world(MeshConfig(sequence=ranks), placement.device) as world:
        if not weights.is_file():
            world.share(lambda: write_random(weights, args.to) if world.rank == 0 else None)
        config = MODELS["t2v_13b_distilled"]().dit
        dit = load_streamed(weights, None, config, placement, world)
        began = time.perf_counter()
        with torch.no_grad():
            velocity = dit(**dit_inputs(config, PixelShape(args.frames, *args.size), placement))
        finite = bool(velocity.isfinite().all())
        peak = status_bytes("VmHWM") / 1e9
        print(f"rank {world.rank}/{ranks}: {time.perf_counter() - began:.0f} s a step, peak {peak:.2f} GB, finite {finite}", flush=True)


if __name__ == "__main__":
    main()
