"""One worker: it claims jobs, makes their videos on one device, reports, and keeps one model loaded.

It runs in a process of its own, so that whatever a model does to it, the page stays up:

    KINEMA_QUEUE=postgresql://... python -m kinema.serve.worker FOLDER NAME
"""

import argparse
import gc
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.errors import KinemaError, OutOfMemoryError
from kinema.pipelines.preview import SECONDS_A_FRAME, write_preview
from kinema.serve.jobs import URL_VARIABLE, Job, Queue, over_time
from kinema.serve.makers import Films, Speeches
from kinema.serve.speeches import is_speech

LOG = logging.getLogger("kinema.serve")
IDLE = 0.2  # seconds between looks at an empty queue
REPORT_EVERY = 0.25  # seconds between reports of a running job, at least
SIGN_OF_LIFE = 10.0  # seconds between renewals of the lease while a step takes longer
PREVIEW = "preview.webp"
WEIGHTS = {"denoise": (0.05, 0.85), "decode": (0.9, 0.1)}  # where a stage's progress begins, and how much it is of the whole


class Wanted(NamedTuple):
    """What must be loaded for a job."""

    model: str
    lora: str | None  # file name of an adapter, with its strength
    speaks: bool


class StopJob(Exception):  # noqa: N818
    """The job in hand is to end: cancelled, out of time, or somebody else's by now."""


class Worker:
    """A worker named `name`, with its results in `folder`/<job id>/."""

    def __init__(self, queue: Queue, folder: Path, name: str, device: str = "auto", parent: int | None = None):
        """parent: the process that began this one; where it is gone, so is the worker."""
        self.queue, self.folder, self.name, self.device = queue, folder, name, device
        self.loaded: tuple[Wanted, Films | Speeches] | None = None
        self.parent = parent or os.getppid()

    def run(self) -> None:
        """Work until told to stop (SIGTERM), or until the service that began this worker is gone."""
        while os.getppid() == self.parent:
            job = self.queue.claim(self.name)
            if job is None:
                time.sleep(IDLE)
            else:
                self.work(job)

    def work(self, job: Job) -> None:
        """Make one job's video; every way it can end is reported."""
        watch = Watch(self.queue, job, job.place(self.folder), self.parent)
        try:
            with watch:
                file = self.maker(job.request).make(job, watch)
            watch.check("done", 1.0)
            self.queue.finish(job, file.name)
        except StopJob as reason:
            shutil.rmtree(watch.folder, ignore_errors=True)
            self.queue.stopped(job) if str(reason) == "cancelled" else self.queue.fail(job, str(reason))
        except (OutOfMemoryError, torch.OutOfMemoryError):
            self.forget()
            self.queue.fail(job, "out of memory: ask for fewer frames or a smaller size")
        except KinemaError as error:
            self.queue.fail(job, str(error))

    def maker(self, request: dict[str, Any]) -> Films | Speeches:
        """What makes such a job, loaded if need be; the one before leaves first."""
        wanted = Wanted(request["model"], request.get("lora"), is_speech(request))
        if self.loaded is None or self.loaded[0] != wanted:
            self.forget()
            self.loaded = wanted, self.load(wanted)
        return self.loaded[1]

    def load(self, wanted: Wanted) -> Films | Speeches:
        if wanted.speaks:
            return Speeches(self.folder, self.device, wanted.model)
        return Films(self.folder, self.device, wanted.model, wanted.lora)

    def forget(self) -> None:
        self.loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Watch:
    """Stands beside a running job: reports it, renews its lease, and ends it when it must end."""

    def __init__(self, queue: Queue, job: Job, folder: Path, parent: int):
        self.queue, self.job, self.folder, self.parent = queue, job, folder, parent
        self.latest, self.told, self.began = ("load", 0.0), 0.0, time.monotonic()
        self.shown = 0.0
        self.left = threading.Event()
        self.thread = threading.Thread(target=self.keep_alive, daemon=True)

    def __enter__(self) -> "Watch":
        shutil.rmtree(self.folder.parent, ignore_errors=True)  # of earlier attempts
        self.folder.mkdir(parents=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self.thread.join()

    def keep_alive(self) -> None:
        """Renew the lease while a step takes long; leave at once when the service is gone."""
        while not self.left.wait(SIGN_OF_LIFE / 10):
            if os.getppid() != self.parent:
                self.queue.worker_died(str(self.job.worker), "the service stopped", crashed=False)
                os._exit(1)
            if time.monotonic() - self.told > SIGN_OF_LIFE:
                self.tell(*self.latest)

    def check_step(self, stage: str, done: int, total: int) -> None:
        """The pipeline's `on_step`."""
        start, share = WEIGHTS.get(stage, (0.0, 0.05))
        if time.monotonic() - self.told > REPORT_EVERY:
            self.check(stage, start + share * done / max(total, 1))

    def check(self, stage: str, progress: float) -> None:
        """Report; raises StopJob where the job must end."""
        if time.monotonic() - self.began > self.job.limit_s:
            raise StopJob(over_time(self.job))
        if not self.tell(stage, progress):
            raise StopJob("cancelled")

    def tell(self, stage: str, progress: float) -> bool:
        self.latest, self.told = (stage, progress), time.monotonic()
        return self.queue.report(self.job, stage, progress)

    def show(self, look: Callable[[], UInt8[Tensor, "t h w 3"]], seconds: float = SECONDS_A_FRAME) -> None:
        """A small animation of what there is so far, not too often. seconds: that each of its frames stays."""
        if time.monotonic() - self.shown > REPORT_EVERY:
            self.shown = time.monotonic()
            write_preview(self.folder / PREVIEW, look(), seconds)


def main(arguments: list[str] | None = None) -> int:
    """Run a worker until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--parent", type=int, help="the process that this one belongs to")
    args = parser.parse_args(arguments)
    queue = Queue(os.environ[URL_VARIABLE])
    signal.signal(signal.SIGTERM, lambda *_: give_back_and_leave(queue, args.name))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us in order
    Worker(queue, args.folder, args.name, args.device, args.parent).run()
    return 0


def give_back_and_leave(queue: Queue, name: str) -> Any:
    queue.worker_died(name, "the service stopped", crashed=False)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
