"""What computing less costs mini: nearness to the plain video of the same seed, share of the blocks that worked, and CPU seconds.

python runs/reuse_mini.py [--seeds 2] [--frames 17] [--size 128 128] [--ways TEXT]
One line a way, as soon as it is measured: PSNR (dB), SSIM, LPIPS's distance on HED's features (kinema.evaluate), all means over seeds.
"""

import argparse
import time
from functools import partial
from typing import Any

import torch

import kinema
from kinema.evaluate.metrics.clip import Clip, Judges
from kinema.evaluate.metrics.reconstruction import lpips_hed, psnr, ssim
from kinema.pipelines.video import VideoPipeline

PROMPTS = (
    "A red fox runs to the left on the grass.",
    "A balloon rises over the sea at sunset.",
    "A cat walks on the grass.",
    "A ship sails to the right on the sea.",
)
WAYS: dict[str, dict[str, Any]] = {
    "--cache 0.05 --forecast": {"cache": 0.05, "forecast": True},
    "--cache 0.05": {"cache": 0.05},
    "--cache 0.1 --forecast": {"cache": 0.1, "forecast": True},
    "--cache 0.1": {"cache": 0.1},
    "--reuse 2": {"reuse": 2},
    "--reuse 3": {"reuse": 3},
    "--guidance-interval 0.3 0.95": {"guidance_interval": (0.3, 0.95)},
    "--cache 0.05 --forecast --guidance-interval 0.3 0.95": {"cache": 0.05, "forecast": True, "guidance_interval": (0.3, 0.95)},
    "--cache 0.2": {"cache": 0.2},
    "--cache 0.05 --forecast --reuse 2": {"cache": 0.05, "forecast": True, "reuse": 2},
}
MEASURES = (psnr, ssim, lpips_hed)


class Blocks:
    """Counts blocks as they work."""

    def __init__(self, pipeline: VideoPipeline):
        self.worked = 0
        pipeline.dit.trunk.run = partial(self.run, pipeline.dit.trunk.run)

    def run(self, call: Any, block: torch.nn.Module, *inputs: Any) -> Any:
        self.worked += 1
        return call(block, *inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128))
    parser.add_argument("--ways", default="", metavar="TEXT", help="only ways that contain it; default: all")
    args = parser.parse_args()
    pipeline, judges = kinema.load("mini"), Judges()
    blocks = Blocks(pipeline)
    size = {"frames": args.frames, "height": args.size[0], "width": args.size[1]}

    def make(seed: int, chosen: dict[str, Any]) -> tuple[torch.Tensor, int, float]:
        request = pipeline.config.request(PROMPTS[seed % len(PROMPTS)], seed=seed, **size, **chosen)
        began, before = time.process_time(), blocks.worked
        latents = pipeline.sample(request)
        taken = time.process_time() - began
        return pipeline.decode(latents), blocks.worked - before, taken

    make(0, {"steps": 1})  # what is loaded and set up once is no part of the figures
    plain = [make(seed, {}) for seed in range(args.seeds)]
    print("| way | blocks | PSNR, dB | SSIM | LPIPS-HED | s |\n|---|---|---|---|---|---|")
    print(f"| plain | 100 % | - | 1 | 0 | {sum(row[2] for row in plain) / len(plain):.1f} |", flush=True)
    for way, chosen in [each for each in WAYS.items() if args.ways in each[0]]:
        made = [make(seed, chosen) for seed in range(args.seeds)]
        clips = [Clip(frames, 1.0, "", judges, wanted) for (frames, *_), (wanted, *_) in zip(made, plain, strict=True)]
        near = [sum(measure(clip) for clip in clips) / len(clips) for measure in MEASURES]
        share = sum(row[1] for row in made) / sum(row[1] for row in plain)
        seconds = sum(row[2] for row in made) / len(made)
        print(f"| {way} | {share:.0%} | {near[0]:.1f} | {near[1]:.3f} | {near[2]:.3f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
