"""What reuse and the guidance interval cost mini: PSNR and SSIM to the plain video of the same seed, and time.

python runs/reuse_mini.py [--seeds 2] [--frames 33] [--size 128 128]
"""

import argparse
import time

import torch

import kinema
from kinema.errors import KinemaError

PROMPTS = ("A red fox runs to the left on the grass.", "A balloon rises over the sea at sunset.")
WAYS = {
    "plain": {},
    "--reuse 2": {"reuse": 2},
    "--reuse 3": {"reuse": 3},
    "--guidance-interval 0.3 0.95": {"guidance_interval": (0.3, 0.95)},
    "both (3)": {"reuse": 3, "guidance_interval": (0.3, 0.95)},
}


def ssim(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean over 8x8 windows of each channel. Source: Wang et al. 2004."""
    a, b = (x.float().permute(0, 3, 1, 2) for x in (first, second))
    pool = torch.nn.AvgPool2d(8, stride=4)
    mean_a, mean_b = pool(a), pool(b)
    var_a, var_b, both = pool(a * a) - mean_a**2, pool(b * b) - mean_b**2, pool(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(((2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    error = (first.float() - second.float()).square().mean().clamp_min(1e-9)
    return float(10 * torch.log10(255**2 / error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128))
    args = parser.parse_args()
    pipeline = kinema.load("mini")
    if pipeline.config.dit.guidance:
        raise KinemaError("this needs a model with classifier-free guidance")
    size = {"frames": args.frames, "height": args.size[0], "width": args.size[1]}
    totals: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        plain = None
        for way, chosen in WAYS.items():
            request = pipeline.config.request(PROMPTS[seed % len(PROMPTS)], seed=seed, **size, **chosen)
            began = time.process_time()
            latents = pipeline.sample(request)
            taken = time.process_time() - began
            frames = pipeline.decode(latents)
            plain = frames if plain is None else plain
            totals[way].append((psnr(frames, plain), ssim(frames, plain), taken))
    for way, rows in totals.items():
        quality = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        print(f"| {way} | {quality[0]:.1f} | {quality[1]:.3f} | {quality[2]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
