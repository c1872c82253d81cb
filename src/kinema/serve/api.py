"""The HTTP API: OpenAI's video endpoints, and a few of our own beside them, described at /docs.

POST /v1/videos                queue a video          GET    /v1/videos/{id}          how it stands
GET  /v1/videos                all of one's own       GET    /v1/videos/{id}/content  the file
GET  /v1/models                what can be asked for  DELETE /v1/videos/{id}          forget it, file and all
POST /v1/videos/{id}/cancel    stop it                GET    /v1/videos/{id}/events   progress as server-sent events
GET  /v1/videos/{id}/preview   what it looks like so far
GET  /healthz, /metrics        for monitors
"""

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from kinema.errors import InputError, MissingExtraError
from kinema.pipelines.base import MAX_SEED, Request
from kinema.presets import MODELS
from kinema.serve.guard import Bucket, Guard, Keys
from kinema.serve.jobs import Job, Queue, QueueFullError

try:
    from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Response
    from fastapi import Request as HttpRequest
    from fastapi.responses import FileResponse, JSONResponse
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from pydantic import BaseModel, ConfigDict, Field
    from sse_starlette import EventSourceResponse
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

STATUS = {"queued": "queued", "running": "in_progress", "done": "completed", "failed": "failed", "cancelled": "failed"}
TYPES = {".mp4": "video/mp4", ".png": "image/png", ".webp": "image/webp"}
EVENT_EVERY = 0.25  # seconds between looks at a job for its events
PREVIEW = "preview.webp"
LARGEST_BODY = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the API works on."""

    queue: Queue
    folder: Path  # results: one folder a job
    models: tuple[str, ...]  # presets whose weights are here
    keys: Keys | None = None  # None: no key is asked for
    rate: Bucket = field(default_factory=lambda: Bucket(60, 1.0))  # new jobs a client


class VideoRequest(BaseModel):
    """A video to make. What is left out is the model's default. Fields beyond OpenAI's are marked Kinema."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=4000, description="what the video shows")
    model: str = Field("mini", max_length=64, description="see /v1/models")
    size: str | None = Field(None, pattern=r"^[0-9]{2,4}x[0-9]{2,4}$", description="width x height, such as 1280x720; multiples of 16")
    seconds: float | None = Field(None, gt=0, le=600, description="length; rounded to a number of frames that the VAE takes")
    frames: int | None = Field(None, ge=1, le=2401, description="Kinema: in place of seconds; 1 + a multiple of 4")
    fps: int | None = Field(None, ge=1, le=240, description="Kinema: frames a second")
    steps: int | None = Field(None, ge=1, le=200, description="Kinema: denoising steps")
    guidance: float | None = Field(None, ge=1, le=100, description="Kinema: how closely to follow the prompt")
    shift: float | None = Field(None, gt=0, le=100, description="Kinema: of the schedule, towards high noise")
    sampler: str | None = Field(None, max_length=32, description="Kinema: euler, heun ...")
    negative: str | None = Field(None, max_length=4000, description="Kinema: what to keep away from")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Kinema: the same seed gives the same video")


def create_api(service: Service) -> FastAPI:
    """The API as an application of its own; the page is mounted on it."""
    from kinema.version import __version__

    app = FastAPI(title="Kinema", version=__version__, description=__doc__)
    app.add_middleware(Guard, largest=LARGEST_BODY)
    app.include_router(router_of(service))
    app.add_exception_handler(InputError, lambda _, error: problem(400, str(error)))
    app.add_exception_handler(QueueFullError, lambda _, error: problem(429, str(error), {"Retry-After": "30"}))
    app.add_exception_handler(HTTPException, lambda _, error: problem(error.status_code, error.detail, error.headers))  # type: ignore[attr-defined]
    return app


def problem(status: int, message: str, headers: Any = None) -> JSONResponse:
    """An error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status, headers)


def router_of(service: Service) -> APIRouter:
    queue, routes = service.queue, APIRouter()

    def user_of(http: HttpRequest, authorization: Annotated[str | None, Header()] = None) -> str:
        if service.keys is None:
            return f"at {http.client.host if http.client else 'unknown'}"
        user = service.keys.user((authorization or "").removeprefix("Bearer ").strip())
        if user is None:
            raise HTTPException(401, "a valid API key is needed: Authorization: Bearer kn-...", {"WWW-Authenticate": "Bearer"})
        return user

    User = Annotated[str, Depends(user_of)]

    def own(name: str, user: User) -> Job:
        job = queue.get(name)
        if job is None or (service.keys is not None and job.user != user):
            raise HTTPException(404, f"no video {name!r}")
        return job

    Own = Annotated[Job, Depends(own)]

    @routes.post("/v1/videos")
    def create(body: VideoRequest, user: User, idempotency_key: Annotated[str | None, Header(max_length=255)] = None) -> dict[str, Any]:
        wait = service.rate.take(user)
        if wait:
            raise HTTPException(429, f"too many requests: try again in {wait:.0f} s", {"Retry-After": f"{wait + 1:.0f}"})
        known = idempotency_key and queue.by_key(user, idempotency_key)
        seed = known.request["seed"] if known else None
        return describe(queue, queue.submit(user, plain_request(service, body, seed), idempotency_key))

    @routes.get("/v1/videos")
    def every(
        user: User,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=64)] = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        jobs = queue.jobs(user, limit + 1, after, order == "desc")
        data = [describe(queue, job) for job in jobs[:limit]]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return {"object": "list", "data": data, "has_more": len(jobs) > limit, **ends}

    @routes.get("/v1/videos/{name}")
    def one(job: Own) -> dict[str, Any]:
        return describe(queue, job)

    @routes.get("/v1/videos/{name}/content", response_class=FileResponse)
    def content(job: Own, variant: Literal["video", "thumbnail"] = "video") -> FileResponse:
        if job.file is None:
            raise HTTPException(404, f"video {job.id!r} is {STATUS[job.status]}: there is no file yet")
        return send(service.folder / job.id / (job.file if variant == "video" else PREVIEW))

    @routes.get("/v1/videos/{name}/preview", response_class=FileResponse)
    def preview(job: Own) -> FileResponse:
        return send(service.folder / job.id / PREVIEW, {"Cache-Control": "no-store"})

    @routes.post("/v1/videos/{name}/cancel")
    def cancel(job: Own) -> dict[str, Any]:
        return describe(queue, queue.cancel(job.id) or job)

    @routes.delete("/v1/videos/{name}")
    def delete(job: Own) -> dict[str, Any]:
        queue.cancel(job.id)
        if not queue.delete(job.id):
            raise HTTPException(409, f"video {job.id!r} is being stopped: delete it again in a moment")
        shutil.rmtree(service.folder / job.id, ignore_errors=True)
        return {"id": job.id, "object": "video.deleted", "deleted": True}

    @routes.get("/v1/videos/{name}/events", response_class=EventSourceResponse)
    async def events(job: Own) -> EventSourceResponse:
        return EventSourceResponse(follow(service, job.id))

    @routes.get("/v1/models")
    def models(user: User) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "owned_by": "kinema"} | defaults(name) for name in service.models],
        }

    @routes.get("/healthz")
    def healthy() -> dict[str, Any]:
        return {"status": "ok", "jobs": queue.counts()}

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry_of(queue)), media_type=CONTENT_TYPE_LATEST)

    return routes


def plain_request(service: Service, body: VideoRequest, seed: int | None = None) -> dict[str, Any]:
    """The request with nothing left to choose, checked against the model's own rules. Raises InputError."""
    if body.model not in service.models:
        raise InputError(f"model={body.model!r} is not served here: use one of {', '.join(service.models)}")
    config = MODELS[body.model]()
    chosen = body.model_dump(exclude={"model", "size", "seconds", "prompt"})
    if body.size:
        chosen["width"], chosen["height"] = map(int, body.size.split("x"))
    if body.seconds and not body.frames:
        chosen["frames"] = 1 + 4 * max(0, round((body.seconds * (body.fps or config.defaults.fps) - 1) / 4))
    chosen["seed"] = next(given for given in (body.seed, seed, secrets.randbelow(2**31)) if given is not None)
    request: Request = config.request(body.prompt, **chosen)
    return {"model": body.model} | {name: value for name, value in asdict(request).items() if value is not None}


def describe(queue: Queue, job: Job) -> dict[str, Any]:
    """A job as OpenAI's video object, with our fields under `kinema`."""
    request = job.request
    error = None if job.status not in ("failed", "cancelled") else {"code": job.status, "message": job.error}
    return {
        "id": job.id,
        "object": "video",
        "model": request["model"],
        "status": STATUS[job.status],
        "progress": round(100 * job.progress),
        "created_at": int(job.created),
        "completed_at": None if job.finished is None else int(job.finished),
        "expires_at": None,
        "size": f"{request['width']}x{request['height']}",
        "seconds": f"{request['frames'] / request['fps']:g}",
        "prompt": request["prompt"],
        "remixed_from_video_id": None,
        "error": error,
        "kinema": {"status": job.status, "stage": job.stage, "waiting_before": queue.ahead(job) if job.status == "queued" else 0}
        | {"request": request, "attempts": job.starts, "file": job.file},
    }


async def follow(service: Service, name: str) -> AsyncIterator[dict[str, str]]:
    """Events of one job until it is over: `progress` when it moved, `preview` when there is a new one, then `done`."""
    told: dict[str, Any] = {}
    seen = 0
    while (job := await asyncio.to_thread(service.queue.get, name)) is not None:
        now = {"status": STATUS[job.status], "stage": job.stage, "progress": round(100 * job.progress)}
        if now != told:
            told = now
            yield {"event": "progress", "data": json.dumps(now)}
        changed = changed_at(service.folder / name / PREVIEW)
        if changed != seen:
            seen = changed
            yield {"event": "preview", "data": json.dumps({"url": f"/v1/videos/{name}/preview?at={changed}"})}
        if job.over:
            break
        await asyncio.sleep(EVENT_EVERY)
    yield {"event": "done", "data": json.dumps(await asyncio.to_thread(describe, service.queue, job) if job else {"deleted": True})}


def changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def send(path: Path, headers: dict[str, str] | None = None) -> FileResponse:
    if not path.is_file():
        raise HTTPException(404, "there is no such file yet")
    return FileResponse(path, media_type=TYPES[path.suffix], filename=path.name, content_disposition_type="inline", headers=headers)


def defaults(model: str) -> dict[str, Any]:
    return {"defaults": asdict(MODELS[model]().defaults)}


def registry_of(queue: Queue) -> CollectorRegistry:
    """The queue in numbers, for Prometheus."""
    registry = CollectorRegistry()

    class Jobs:
        def collect(self) -> Any:
            family = GaugeMetricFamily("kinema_jobs", "Jobs in each status", labels=["status"])
            counts = queue.counts()
            for status in ("queued", "running", "done", "failed", "cancelled"):
                family.add_metric([status], counts.get(status, 0))
            yield family

    registry.register(Jobs())  # type: ignore[arg-type]
    return registry
