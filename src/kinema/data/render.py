"""World clips into shards, by as many processes as there are cores.

A clip is a pure function of its seed, so shard k of a run holds seeds first + k * per_shard ... whoever renders it, and a
run that was killed goes on with the shards that are missing.
"""

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kinema.data.shards import write_shard
from kinema.world import captions
from kinema.world.render import render
from kinema.world.spec import sample_spec
from kinema.world.sprites import SpritePack

CAPTIONS_A_CLIP = 2


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """What to render: clips of the training split, or of the held-out one."""

    out: Path
    pack: Path | None = None  # the sprite pack; None: the default one
    clips: int = 4096
    per_shard: int = 32
    frames: int = 33
    height: int = 128
    width: int = 128
    first_seed: int = 0
    split: str = "train"
    workers: int = 2

    def seeds(self, shard: int) -> range:
        start = self.first_seed + shard * self.per_shard
        return range(start, min(start + self.per_shard, self.first_seed + self.clips))

    def path(self, shard: int) -> Path:
        return self.out / f"clips-{self.height}x{self.width}x{self.frames}-{self.seeds(shard).start:08d}.safetensors"

    @property
    def shards(self) -> int:
        return -(-self.clips // self.per_shard)


def render_shard(job: RenderJob, shard: int, pack: SpritePack) -> None:
    """Render the clips of one shard: uint8 frames [n T 3 H W] and a row of truth and training texts each."""
    clips, rows = [], []
    for seed in job.seeds(shard):
        spec = sample_spec(seed, pack.subjects, job.frames, job.height, job.width, split=job.split)
        caption = captions.describe(spec, pack.subjects)
        rng = np.random.default_rng([seed, 7])
        texts = [captions.training_text(caption, rng) for _ in range(CAPTIONS_A_CLIP - 1)] + [
            captions.user_prompt(spec, pack.subjects, rng)
        ]
        clips.append(render(spec, pack).frames)
        rows.append({"seed": seed, "texts": texts})
    write_shard(job.path(shard), {"frames": torch.stack(clips)}, rows)


def render_part(job: RenderJob, first: int) -> None:
    """One process's share: every `workers`-th shard; those that exist already are skipped."""
    torch.set_num_threads(1)
    pack = SpritePack.open(job.pack)
    for shard in range(first, job.shards, job.workers):
        if not job.path(shard).exists():
            render_shard(job, shard, pack)


def render_world(job: RenderJob) -> None:
    """Render the whole job with `job.workers` processes; raises RuntimeError if any of them failed."""
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=render_part, args=(job, first)) for first in range(job.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"rendering into {job.out} stopped: exit codes {[worker.exitcode for worker in workers]}; run it again to go on")
