"""Stores of encoded clips as `kinema encode` writes them, but tiny: latents that one number tells, and texts that tell the number."""

from pathlib import Path

import torch

WIDTH = 576  # of the tiny preset's text states


def encoded(folder: Path, buckets=("9x32x32", "1x32x32"), clips: int = 8, texts: int = 2, longest: int = 6) -> Path:
    """`clips` clips of each bucket."""
    from kinema.data.buckets import Bucket
    from kinema.data.store import MadeBy, Sample, StoreWriter

    generator = torch.Generator().manual_seed(0)
    with StoreWriter(folder, MadeBy(vae="a", text_encoder="b", template="{}", text_len=longest), per_shard=4) as writer:
        writer.write_null(torch.zeros(1, 1, WIDTH), torch.zeros(WIDTH))
        for bucket in map(Bucket.parse, buckets):
            for number, level in enumerate(torch.linspace(-1, 1, clips).tolist()):
                lengths = torch.randint(2, longest + 1, (texts,), generator=generator).tolist()
                writer.add(
                    Sample(
                        id=f"{bucket}-{number}",
                        bucket=bucket,
                        mean=torch.full(bucket.latent_shape, level),
                        logvar=torch.full(bucket.latent_shape, -8.0),
                        text=[torch.full((length, WIDTH), level) for length in lengths],
                        pooled=torch.full((texts, WIDTH), level),
                        facts={},
                    )
                )
    return folder


RECIPE = """
kind = "video"
device = "cpu"

[model]
width = 32
heads = 2
double_blocks = 1
single_blocks = 1
rope_axes = [4, 6, 6]
refiner_blocks = 1
text_width = 576
pooled_width = 576
guidance = false

[task]
folders = ["data"]
sample = false

[[task.stages]]
name = "pictures"
sides = [32]
frames = [1]
steps = 10
tokens = 16
image_share = 1.0

[[task.stages]]
name = "videos"
sides = [32]
frames = [1, 5, 9]
steps = 20
tokens = 48
image_share = 0.25
given_share = 0.2
shift = 1.5
lr_end = 0.1

[loop]
out = "run"
lr = 5e-3
muon_lr = 5e-3
optimizer = "muon"
warmup = 5
ema = 0.9
log_every = 5
"""
"""A recipe for the folder `data`, to be run beside it."""
