"""Keeps one worker process a device alive, and gives back what a dead one had."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from kinema.serve.jobs import URL_VARIABLE, Queue, over_time

LOOK_EVERY = 0.2  # seconds
GRACE = 10.0  # seconds for a worker to leave by itself
RESTART_PAUSE = 1.0  # seconds after a crash; doubled while crashes follow each other
LONGEST_PAUSE = 30.0
STUCK = 5.0  # seconds that a job may go on after it was cancelled, or after its time, before its worker is ended


def devices() -> list[str]:
    """What workers run on: every GPU, or else the CPU once."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


class Supervised:
    """One worker process, started again when it dies."""

    def __init__(self, queue: Queue, folder: Path, device: str, number: int):
        self.queue, self.folder, self.device = queue, folder, device
        self.name = f"{socket.gethostname()}:{folder.resolve()}:{number}:{device}"[-64:]
        self.pause, self.wake = RESTART_PAUSE, 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start, restart, or leave alone."""
        if self.process is None:
            if time.monotonic() >= self.wake:
                self.start()
        elif (code := self.process.poll()) is not None:
            self.queue.worker_died(self.name, f"the worker died ({describe_exit(code)})")
            self.process, self.wake = None, time.monotonic() + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def start(self) -> None:
        command = [sys.executable, "-m", "kinema.serve.worker", str(self.folder), self.name]
        options = ["--device", self.device, "--parent", str(os.getpid())]
        env = os.environ | {"PYTHONUNBUFFERED": "1", URL_VARIABLE: self.queue.url}  # the URL may hold a password: not for `ps` to show
        self.process = subprocess.Popen([*command, *options], env=env)

    def stop(self) -> None:
        """End the worker; what it was doing goes back into the queue."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.queue.worker_died(self.name, "the service stopped", crashed=False)

    def end_stuck(self) -> None:
        """A job that goes on after it was cancelled, or after its time, loses its worker: some steps of large models take minutes."""
        if self.process is None:
            return
        for job in self.queue.running(self.name):
            late = time.time() - (job.started or 0) > job.limit_s + STUCK
            if late:
                self.queue.fail(job, over_time(job))
            if late or (job.cancel is not None and time.time() - job.cancel > STUCK):
                self.process.kill()


class Supervisor(threading.Thread):
    """All workers of this machine."""

    def __init__(self, queue: Queue, folder: Path, names: list[str]):
        super().__init__(daemon=True, name="supervisor")
        self.workers = [Supervised(queue, folder, device, number) for number, device in enumerate(names)]
        self.over = threading.Event()

    def run(self) -> None:
        for worker in self.workers:
            worker.queue.worker_died(worker.name, "the service stopped", crashed=False)  # left over from before
        while not self.over.wait(LOOK_EVERY):
            for worker in self.workers:
                worker.look()
                worker.end_stuck()

    def stop(self) -> None:
        self.over.set()
        self.join()
        for worker in self.workers:
            worker.stop()


def describe_exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
