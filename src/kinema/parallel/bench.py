"""How much several ranks gain here: `python -m kinema.parallel.bench` (beside the same on one rank, in turns).

    python -m kinema.parallel.bench                        training steps, data=2, a thread a rank
    python -m kinema.parallel.bench --mesh sequence=2      the same samples on both ranks
    python -m kinema.parallel.bench --memory --blocks 24 --width 1024      what a rank holds of a model that only infers

One line a round, then the ratio of the medians. For ranks to gain, give each a core of its own and leave the machine alone.
"""

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinema.dit.model import DiT, DiTConfig
from kinema.parallel import apply
from kinema.parallel.mesh import MeshConfig, World, open_world
from kinema.parallel.shard import resident_bytes

MINI = DiTConfig(
    width=384, heads=6, double_blocks=1, single_blocks=8, rope_axes=(16, 24, 24), refiner_blocks=1, text_width=576, pooled_width=576,
    guidance=False,
)  # fmt: skip
WORDS = 16
WARMUP = 2  # steps before the clock runs


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=MeshConfig.parse, default=MeshConfig(data=2), help="default: data=2")
    parser.add_argument("--memory", action="store_true", help="weights and memory of a rank instead of time")
    parser.add_argument("--width", type=int, default=MINI.width, help="of the model, a multiple of 64; default: mini's %(default)s")
    parser.add_argument("--blocks", type=int, default=MINI.single_blocks, help="single blocks; default: mini's %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="samples a data rank; default: %(default)s")
    parser.add_argument("--frames", type=int, default=5, help="latent frames of 8x8 tokens; default: %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="timed steps a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)  # a rank: where the random weights lie
    return parser


def config_of(args: argparse.Namespace) -> DiTConfig:
    return replace(MINI, width=args.width, heads=args.width // 64, single_blocks=args.blocks)


def samples(args: argparse.Namespace, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "latents": torch.randn(args.batch, MINI.in_channels, args.frames, 16, 16, generator=draw),
        "time": torch.rand(args.batch, generator=draw) * 1000,
        "text": torch.randn(args.batch, WORDS, MINI.text_width, generator=draw),
        "pooled": torch.randn(args.batch, MINI.pooled_width, generator=draw),
    }


def time_training(dit: DiT, args: argparse.Namespace, world: World) -> dict[str, float]:
    """Seconds of a training step in float32; those of the processor leave out waiting, for ranks as for other people's work."""
    optimizer, batch, seconds = torch.optim.AdamW(dit.parameters(), lr=1e-4), samples(args, world.data_rank), []
    worked = 0.0
    for number in range(WARMUP + args.steps):
        worked = time.process_time() if number <= WARMUP else worked
        began = time.perf_counter()
        (dit(**batch, text_mask=None) - batch["latents"]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    step = median(seconds[WARMUP:])
    worked = (time.process_time() - worked) / args.steps
    return {"processor seconds a step": worked, "seconds a step": step, "samples a second": args.batch * world.data_ranks / step}


def measure_memory(dit: DiT, args: argparse.Namespace, world: World) -> dict[str, float]:
    """What a rank holds after a forward pass; files that are mapped into memory do not count. Linux only."""
    with torch.no_grad():
        dit(**samples(args, 0), text_mask=None)
    ctypes.CDLL(None).malloc_trim(0)  # what is free but kept for later does not count
    status = Path("/proc/self/status").read_text()
    resident = {name: int(value) / 1024 for name, value in re.findall(r"^(RssAnon|VmHWM):\s+(\d+) kB", status, re.M)}
    return {"weights MB": resident_bytes(dit) / 1e6, "resident MB": resident["RssAnon"], "peak MB with mapped files": resident["VmHWM"]}


def work(args: argparse.Namespace) -> None:
    """One rank."""
    with torch.device("meta"):
        dit = DiT(config_of(args))
    dit.load_state_dict(load_file(args.weights), assign=True)
    with open_world(args.mesh, "cpu") as world:
        dit = apply(dit, world).float()  # in the pipeline's order: split, then converted
        found = (measure_memory if args.memory else time_training)(dit, args, world)
        if world.rank == 0:
            print(json.dumps(found), flush=True)


def launch(mesh: MeshConfig, weights: Path) -> dict[str, Any]:
    """What the ranks of a mesh print, each with one thread."""
    axes = ",".join(f"{name}={getattr(mesh, name)}" for name in ("data", "shard", "sequence", "tensor", "method"))
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(mesh.size), "-m", "kinema.parallel.bench"]
    words = [sys.executable, *starter, *sys.argv[1:], "--mesh", axes, "--weights", str(weights)]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def compare(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights, dit = Path(folder) / "dit.safetensors", DiT(config_of(args))
        dit.init_weights()
        save_file(dit.bfloat16().state_dict(), weights)
        print(f"{sum(x.numel() for x in dit.parameters()) / 1e6:.1f} M parameters, one rank beside {args.mesh}", flush=True)
        del dit
        meshes, found = (MeshConfig(), args.mesh), []
        for _ in range(1 if args.memory else args.rounds):
            found.append([launch(mesh, weights) for mesh in meshes])
            print(*(" ".join(f"{name} {value:.2f}" for name, value in each.items()) for each in found[-1]), sep="  |  ", flush=True)
    for name in found[0][0]:
        one, several = (median(round[i][name] for round in found) for i in (0, 1))
        print(f"{name}: {several:.2f} to {one:.2f}, {several / one:.2f}x")


if __name__ == "__main__":
    arguments = flags().parse_args()
    (work if arguments.weights else compare)(arguments)
