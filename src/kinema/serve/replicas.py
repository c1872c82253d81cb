"""The same application on Ray Serve: the API in as many replicas as are asked for, on as many machines as Ray has, over one database.

Ray shares out the requests and starts again what dies; the queue, which all replicas share, does the rest. The page keeps its visitors'
state in one process, so one more replica, which has all of the application, answers for whatever is not below /v1.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from kinema.errors import InputError, MissingExtraError
from kinema.serve.api import add_api
from kinema.serve.app import LARGEST_BODY, create_app, open_queue
from kinema.serve.fitting import fittings
from kinema.serve.guard import App, Guard, Keys, Receive, Scope, Send
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
AT_ONCE = 1000  # answers that a replica gives at the same time: events stream for as long as a video is made


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

    def api(self) -> FastAPI:
        """What is below /v1."""
        app = FastAPI(title="Kinema")
        add_api(app, self.service())
        app.add_middleware(Guard, largest=LARGEST_BODY, local=False)
        app.add_middleware(Rooted)
        return app

    def whole(self) -> FastAPI:
        """Page and API."""
        return create_app(self.service(), local=False)


class Rooted:
    """ASGI middleware: Ray takes the prefix that it routes by for the place where an application is mounted; ours knows its paths whole."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "root_path": ""}, receive, send)


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

    def api() -> FastAPI:  # plain functions: Ray calls them in every replica
        return shared.api()

    def whole() -> FastAPI:
        return shared.whole()

    deploy(api, "api", "/v1", replicas)
    deploy(whole, "page", "/", 1)


def deploy(build: Callable[[], FastAPI], name: str, prefix: str, replicas: int) -> None:
    """Bring up an application of Ray's: what `build` makes, in replicas, for all paths below a prefix."""

    @engine.ingress(build)
    class Replica:
        pass

    how: dict[str, Any] = {"num_replicas": replicas, "max_ongoing_requests": AT_ONCE, "ray_actor_options": {"num_cpus": 0}}
    engine.run(engine.deployment(Replica, name=name, **how).bind(), name=f"{NAME}-{name}", route_prefix=prefix)  # type: ignore[attr-defined]
