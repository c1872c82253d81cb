"""The page of a study and its few requests. A rater is a link: whoever opens it again goes on where they stopped."""

import secrets
from pathlib import Path
from typing import Any

from kinema.errors import InputError, MissingExtraError
from kinema.evaluate.arena.design import items, next_task
from kinema.evaluate.arena.study import Study
from kinema.evaluate.arena.votes import PAIR_ANSWERS, SINGLE_ANSWERS, Task, Votes

try:
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
    from pydantic import BaseModel, Field
except ImportError as error:
    raise MissingExtraError("fastapi", "evaluate") from error

PAGE = Path(__file__).with_name("page.html")
HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Answers(BaseModel):
    """A rater's answers to one task."""

    task: int
    answers: dict[str, str] = Field(max_length=16)


def create_app(folder: Path) -> FastAPI:
    """The application that serves the study in `folder`."""
    study, votes = Study.open(folder), Votes(folder / "votes.sqlite")
    app = FastAPI(title=f"Kinema arena: {study.title}", docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def secure(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def begin() -> RedirectResponse:
        rater = secrets.token_urlsafe(9)
        votes.add_rater(rater, "")
        return RedirectResponse(f"/r/{rater}", 303)

    @app.get("/r/{rater}")
    def page(rater: str) -> HTMLResponse:
        known(votes, rater)
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    @app.get("/r/{rater}/next")
    def show(rater: str) -> dict[str, Any]:
        known(votes, rater)
        task = next_task(study, votes, rater)
        return describe(study, votes, rater, task)

    @app.post("/r/{rater}/answer")
    def answer(rater: str, body: Answers) -> dict[str, bool]:
        known(votes, rater)
        check_answers(study, body.answers)
        try:
            return {"recorded": votes.answer(body.task, rater, body.answers)}
        except InputError as error:
            raise HTTPException(404, str(error)) from error

    @app.get("/media/{name}")
    def media(name: str) -> FileResponse:
        if not any(name in files.values() for files in study.media):
            raise HTTPException(404, "no such video in this study")
        return FileResponse(folder / "media" / name, media_type="video/mp4")

    return app


def known(votes: Votes, rater: str) -> None:
    if not votes.knows(rater):
        raise HTTPException(404, "unknown rater: ask for a new link, or open the study's front page")


def check_answers(study: Study, answers: dict[str, str]) -> None:
    allowed = PAIR_ANSWERS if study.kind == "pair" else SINGLE_ANSWERS
    if answers.keys() != study.questions.keys() or not all(answer in allowed for answer in answers.values()):
        raise HTTPException(422, f"answers must give one of {', '.join(allowed)} for each of {', '.join(study.questions)}")


def describe(study: Study, votes: Votes, rater: str, task: Task | None) -> dict[str, Any]:
    """A task without the models' names, for the page."""
    done = sum(each.rater == rater for each in votes.tasks()) - (task is not None)
    common = {"title": study.title, "done": done, "all": len(items(study)), "questions": study.questions, "kind": study.kind}
    if task is None:
        return common | {"finished": True}
    files = study.media[task.prompt]
    videos = [f"/media/{files[model]}" for model in (task.left, task.right) if model]
    return common | {"finished": False, "task": task.id, "prompt": study.prompts[task.prompt], "videos": videos}


def invite(folder: Path, names: list[str]) -> dict[str, str]:
    """A rater for each name; returns name -> the path of their link."""
    Study.open(folder)
    votes, links = Votes(folder / "votes.sqlite"), {}
    for name in names:
        rater = secrets.token_urlsafe(9)
        votes.add_rater(rater, name)
        links[name] = f"/r/{rater}"
    return links


def serve(folder: Path, host: str, port: int) -> None:
    """Serve the study until interrupted."""
    import uvicorn

    uvicorn.run(create_app(folder), host=host, port=port, log_level="warning")
