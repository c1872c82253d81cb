"""The API on Ray Serve: as many replicas as are asked for, on as many machines as Ray has, over one database.

Ray shares out the requests and starts again what dies; the queue, which all replicas share, does the rest. The page keeps its visitors'
state in one process, so it is served by a plain `kinema serve` beside this one, on the same folder and database.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from kinema.errors import InputError, MissingExtraError
from kinema.serve.app import LARGEST_BODY, open_queue
from kinema.serve.fitting import fittings
from kinema.serve.guard import Guard, Keys
from kinema.serve.jobs import Limits
from kinema.serve.orders import Service
from kinema.serve.supervisor import Supervisor

try:
    import ray
    from ray import serve as engine
    from ray.serve.config import HTTPOptions
except ImportError as error:
    raise MissingExtraError(str(error.name), "ray") from error

NAME = "kinema"
LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What every replica builds its service from: plain data, since an application cannot travel."""

    folder: Path  # which all machines see
    url: str  # of the queue
    limits: Limits
    models: tuple[str, ...]
    keys: Path | None

    def service(self) -> Service:
        keys = Keys(self.keys) if self.keys else None
        return Service(
            queue=open_queue(self.folder, self.url, self.limits), folder=self.folder, models=fittings(list(self.models)), keys=keys
        )

    def app(self) -> FastAPI:
        from kinema.serve.api import add_api

        app = FastAPI(title="Kinema")
        add_api(app, self.service())
        app.add_middleware(Guard, largest=LARGEST_BODY, local=False)
        return app


def serve(shared: Shared, host: str, port: int, replicas: int, workers: list[str]) -> None:
    """Run until SIGINT or SIGTERM. Raises InputError for no replicas."""
    if replicas < 1:
        raise InputError(f"replicas={replicas} must be 1 or more")
    start(shared, host, port, replicas)
    supervisor = Supervisor(open_queue(shared.folder, shared.url), shared.folder, workers)
    supervisor.start()
    try:
        while True:
            time.sleep(LOOK_EVERY)
    finally:
        supervisor.stop()
        engine.shutdown()
        ray.shutdown()


def start(shared: Shared, host: str, port: int, replicas: int) -> None:
    """Bring the replicas up; they answer when this returns."""
    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, configure_logging=False)
    engine.start(http_options=HTTPOptions(host=host, port=port))

    def build() -> FastAPI:  # a plain function: Ray calls it in every replica
        return shared.app()

    @engine.ingress(build)
    class Replica:
        pass

    deployment = engine.deployment(Replica, name=NAME, num_replicas=replicas, ray_actor_options={"num_cpus": 0})
    engine.run(deployment.bind(), name=NAME, route_prefix="/")  # type: ignore[attr-defined]
