"""Workers as processes of this machine, one a core: started from a clean server process, watched, killed and replaced.

A worker dies with its parent, may take only so much memory, and keeps what native libraries print to itself: the last lines of it become
part of the record when it crashes.
"""

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any

from kinema.curation.engine import Answer, Worker, WorkerDied, perform
from kinema.curation.operator import Device, Item, Operator, Values

MEBIBYTE = 2**20
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PR_SET_PDEATHSIG = 1
TAIL = 600  # characters of a dead worker's last words
FATAL = "Fatal Python error:"  # where faulthandler begins: the innermost call first
MODULES = "Extension modules:"  # faulthandler's list of them says nothing


@dataclass
class LocalCrew:
    """Processes of this machine."""

    workers: int
    memory_mb: int  # most that one may allocate; the files it maps do not count
    cuda_workers: int = 1

    def __post_init__(self) -> None:
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload([__name__])

    def start(self, device: Device) -> "Process":
        with environment(ONE_THREAD):  # inherited by the server process and, from it, by the workers
            return Process(self.context, device, self.memory_mb)

    def size(self, device: Device) -> int:
        return self.workers if device == "cpu" else self.cuda_workers

    def close(self) -> None:
        """Nothing is left: the engine has ended its workers, and the server process ends with us."""

    def wait(self, workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
        by_pipe = {worker.pipe: worker for worker in workers if isinstance(worker, Process)}
        return [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), seconds) if isinstance(pipe, connection.Connection)]


class Process:
    """A worker process and the pipe to it."""

    def __init__(self, context: Any, device: Device, memory_mb: int):
        self.device, self.knows = device, set[type]()
        self.log = tempfile.NamedTemporaryFile(prefix="kinema-worker-", suffix=".log")  # noqa: SIM115  # lives as long as the worker
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.log.name, memory_mb), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, op: Operator, items: Sequence[Item], values: Sequence[Values]) -> None:
        self.pipe.send((op, items, values))

    def receive(self) -> Answer | None:
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise WorkerDied(f"{how_it_ended(self.process.exitcode)}; {self.last_words()}") from error

    def kill(self) -> str:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        words = self.last_words()
        self.log.close()
        return words

    def last_words(self) -> str:
        with open(self.log.name, "rb") as log:
            text = log.read().decode(errors="replace").partition(MODULES)[0]
        before, fatal, after = text.partition(FATAL)
        words = " ".join(after.split())[:TAIL] if fatal else " ".join(before.split())[-TAIL:]
        return words or "nothing on standard error"


def how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit {code}"
    return signal.Signals(-code).name + (" (perhaps the system was out of memory)" if -code == signal.SIGKILL else "")


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def serve(pipe: Any, log: str, memory_mb: int) -> None:
    """A worker's life: one answer to each task, until the other end closes; before it, None where the operator is new to it."""
    settle_in(log, memory_mb)
    known: set[type] = set()
    while True:
        try:
            op, items, values = pipe.recv()
        except EOFError:
            return
        if type(op) not in known:
            known.add(type(op))
            pipe.send(None)
        os.ftruncate(sys.stderr.fileno(), 0)  # only the last task's words matter
        pipe.send(perform(op, items, values))


def settle_in(log: str, memory_mb: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * MEBIBYTE, memory_mb * MEBIBYTE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    words = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(words, 1)
    os.dup2(words, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    faulthandler.enable()
    import cv2

    cv2.setNumThreads(1)
