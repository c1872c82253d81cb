"""World clips, or pictures, into shards, by as many processes as there are cores.

A clip is a pure function of its seed. Each process takes the seeds whose first subject is its own, so that between them they
decode every subject once; a run that was killed goes on with the shards that are missing.
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.caption.assemble import training_text
from kinema.data.shards import write_shard
from kinema.errors import InputError
from kinema.world import captions
from kinema.world.motion import mirrored
from kinema.world.portrait import GROUND, portrait
from kinema.world.render import render
from kinema.world.spec import SHOTS, ClipSpec, sample_spec
from kinema.world.sprites import SpritePack, Subject

CAPTIONS_A_CLIP = 2
OFTEN = 4  # times


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
    split: Literal["train", "heldout"] = "train"
    subjects: tuple[str, ...] = ()  # nouns of the only subjects shown; none: all there are
    often: tuple[str, ...] = ()  # nouns of subjects that are drawn OFTEN times as often as the others
    shots: tuple[str, ...] = ()  # only these sizes of the subject; none: all, as the world draws them
    workers: int = 2
    ahead: int = 0  # pause while so many shards lie in `out` unread; 0: never (a reader that consumes them sets the pace)

    def __post_init__(self):
        if unknown := set(self.shots) - set(SHOTS):
            raise InputError(f"shots={sorted(unknown)} are not in the world: use {', '.join(map(repr, SHOTS))}")

    def path(self, part: int, shard: int) -> Path:
        return self.out / f"clips-{self.height}x{self.width}x{self.frames}-{part:02d}of{self.workers:02d}-{shard:06d}.safetensors"


def cast_of(job: RenderJob, pack: SpritePack) -> list[Subject]:
    """The subjects that a job shows, each as often as it is to be drawn. Raises InputError for a noun that names none."""
    unknown = {*job.subjects, *job.often} - {subject.noun for subject in pack.subjects}
    if unknown:
        raise InputError(f"subjects={sorted(unknown)} are not in the world: use nouns of the sprite pack, such as 'cat' or 'rocket'")
    shown = [subject for subject in pack.subjects if not job.subjects or subject.noun in job.subjects]
    return [subject for subject in shown for _ in range(OFTEN if subject.noun in job.often else 1)]


def spec_of(job: RenderJob, seed: int, cast: Sequence[Subject]) -> ClipSpec:
    """What the clip of a seed shows. In a picture nothing goes anywhere."""
    spec = sample_spec(seed, cast, job.frames, job.height, job.width, split=job.split)
    if job.frames == 1:
        spec = replace(spec, path="stays", pace="", camera="static")
    return replace(spec, shot=job.shots[seed % len(job.shots)]) if job.shots else spec


def texts_of(spec: ClipSpec, pack: SpritePack) -> list[str]:
    """What a clip is captioned with: training texts and a user's prompt; a picture by the bare names of what it shows too."""
    rng = np.random.default_rng([spec.seed, 7])
    caption = captions.describe(spec, pack.subjects)
    texts = [training_text(caption, rng) for _ in range(CAPTIONS_A_CLIP - 1)] + [captions.user_prompt(spec, pack.subjects, rng)]
    return texts if spec.frames > 1 else [captions.names(spec, pack.subjects, rng), texts[-1]]


def specs_of_part(job: RenderJob, part: int, pack: SpritePack) -> Iterator[ClipSpec]:
    """The specs whose first subject belongs to process `part`."""
    cast = cast_of(job, pack)
    for seed in range(job.first_seed, job.first_seed + job.clips):
        spec = spec_of(job, seed, cast)
        if pack.index(spec.subjects[0]) % job.workers == part:
            yield spec


def reference_of(spec: ClipSpec, pack: SpritePack) -> UInt8[Tensor, "3 H W"]:
    """A portrait of a clip's first subject, facing as it does there: the one that `kinema.world.memory` keeps, or, in half of the clips,
    another moment of its loop before another gray."""
    rng, subject = np.random.default_rng([spec.seed, 8]), pack.subject(spec.subjects[0])
    frames, usual = pack.frames(subject.id), bool(rng.random() < 0.5)
    number, ground = (0, GROUND) if usual else (int(rng.integers(len(frames))), int(rng.integers(256)))
    return portrait(frames, number, spec.height, spec.width, mirrored(spec.path, subject.facing, spec.mirror), ground)


def render_shard(path: Path, specs: Sequence[ClipSpec], pack: SpritePack, split: str) -> None:
    """Render the clips of one shard: uint8 frames [n T 3 H W], a reference picture [n 3 H W], and a row of name, seed, rate, training
    texts and boxes each."""
    clips, references, rows = [], [], []
    for spec in specs:
        clip = render(spec, pack)
        clips.append(clip.frames)
        references.append(reference_of(spec, pack))
        name = f"world/{split}/{spec.seed}/{spec.frames}x{spec.height}x{spec.width}"
        rows.append({"id": name, "seed": spec.seed, "fps": spec.fps, "texts": texts_of(spec, pack), "boxes": clip.truth["boxes"]})
    write_shard(path, {"frames": torch.stack(clips), "references": torch.stack(references)}, rows)


def render_part(job: RenderJob, part: int) -> None:
    """One process's share, shard by shard; those that exist already are skipped."""
    torch.set_num_threads(1)
    pack = SpritePack.open(job.pack)
    specs = specs_of_part(job, part, pack)
    for shard in count():
        batch = list(islice(specs, job.per_shard))
        if not batch:
            return
        while job.ahead and len(list(job.out.glob("*.safetensors"))) >= job.ahead:
            time.sleep(0.5)
        if not job.path(part, shard).exists():
            render_shard(job.path(part, shard), batch, pack, job.split)


def render_world(job: RenderJob) -> None:
    """Render the whole job with `job.workers` processes; raises RuntimeError if any of them failed."""
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=render_part, args=(job, part), daemon=True) for part in range(job.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"rendering into {job.out} stopped: exit codes {[worker.exitcode for worker in workers]}; run it again to go on")
