"""From video files to numbers: each file decoded once, all metrics taken of it, results kept by the content of what was measured.

A video that cannot be read is a row with a reason, and so is a metric that fails; a worker that dies takes one video with it.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import InputError
from kinema.media.files import whole_file

HOUSE = Path(__file__).parents[1]
MEASURING = (
    "evaluate/*.py",
    "evaluate/metrics/*.py",
    "evaluate/alignment/*.py",
    "world/recogniser.py",
    "world/nets.py",
    "world/looking.py",
    "caption/camera.py",
    "caption/flowfield.py",
    "curation/filters/*.py",
    "vae/perceptual.py",
    "media/imagenet.py",
    "media/frames.py",
)
JUDGES = ("alignment", "camera", "recogniser")  # folders of shipped weights
DIED = "the process that measured it died: perhaps the file crashes its decoder, or memory ran out"
TASKS = 400  # videos after which a worker is replaced: what leaks, leaks no further
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Job:
    """One video to measure."""

    video: Path
    prompt: str
    metrics: tuple[str, ...]  # names in METRICS, distributions apart
    features: tuple[str, ...]  # names in FEATURES
    reference: Path | None = None
    way: tuple[tuple[float, float], ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        return (*self.metrics, *(f"features.{name}" for name in self.features))


@dataclass
class Measured:
    """What is known of one video. A metric is in `values` (None: not asked by this prompt) or in `reasons`."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # why a metric failed
    seconds: dict[str, float] = field(default_factory=dict)  # of each metric; what it is the first to need counts as its own
    features: dict[str, list[float]] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)  # of a metric or feature on a published network: which weights it had
    frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0
    error: str = ""  # why nothing could be measured

    def missing(self, job: Job) -> Job:
        """What is still to be measured, or again, since a published network has other weights now."""
        known = {name for name in (*self.values, *self.reasons, *self.features) if self.weights.get(name, "") == weights_of(name)}
        metrics, features = (tuple(name for name in names if name not in known) for names in (job.metrics, job.features))
        return Job(job.video, job.prompt, metrics, features, job.reference, job.way)


def weights_of(name: str) -> str:
    """Tells the published weights with which a metric or feature is computed now; empty for one that needs none."""
    from kinema.evaluate.metrics.table import METRICS
    from kinema.evaluate.published import BACKBONES

    backbone = METRICS[name].published if name in METRICS else name
    return BACKBONES[backbone].identity() if backbone in BACKBONES else ""


@cache
def fingerprint() -> str:
    """Of the code and weights that measure: with others, nothing that was kept counts."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in MEASURING for path in HOUSE.glob(pattern)):
        if path.name not in ("calibrate.py", "runner.py", "summary.py"):
            digest.update(path.read_bytes())
    for path in sorted(path for judge in JUDGES for path in (HOUSE / "pretrained" / judge).iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def content(path: Path | None) -> str:
    """SHA-256 of a file; empty for none, or one that cannot be read."""
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(job: Job) -> str:
    parts = [fingerprint(), content(job.video), content(job.reference), job.prompt, json.dumps(job.way)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Store:
    """A folder of results, one JSON file a video, named by content."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> Measured:
        """What is known; a damaged file is measured again."""
        try:
            return Measured(**json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Measured()

    def write(self, key: str, found: Measured) -> None:
        with whole_file(self.folder / f"{key}.json") as draft:
            draft.write_text(json.dumps(found.__dict__), encoding="utf-8")


def measure(job: Job) -> Measured:
    """All metrics of one video."""
    from kinema.evaluate.metrics.table import FEATURES, METRICS

    found = Measured()
    try:
        clip = opened(job)
    except InputError as error:
        found.error = str(error)
        return found
    found.frames, found.height, found.width = (int(n) for n in clip.frames.shape[:3])
    found.fps = clip.fps
    for name in job.metrics:
        timed(found, name, found.values, lambda metric: METRICS[metric].measure(clip))
    for name in job.features:
        timed(found, name, found.features, lambda feature: np.round(FEATURES[feature](clip).astype(float), 6).tolist())
    return found


def timed(found: Measured, name: str, into: dict, of: Any) -> None:
    began = time.perf_counter()
    try:
        value = of(name)
        if isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"not a finite number: {value}")
        into[name] = value
    except Exception as error:  # one metric's failure is a row of the report
        found.reasons[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    found.seconds[name] = time.perf_counter() - began
    if weights := weights_of(name):
        found.weights[name] = weights


def opened(job: Job) -> Any:
    """The job's Clip. Raises InputError where a file cannot be read or is too short."""
    from kinema.evaluate.metrics.clip import FEWEST_FRAMES, Clip, thinned
    from kinema.media.video import read_video

    frames, fps = thinned(*read_video(job.video))
    if len(frames) < FEWEST_FRAMES:
        raise InputError(f"{job.video.name} has {len(frames)} frames: {FEWEST_FRAMES} are needed")
    reference = thinned(*read_video(job.reference))[0] if job.reference else None
    return Clip(frames, fps, job.prompt, judges(), reference, np.array(job.way) if job.way else None)


@cache
def judges() -> Any:
    """One set of networks a process."""
    from kinema.evaluate.metrics.clip import Judges

    return Judges()


def settle_in() -> None:
    """A worker: one thread, since there is one worker a core."""
    import torch

    from kinema.evaluate.direction import opencv

    torch.set_num_threads(1)
    opencv().setNumThreads(1)


def measure_all(jobs: Sequence[Job], store: Store, workers: int) -> Iterator[tuple[Job, Measured]]:
    """Every job with what is known of it, as they finish; those that the store knows come first. Equal jobs are measured once."""
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        key, known = (found := key_of(job)), store.read(found)
        rest = known.missing(job)
        if known.error or not (rest.metrics or rest.features):
            yield job, known
        else:
            waiting.setdefault(key, []).append(job)
    merged = (
        (key, store.read(key), found) for key, found in in_processes({k: store.read(k).missing(v[0]) for k, v in waiting.items()}, workers)
    )
    for key, before, new in merged:
        whole = joined(before, new)
        if new.error != DIED:
            store.write(key, whole)
        yield from ((job, whole) for job in waiting[key])


def joined(known: Measured, new: Measured) -> Measured:
    """Both; of a metric that was measured again, the new."""
    again = {*new.values, *new.reasons}
    parts = {name: getattr(known, name) | getattr(new, name) for name in ("seconds", "features", "weights")}
    for name in ("values", "reasons"):
        parts[name] = {metric: value for metric, value in getattr(known, name).items() if metric not in again} | getattr(new, name)
    return Measured(**parts, frames=new.frames, height=new.height, width=new.width, fps=new.fps, error=new.error)


def in_processes(jobs: dict[str, Job], workers: int) -> Iterator[tuple[str, Measured]]:
    """In `workers` processes. Where one dies, what was left is done one by one, each in its own process: so the culprit is found."""
    left = dict(jobs)
    try:
        for key, found in pooled(jobs, workers):
            left.pop(key)
            yield key, found
    except BrokenProcessPool:
        for key, job in left.items():
            try:
                yield from pooled({key: job}, 1)
            except BrokenProcessPool:
                yield key, Measured(error=DIED)


def pooled(jobs: dict[str, Job], workers: int) -> Iterator[tuple[str, Measured]]:
    if not jobs:
        return
    os.environ.update({name: os.environ.get(name, value) for name, value in ONE_THREAD.items()})
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), settle_in, max_tasks_per_child=TASKS) as pool:
        futures: dict[Future[Measured], str] = {pool.submit(measure, job): key for key, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
