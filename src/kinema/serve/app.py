"""Page, API and guard as one ASGI application, and the process that runs it with its workers."""

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from kinema.errors import InputError, MissingExtraError
from kinema.serve.api import add_api, problem, user_at
from kinema.serve.fitting import work_of
from kinema.serve.guard import COOKIE, LOCAL, Guard
from kinema.serve.jobs import Limits, Queue
from kinema.serve.orders import Service
from kinema.serve.page import mount_page
from kinema.serve.supervisor import Supervisor
from kinema.version import __version__

try:
    import uvicorn
    from fastapi import FastAPI
    from fastapi import Request as HttpRequest
    from fastapi.responses import HTMLResponse, RedirectResponse, Response
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

LARGEST_BODY = 64 * 2**20
GOODBYE = 3  # seconds that open answers get when the service ends
WEEK = 7 * 24 * 3600
OPEN_PATHS = ("/v1/", "/healthz", "/metrics", "/login")  # the API asks for keys itself
ASK_FOR_KEY = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Kinema</title>
<style>:root{color-scheme:light dark}body{font:16px system-ui;display:grid;place-items:center;min-height:90vh}form{display:grid;gap:1em}
input,button{font:inherit;padding:.6em}</style><form method="post" action="/login"><label for="key">API key · API 키 · API 密钥</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus><button>Kinema</button></form></html>"""


def create_app(service: Service, local: bool = True) -> FastAPI:
    """The whole application. local: it answers only under this machine's own names."""
    from kinema.serve import api

    app = FastAPI(title="Kinema", version=__version__, description=api.__doc__)
    add_api(app, service)
    if service.keys is not None:
        add_login(app, service)
    mount_page(app, service)
    app.add_middleware(Guard, largest=LARGEST_BODY, local=local)
    return app


def add_login(app: FastAPI, service: Service) -> None:
    """The page, and all that belongs to it, opens with a key, which a cookie then carries."""

    @app.post("/login", include_in_schema=False)
    async def login(http: HttpRequest) -> Response:
        async with http.form(max_files=0, max_fields=1) as form:
            key = str(form.get("key", ""))
        if service.keys is None or service.keys.user(key) is None:
            return HTMLResponse(ASK_FOR_KEY, 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, key, max_age=WEEK, httponly=True, samesite="strict", secure=http.url.scheme == "https")
        return answer

    class Door:
        def __init__(self, inside):  # type: ignore[no-untyped-def]
            self.inside = inside

        async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
            shut = scope["type"] != "lifespan" and not scope["path"].startswith(OPEN_PATHS)
            if shut and user_at(service, HTTPConnection(scope)) is None:
                refusal = HTMLResponse(ASK_FOR_KEY, 401) if scope["path"] == "/" else problem(401, "a valid API key is needed")
                return await refusal(scope, receive, send)
            return await self.inside(scope, receive, send)

    app.add_middleware(Door)


def serve(service: Service, host: str, port: int, workers: list[str]) -> None:
    """Run until SIGINT or SIGTERM; then the web ends first, the workers next, and what they had in hand goes back into the queue."""
    listener = listen(host, port)
    app = create_app(service, host in LOCAL and service.keys is None)
    config = uvicorn.Config(app, host, port, log_level="warning", timeout_graceful_shutdown=GOODBYE, server_header=False)
    for fitting in service.models.values():  # reckoned once, so that no visitor waits for it
        service.times.estimate(work_of(fitting.config, fitting.config.request("A cat.", seed=0)))
    with alone(service.folder) if workers else nullcontext():
        supervisor = Supervisor(service.queue, service.folder, workers)
        supervisor.start()
        try:
            uvicorn.Server(config).run([listener])
        finally:
            supervisor.stop()


def listen(host: str, port: int) -> socket.socket:
    """Raises InputError where the address is not to be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"cannot listen on {host}, port={port} ({error.strerror or error}): choose another --host or --port") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other service of this machine runs workers on the folder meanwhile. Raises InputError where one does."""
    with (folder / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"folder={folder} is in use by another kinema serve: choose another --folder") from error
        yield


def open_queue(folder: Path, url: str | None, limits: Limits | None = None) -> Queue:
    """The queue behind a URL; by default a file in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Queue(url or f"sqlite:///{(folder / 'queue.sqlite').resolve()}", limits)
