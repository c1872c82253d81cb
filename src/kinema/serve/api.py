"""The HTTP API: OpenAI's video endpoints, and a few of our own beside them, described at /docs.

POST /v1/videos                queue a video          GET    /v1/videos/{id}          how it stands
GET  /v1/videos                all of one's own       GET    /v1/videos/{id}/content  the file
GET  /v1/models                what can be asked for  DELETE /v1/videos/{id}          forget it, file and all
POST /v1/videos/{id}/cancel    stop it                GET    /v1/videos/{id}/events   progress as server-sent events
GET  /v1/videos/{id}/preview   what it looks like so far
POST /v1/files                 give a picture, video or sound; GET, DELETE /v1/files/{id}: what it is; forget it
GET  /healthz, /metrics        for monitors
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from kinema.conditioning.expression import NAMES
from kinema.errors import InputError, MissingExtraError
from kinema.serve import speeches
from kinema.serve.guard import COOKIE
from kinema.serve.jobs import Job, Queue, QueueFullError
from kinema.serve.orders import FILES, PREVIEW, Service, VideoRequest
from kinema.serve.uploads import Upload

try:
    from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Response
    from fastapi import Request as HttpRequest
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse
    from fastapi.security import HTTPBearer
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from pydantic import ValidationError
    from sse_starlette import EventSourceResponse
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException as AnyHTTPException
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

STATUS = {"queued": "queued", "running": "in_progress", "done": "completed", "failed": "failed", "cancelled": "failed"}
TYPES = {".mp4": "video/mp4", ".png": "image/png", ".webp": "image/webp"}
EVENT_EVERY = 0.25  # seconds between looks at a job for its events
MOST_FIELDS = 32  # of a form
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}
            }
        },
    }
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": VideoRequest.model_json_schema()} for kind in ("application/json", "multipart/form-data")},
    }
}


def add_api(app: FastAPI, service: Service) -> None:
    """The API's routes, and errors in OpenAI's form."""
    app.include_router(router_of(service))
    app.add_exception_handler(InputError, lambda _, error: problem(400, str(error)))
    app.add_exception_handler(QueueFullError, lambda _, error: problem(429, str(error), {"Retry-After": "30"}))
    app.add_exception_handler(RequestValidationError, lambda _, error: problem(400, told(error.errors())))  # type: ignore[attr-defined]
    app.add_exception_handler(AnyHTTPException, lambda _, error: problem(error.status_code, error.detail, error.headers))  # type: ignore[attr-defined]


def problem(status: int, message: str, headers: Any = None) -> JSONResponse:
    """An error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    plain = message.encode("utf-8", "backslashreplace").decode()  # half a character cannot be sent
    return JSONResponse({"error": {"message": plain, "type": kind, "param": None, "code": None}}, status, headers)


def told(errors: Any) -> str:
    """What pydantic found, without what was sent."""
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'request'}: {each['msg']}" for each in errors)


async def read_order(http: HttpRequest, service: Service, user: str) -> VideoRequest:
    """The body as JSON, or as a form, which is what OpenAI's client sends. Raises InputError for anything else."""
    if http.headers.get("content-type", "").partition(";")[0].strip() in FORMS:
        async with http.form(max_files=len(FILES), max_fields=MOST_FIELDS) as form:
            given: Any = {name.removesuffix("[file_id]"): await asyncio.to_thread(keep, service, user, name, form[name]) for name in form}
    else:
        try:
            given = json.loads(await http.body())
        except (ValueError, RecursionError) as error:
            raise InputError("the body is neither JSON nor a form") from error
    try:
        return VideoRequest.model_validate(given)
    except ValidationError as error:
        raise InputError(told(error.errors())) from error


def keep(service: Service, user: str, name: str, value: UploadFile | str) -> str:
    """A field of a form; a file becomes the id of its upload. Raises InputError for a file where none belongs."""
    if isinstance(value, str):
        return value
    if name not in FILES:
        raise InputError(f"{name} takes no file: {', '.join(FILES)} do")
    return service.uploads.add(user, value.file).id


def router_of(service: Service) -> APIRouter:
    queue, routes = service.queue, APIRouter()

    def user_of(
        http: HttpRequest, _: Annotated[Any, Depends(HTTPBearer(auto_error=False, description="kinema serve key add NAME"))]
    ) -> str:
        user = user_at(service, http)
        if user is None:
            raise HTTPException(401, "a valid API key is needed: Authorization: Bearer kn-...", {"WWW-Authenticate": "Bearer"})
        return user

    User = Annotated[str, Depends(user_of)]

    def own(name: str, user: User) -> Job:
        job = queue.get(name)
        if job is None or (service.keys is not None and job.user != user):
            raise HTTPException(404, "there is no such video")
        return job

    Own = Annotated[Job, Depends(own)]

    @routes.post("/v1/videos", openapi_extra=BODY)
    async def create(
        http: HttpRequest, user: User, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
    ) -> dict[str, Any]:
        wanted = await read_order(http, service, user)
        return describe(queue, await asyncio.to_thread(service.submit, user, wanted, idempotency_key))

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
        return send(job.place(service.folder) / (job.file if variant == "video" else PREVIEW))

    @routes.get("/v1/videos/{name}/preview", response_class=FileResponse)
    def preview(job: Own) -> FileResponse:
        return send(service.shown(job), {"Cache-Control": "no-store"})

    @routes.post("/v1/videos/{name}/cancel")
    def cancel(job: Own) -> dict[str, Any]:
        return describe(queue, queue.cancel(job.id) or job)

    @routes.delete("/v1/videos/{name}")
    def delete(job: Own) -> dict[str, Any]:
        queue.cancel(job.id)
        if not queue.delete(job.id):
            raise HTTPException(409, f"video {job.id!r} is being stopped: delete it again in a moment")
        shutil.rmtree(job.place(service.folder).parent, ignore_errors=True)
        return {"id": job.id, "object": "video.deleted", "deleted": True}

    @routes.get("/v1/videos/{name}/events", response_class=EventSourceResponse)
    async def events(job: Own) -> EventSourceResponse:
        return EventSourceResponse(follow(service, job.id))

    @routes.post("/v1/files", openapi_extra=FILE_BODY)
    async def give(http: HttpRequest, user: User) -> dict[str, Any]:
        service.admit(user)
        async with http.form(max_files=1, max_fields=MOST_FIELDS) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InputError("a form with a file named `file` is needed")
            return describe_upload(await asyncio.to_thread(service.uploads.add, user, file.file))

    def own_upload(name: str, user: User) -> Upload:
        found = service.uploads.find(user, name)
        if found is None:
            raise HTTPException(404, "there is no such file")
        return found

    OwnUpload = Annotated[Upload, Depends(own_upload)]

    @routes.get("/v1/files/{name}")
    def given(upload: OwnUpload) -> dict[str, Any]:
        return describe_upload(upload)

    @routes.delete("/v1/files/{name}")
    def take_back(upload: OwnUpload) -> dict[str, Any]:
        service.uploads.delete(upload)
        return {"id": upload.id, "object": "file", "deleted": True}

    @routes.get("/v1/models")
    def models(user: User) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "kinema"} | offers(service, name) for name in service.models
            ],
        }

    @routes.get("/healthz")
    def healthy() -> dict[str, Any]:
        return {"status": "ok", "jobs": queue.counts()}

    @routes.get("/metrics")
    def metrics(_: User) -> Response:
        return Response(generate_latest(registry_of(queue)), media_type=CONTENT_TYPE_LATEST)

    return routes


def user_at(service: Service, http: Any) -> str | None:
    """Who is calling, by key (in a header; from the page in a cookie), or by address where no keys are asked for."""
    if service.keys is None:
        return f"at {http.client.host if http.client else 'unknown'}"
    given = http.headers.get("authorization", "").removeprefix("Bearer ").strip() or http.cookies.get(COOKIE, "")
    return service.keys.user(given)


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
        | {"request": request, "attempts": job.starts, "file": job.file, "priority": job.priority},
    }


def describe_upload(upload: Upload) -> dict[str, Any]:
    """An upload as OpenAI's file object."""
    about = upload.path.stat()
    return {
        "id": upload.id, "object": "file", "bytes": about.st_size, "created_at": int(about.st_mtime), "filename": upload.id,
        "purpose": "user_data", "status": "processed", "kinema": {"type": upload.type, "kind": upload.kind},
    }  # fmt: skip


async def follow(service: Service, name: str) -> AsyncIterator[dict[str, str]]:
    """Events of one job until it is over: `progress` when it moved, `preview` when there is a new one, then `done`."""
    told: dict[str, Any] = {}
    seen = 0
    while (job := await asyncio.to_thread(service.queue.get, name)) is not None:
        now = {"status": STATUS[job.status], "stage": job.stage, "progress": round(100 * job.progress)}
        if now != told:
            told = now
            yield {"event": "progress", "data": json.dumps(now)}
        changed = changed_at(service.shown(job))
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


def offers(service: Service, model: str) -> dict[str, Any]:
    """What a model makes by default, what else fits here, the adapters, and how its avatar may look."""
    fitting = service.models[model]
    made = fitting.config.defaults
    lengths = fitting.lengths(made.width, made.height)
    found = {"defaults": asdict(made), "sizes": fitting.sizes, "lengths": lengths, "loras": list(service.loras())}
    return found | ({"expressions": list(NAMES)} if model == speeches.MODEL and speeches.served(service.models) else {})


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
