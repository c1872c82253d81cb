"""Workers as actors of a Ray cluster: one started here, or the one whose address is given.

Only Ray's core is used: an actor is a worker that may sit on another machine. Deadlines, attempts and records stay the engine's, since
Ray by itself neither ends a call that hangs nor keeps the reason of a crash. All machines must see the same paths.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kinema.curation.engine import Answer, Worker, WorkerDied, perform
from kinema.curation.operator import Device, Item, Operator, Values
from kinema.curation.pool import ONE_THREAD
from kinema.errors import MissingExtraError


def serving(op: Operator, items: Sequence[Item], values: Sequence[Values]) -> Answer:
    import cv2

    cv2.setNumThreads(1)
    return perform(op, items, values)


class Desk:
    """What an actor runs."""

    def meet(self, op: Operator) -> None:
        """Done once the operator is imported."""

    def perform(self, op: Operator, items: Sequence[Item], values: Sequence[Values]) -> Answer:
        return serving(op, items, values)


@dataclass
class RayCrew:
    """Actors with one core each; one with a GPU for operators that want it."""

    workers: int
    address: str | None = None
    cuda_workers: int = 1

    def __post_init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray") from error
        self.ray = ray
        cluster: dict[str, Any] = {"address": self.address} if self.address else {"num_cpus": self.workers, "include_dashboard": False}
        ray.init(**cluster, runtime_env={"env_vars": ONE_THREAD}, log_to_driver=False, logging_level=logging.ERROR)

    def start(self, device: Device) -> "Actor":
        options = {"num_cpus": 1, "num_gpus": int(device == "cuda"), "max_restarts": 0, "max_task_retries": 0}
        return Actor(self.ray, self.ray.remote(Desk).options(**options).remote(), device)

    def size(self, device: Device) -> int:
        return self.workers if device == "cpu" else self.cuda_workers

    def wait(self, workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
        by_call = {worker.calls[0]: worker for worker in workers if isinstance(worker, Actor)}
        ready, _ = self.ray.wait(list(by_call), num_returns=1, timeout=seconds)
        return [by_call[call] for call in ready]

    def close(self) -> None:
        self.ray.shutdown()


class Actor:
    """A worker that Ray holds."""

    def __init__(self, ray: Any, actor: Any, device: Device):
        self.ray, self.actor, self.device, self.knows = ray, actor, device, set[type]()
        self.calls: list[Any] = []

    def send(self, op: Operator, items: Sequence[Item], values: Sequence[Values]) -> None:
        self.calls = [] if type(op) in self.knows else [self.actor.meet.remote(op)]
        self.calls.append(self.actor.perform.remote(op, list(items), list(values)))

    def receive(self) -> Answer | None:
        try:
            return self.ray.get(self.calls.pop(0))
        except self.ray.exceptions.RayError as error:
            raise WorkerDied(" ".join(str(error).split())[:600]) from error

    def kill(self) -> str:
        self.ray.kill(self.actor)
        return ""
