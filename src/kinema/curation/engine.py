"""Every item through its chain of operators, by workers that may crash, hang or run out of memory without stopping anything.

A worker runs one operator on one item at a time and keeps the item until its chain ends. A crash or a missed deadline is an attempt;
after `attempts` of them the failure is the operator's last word on that item, and all else goes on. What was at work when a whole run
died is tried last, so that it cannot keep the others from being done.
"""

import resource
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from kinema.curation.job import Job, length, step_of
from kinema.curation.ledger import Failure, Ledger
from kinema.curation.operator import Device, Item, ItemError, Operator, Rows, Values

MINUTE = 60.0
KIBIBYTES = 1024  # in a mebibyte: Linux counts memory so
START_S = 300.0  # a worker's start, and the import of an operator that is new to it, do not count against the operator's deadline
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Answer:
    """What a worker says: rows or a failure for each item, how long it took in all, and how much memory its process has ever held."""

    outcomes: list[Rows | Failure]
    seconds: float
    peak_mb: float = 0.0


class WorkerDied(Exception):  # noqa: N818  # an event, not an error of ours
    """The worker's process is gone; the text says how."""


@runtime_checkable
class Worker(Protocol):
    """One process or actor; one call at a time."""

    device: Device
    knows: set[type]  # operators it has run before

    def send(self, op: Operator, items: Sequence[Item], values: Sequence[Values]) -> None: ...
    def receive(self) -> Answer | None: ...  # None: the operator is new to it, is imported, and begins now. Raises WorkerDied
    def kill(self) -> str: ...  # what it last said on standard error


@runtime_checkable
class Crew(Protocol):
    """Where workers come from."""

    def start(self, device: Device) -> Worker: ...
    def wait(self, workers: Sequence[Worker], seconds: float) -> Sequence[Worker]: ...  # those that answered or died
    def size(self, device: Device) -> int: ...
    def close(self) -> None: ...


def perform(op: Operator, items: Sequence[Item], values: Sequence[Values]) -> Answer:
    """Run an operator, in a worker; whatever it raises becomes a failure of the item, or of each in a batch."""
    began = time.perf_counter()
    outcomes: list[Rows | Failure]
    try:
        batched: Any = op
        rows = batched.run_batch(items, values) if op.batch > 1 else [op.run(items[0], values[0])]
        outcomes = [list(each) for each in rows]
        assert len(outcomes) == len(items), f"{op.name} gave {len(outcomes)} answers for {len(items)} items"
    except Exception as error:
        outcomes = [failure_of(error)] * len(items)
    return Answer(outcomes, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIBIBYTES)


def failure_of(error: Exception) -> Failure:
    if isinstance(error, ItemError):
        return Failure(error.reason, error.detail)
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Failure("out_of_memory" if isinstance(error, MemoryError) else "operator_error", text)


@runtime_checkable
class Plan(Protocol):
    """What a job's results mean."""

    def place(self, job: Job) -> None: ...  # after each step: may change job.item
    def children(self, job: Job) -> Iterator[Job]: ...  # of a job at its end


class Engine:
    """Runs jobs and those that come out of them until none is left."""

    def __init__(self, plan: Plan, ledger: Ledger, crew: Crew, attempts: int, progress: Progress):
        self.plan, self.ledger, self.crew, self.attempts, self.progress = plan, ledger, crew, attempts, progress
        self.ready: dict[Device, deque[Job]] = {"cpu": deque(), "cuda": deque()}
        self.suspects: deque[Job] = deque()
        self.idle: dict[Device, list[Worker]] = {"cpu": [], "cuda": []}
        self.busy: dict[Worker, tuple[list[Job], float]] = {}  # with the deadline
        self.done = self.known = self.skipped = 0
        self.peak_mb = 0.0

    def run(self, sources: Iterable[Job], total: int) -> None:
        """sources: taken only as workers fall idle. total: how many there are, for the progress."""
        self.sources, self.known, before = iter(sources), total, 0
        try:
            while self.hand_out() or self.busy:
                soonest = min(deadline for _, deadline in self.busy.values()) - time.monotonic()
                for worker in self.crew.wait(list(self.busy), max(0.0, min(soonest, 1.0))):
                    self.collect(worker)
                self.cull()
                self.ledger.commit_if_due()
                if self.done != before:
                    self.progress("curate", self.done, self.known)
                    before = self.done
        finally:
            for worker in [*self.busy, *self.idle["cpu"], *self.idle["cuda"]]:
                worker.kill()
            self.ledger.note_run(self.done, self.skipped, self.peak_mb)

    def hand_out(self) -> bool:
        """Give work to whoever is idle; False where there is none to give."""
        given = False
        for device, idle in self.idle.items():
            while jobs := self.draw(device, bool(idle) or self.has_room(device)):
                self.give(idle.pop() if idle else self.crew.start(device), jobs)
                given = True
        return given

    def has_room(self, device: Device) -> bool:
        return sum(worker.device == device for worker in self.busy) + len(self.idle[device]) < self.crew.size(device)

    def draw(self, device: Device, wanted: bool) -> list[Job]:
        """The next job for this device; several where its operator takes a batch."""
        ready = self.ready[device]
        while wanted and not ready and (source := next(self.sources, None)):
            self.settle(source)
        if wanted and not ready and not self.busy and self.suspects:
            suspect = self.suspects.popleft()
            self.ready[step_of(suspect).op.device].append(suspect)
        if not wanted or not ready:
            return []
        jobs = [ready.pop()]
        op = step_of(jobs[0]).op
        while ready and len(jobs) < op.batch and not jobs[0].alone and not ready[-1].alone and step_of(ready[-1]).op == op:
            jobs.append(ready.pop())
        return jobs

    def settle(self, job: Job) -> None:
        """Follow a job as far as the ledger knows; queue what is left to do."""
        begun = job.at
        job.known = self.ledger.tasks(job.item.key)
        job.replay(self.plan.place)
        self.skipped += job.at - begun
        self.queue(job)

    def queue(self, job: Job) -> None:
        step = job.step()
        if step is None:
            self.finish(job)
        elif job.interrupted:
            self.suspects.append(job)
        else:
            self.ready[step.op.device].append(job)

    def finish(self, job: Job) -> None:
        self.done += 1
        for child in self.plan.children(job):
            self.known += 1
            self.settle(child)

    def give(self, worker: Worker, jobs: list[Job]) -> None:
        op, version = step_of(jobs[0]).op, step_of(jobs[0]).version
        for job in jobs:
            self.ledger.begin(job.item.key, op.name, version)
        self.busy[worker] = (jobs, time.monotonic() + (allowed(jobs) if type(op) in worker.knows else START_S))
        with suppress(OSError):  # it died while idle: `receive` will say so
            worker.send(op, [job.item for job in jobs], [job.values for job in jobs])

    def collect(self, worker: Worker) -> None:
        jobs, _ = self.busy.pop(worker)
        try:
            answer = worker.receive()
            if answer is None:
                worker.knows.add(type(step_of(jobs[0]).op))
                self.busy[worker] = (jobs, time.monotonic() + allowed(jobs))
                return
        except WorkerDied as death:
            worker.kill()
            self.blame(jobs, Failure("worker_crash", str(death)))
            return
        self.peak_mb = max(self.peak_mb, answer.peak_mb)
        for job, outcome in zip(jobs, answer.outcomes, strict=True):
            self.conclude(job, outcome, answer.seconds / len(jobs))
        self.keep_on(worker, jobs)

    def keep_on(self, worker: Worker, jobs: list[Job]) -> None:
        """Let the worker go on with its item, whose frames it holds; otherwise it is idle, and its jobs are queued."""
        step = jobs[0].step()
        if len(jobs) == 1 and step and step.op.device == worker.device and step.op.batch == 1 and not jobs[0].interrupted:
            self.give(worker, jobs)
            return
        self.idle[worker.device].append(worker)
        for job in jobs:
            self.queue(job)

    def conclude(self, job: Job, outcome: Rows | Failure, seconds: float) -> None:
        step = step_of(job)
        self.ledger.finish(job.item.key, step.op.name, step.version, outcome, seconds)
        job.take(outcome)
        self.plan.place(job)
        job.replay(self.plan.place)

    def cull(self) -> None:
        """Kill who is past the deadline."""
        now = time.monotonic()
        for worker, (jobs, deadline) in list(self.busy.items()):
            if now > deadline:
                del self.busy[worker]
                worker.kill()
                self.blame(jobs, Failure("timeout", f"{step_of(jobs[0]).op.name} was killed at its deadline"))

    def blame(self, jobs: list[Job], failure: Failure) -> None:
        """One of these killed its worker. In a batch nobody knows which: each is tried again alone."""
        for job in jobs:
            step = step_of(job)
            job.tries += len(jobs) == 1
            if job.tries >= self.attempts:
                self.conclude(job, failure, 0.0)
            elif len(jobs) == 1:
                self.ledger.retry(job.item.key, step.op.name, step.version, failure)
            job.alone = True
            self.queue(job)


def allowed(jobs: Sequence[Job]) -> float:
    """Seconds until the deadline."""
    return sum(step_of(job).op.deadline_s * max(1.0, -(-length(job) // MINUTE)) for job in jobs)
