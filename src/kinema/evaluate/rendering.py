"""Small rendered clips of the training split, made by other processes while something else trains."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kinema.evaluate.practice import chance, uniform
from kinema.world.render import render_frames
from kinema.world.spec import sample_spec
from kinema.world.sprites import SpritePack

FRAMES = 3  # of a clip
CLIPS_A_JOB = 8
MOST_CLIPS = 40_000  # 1.5 GB at 64 pixels
FIRST_SEED = 1 << 40  # far from the seeds that models train on

Job = tuple[UInt8[Tensor, "clips T 3 H W"], list[str]]


def _set_up() -> None:
    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def opened(pack_path: Path) -> SpritePack:
    """The pack, once a process: the renderer keeps what it has decoded of it."""
    return SpritePack.open(pack_path)


def render_job(pack_path: Path, first: int, size: int) -> Job:
    """CLIPS_A_JOB clips of size x size and the names of their places."""
    pack = opened(pack_path)
    specs = [sample_spec(FIRST_SEED + first + i, pack.subjects, FRAMES, size, size) for i in range(CLIPS_A_JOB)]
    return torch.stack([render_frames(spec, pack) for spec in specs]), [spec.place for spec in specs]


@dataclass(frozen=True)
class Rendered:
    """Frames of many clips, and the class of each."""

    frames: UInt8[Tensor, "M 3 H W"]
    wanted: Int[Tensor, "M"]

    def batch(self, count: int) -> tuple[Float[Tensor, "B 3 H W"], Int[Tensor, "B"]]:
        """Random frames in about [0, 1], some mirrored, in slightly other light, with some noise."""
        device = self.frames.device
        picks = torch.randint(len(self.frames), (count,), device=device)
        pictures = self.frames[picks].float() / 255
        pictures = torch.where(chance(count, 0.5, device) > 0, pictures.flip(-1), pictures)
        pictures = pictures * uniform(count, 0.9, 1.1, device) + uniform(count, -0.05, 0.05, device)
        return pictures + torch.randn_like(pictures) * uniform(count, 0.0, 0.04, device), self.wanted[picks]


class Rendering:
    """Clips on their way."""

    def __init__(self, pool: ProcessPoolExecutor, pack_path: Path, size: int):
        jobs = MOST_CLIPS // CLIPS_A_JOB
        self.pool, self.began = pool, time.monotonic()
        self.jobs: list[Future[Job]] = [pool.submit(render_job, pack_path, CLIPS_A_JOB * job, size) for job in range(jobs)]

    def finish(self, names: tuple[str, ...], device: str) -> Rendered:
        """Take what is rendered (at least one job) and stop. names: the classes."""
        self.jobs[0].result()
        self.pool.shutdown(wait=False, cancel_futures=True)
        done = [job.result() for job in self.jobs if job.done() and not job.cancelled()]
        clips = torch.cat([clips for clips, _ in done])
        print(f"{len(clips)} clips rendered in {time.monotonic() - self.began:.0f} s", flush=True)
        wanted = torch.tensor([names.index(place) for _, places in done for place in places])
        return Rendered(clips.flatten(0, 1).to(device), wanted.repeat_interleave(clips.shape[1]).to(device))


@contextmanager
def start_rendering(pack_path: Path, size: int) -> Iterator[Rendering]:
    """Render in the background on all but one core. Processes are spawned: a forked one would share the GPU's context."""
    workers = max(1, (os.cpu_count() or 2) - 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_set_up) as pool:
        yield Rendering(pool, pack_path, size)
        pool.shutdown(wait=False, cancel_futures=True)
