"""Memory that decoding and writing a video takes over the loaded VAE, each shape in a process of its own: random latents to MP4.

python runs/decode_memory.py [--shape FRAMES HEIGHT WIDTH ...] [--preset mini]
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

import kinema
from kinema.evaluate.bench.memory import host_growth
from kinema.pipelines.plan import return_freed_memory

SHAPES = ((33, 256, 256), (301, 256, 256), (17, 1088, 1920))


def measure(preset: str, frames: int, height: int, width: int) -> tuple[float, float]:
    """Bytes at the peak over what is held before, and seconds."""
    return_freed_memory()
    pipeline = kinema.load(preset)
    request = pipeline.config.request("noise", seed=0, frames=frames, height=height, width=width)
    small = pipeline.config.request("noise", seed=0, frames=5, height=32, width=32)
    with tempfile.TemporaryDirectory() as folder:

        def write(name: str, asked: kinema.Request) -> None:
            latent = asked.shape.latent
            latents = torch.randn(pipeline.config.vae.latent_channels, latent.t, latent.h, latent.w)
            pipeline.decode_to(Path(folder), Path(folder) / f"{name}.safetensors", latents, pipeline.recipe(asked))

        write("small", small)  # what is loaded and set up once is no part of the figures
        began = time.perf_counter()
        grown = host_growth(lambda: [write("large", request)])  # type: ignore[list-item,func-returns-value]
    return grown or 0, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, action="append", metavar=("FRAMES", "HEIGHT", "WIDTH"))
    parser.add_argument("--preset", default="mini")
    args = parser.parse_args()
    print("| frames | peak over the VAE | s |\n|---|---|---|")
    for shape in args.shape or SHAPES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            grown, seconds = fresh.submit(measure, args.preset, *shape).result()
        print(f"| {'x'.join(map(str, shape))} | {grown / 1e6:.0f} MB | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
