"""A tab that makes videos: its controls on the left, its job on the right, and what the controls do."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.caption.rewrite import Mode, rewrite
from kinema.conditioning.frames import LAST
from kinema.config import build
from kinema.errors import InputError, MissingExtraError
from kinema.serve import show
from kinema.serve.callers import language_at, own, user_of
from kinema.serve.controls import EXAMPLE, I18N, TIMED, Side, lay_out, of_model, reason, wanted
from kinema.serve.fitting import Work, work_of
from kinema.serve.intake import seconds_of
from kinema.serve.jobs import Job
from kinema.serve.orders import FILES, Service, VideoRequest, given_as
from kinema.serve.speeches import MODEL, Speech, is_speech, speech
from kinema.serve.uploads import as_upload
from kinema.serve.words import duration, say

try:
    import gradio as gr
    from pydantic import ValidationError
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

if TYPE_CHECKING:
    from kinema.serve.takeover import Takeover

LOOK_EVERY = 0.25  # seconds between looks at a running job
PREVIEW_EVERY = 1.5  # seconds that a preview stays, so that its animation can be seen
NO_ESTIMATE = ("model", "lora", "given", "reference", "stability")  # fields of a queued request that the expected time does not depend on
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
LIVE: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "trigger_mode": "multiple", "api_visibility": "private"}
"""Events that may say something (a message, a refusal) are live: messages need Gradio's queue."""


class Studio:
    """One side, laid out where it is made."""

    def __init__(self, service: Service, side: Side):
        self.service, self.side = service, side
        self.showing: dict[str | None, str] = {}  # browser tab -> the job that it shows here
        with gr.Tab(I18N("avatar" if side.speaks else f"{side.name}_to_video"), id=side.name), gr.Row():
            with gr.Column(scale=2, min_width=320):
                self.controls = lay_out(service, side)
            with gr.Column(scale=3, min_width=320):
                self.stage = gr.HTML(elem_id=side.id("stage"))
                self.buttons = gr.Column(visible=False)
                self.job = gr.State()

    @property
    def values(self) -> list[Any]:
        return [self.controls[name] for name in self.side.fields]

    def connect(self, page: gr.Blocks, takeover: "Takeover") -> None:
        """What the controls do."""
        controls, job = self.controls, self.job
        with self.buttons:
            takeover.lay_out(job, f"#{self.side.id('stage')}")
        shown = [self.stage, controls["cancel"], self.buttons]
        for begin in (controls["generate"].click, controls["prompt"].submit):
            followed = begin(self.submit, self.values, job, **LIVE).success(self.follow, job, shown, **LIVE)
            followed.then(self.expected, self.values, controls["time"], **QUIET)  # it has been measured by now
        page.load(self.resume, None, job, **QUIET).then(self.follow, job, shown, **LIVE)
        page.unload(self.left)
        controls["cancel"].click(self.cancel, job, None, **QUIET)
        controls["file"].upload(takeover.restore, controls["file"], takeover.targets, **LIVE)
        timed = [controls[name].change for name in TIMED if name in controls]
        gr.on([page.load, *timed], self.expected, self.values, controls["time"], **QUIET, trigger_mode="always_last")
        if not self.side.speaks:
            controls["model"].input(self.choose_model, controls["model"], self.values, **QUIET)
            self.connect_rewriting(controls)

    def connect_rewriting(self, controls: dict[str, Any]) -> None:
        words = [controls[name] for name in ("prompt", "typed", "undo")]
        for name, rewriter in (("normal", rewrite_normal), ("master", rewrite_master)):
            controls[name].click(rewriter, words[:2], words, **LIVE)
        controls["undo"].click(lambda typed: (typed, *unwritten()), controls["typed"], words, **QUIET)

    def submit(self, request: gr.Request, *values: Any) -> str:
        """Queue what the controls say; returns the job's id."""
        user = user_of(self.service, request)
        try:
            return self.service.submit(user, self.asked(user, values)).id
        except (InputError, ValidationError) as error:
            raise gr.Error(reason(error), print_exception=False) from error

    def asked(self, user: str, values: tuple[Any, ...]) -> VideoRequest:
        """The controls as a request, their files as uploads."""
        named = dict(zip(self.side.fields, values, strict=True))
        for name in FILES:
            if named.get(name):
                with Path(named[name]).open("rb") as file:
                    named[name] = self.service.uploads.add(user, file).id
        return wanted(named)

    def resume(self, request: gr.Request) -> str | None:
        """What this user waits for, after the page was loaded again."""
        waiting = self.service.queue.unfinished(user_of(self.service, request))
        here = [job.id for job in waiting if tab_of(job.request) == self.side.name]
        return here[-1] if here else None

    async def follow(self, name: str | None, request: gr.Request) -> AsyncIterator[tuple[Any, Any, Any]]:
        """How the job stands, until it is over or this browser tab shows another one."""
        language, before, seen, preview = language_at(request), "", 0.0, None
        if name is None:
            yield show.empty(language), gr.Button(interactive=False), gr.Column(visible=False)
            return
        self.showing[request.session_hash] = name
        while self.showing.get(request.session_hash) == name and (job := await asyncio.to_thread(own, self.service, name, request)):
            if time.monotonic() - seen > PREVIEW_EVERY:
                seen, preview = time.monotonic(), read(self.service.shown(job))
            html = await asyncio.to_thread(self.shown, job, language, preview)
            if html != before:
                before = html
                yield html, gr.Button(interactive=not job.over and job.cancel is None), gr.Column(visible=job.status == "done")
            if job.over:
                return
            await asyncio.sleep(LOOK_EVERY)

    def shown(self, job: Job, language: str, preview: bytes | None) -> str:
        before = self.service.queue.ahead(job) if job.status == "queued" else 0
        return show.stage(job, language, before, self.service.times.estimate(self.work_of(job.request)).seconds, preview)

    def work_of(self, request: dict[str, Any]) -> Work:
        """Of a queued request."""
        config = self.service.fitting(request["model"]).config
        if is_speech(request):
            return build(Speech, request).work(config)
        return work_of(config, config.request(**{name: value for name, value in request.items() if name not in NO_ESTIMATE}))

    def cancel(self, name: str | None, request: gr.Request) -> None:
        job = own(self.service, name, request)
        if job:
            self.service.queue.cancel(job.id)

    def expected(self, request: gr.Request, *values: Any) -> str:
        """How long it will take; or why it cannot be made."""
        language, named = language_at(request), dict(zip(self.side.fields, values, strict=True))
        if self.side.speaks and not named["audio"]:
            return show.note(say(language, "give_voice"))
        try:
            estimate = self.service.times.estimate(work_named(self.service, self.side, named))
        except (InputError, ValidationError) as error:
            return show.note(reason(error))
        time_s = duration(language, estimate.seconds)
        return show.note(say(language, "about" if estimate.measured else "guess", time=time_s))

    def choose_model(self, model: str) -> list[Any]:
        """The controls at another model's defaults."""
        fresh = of_model(self.service.fitting(model), self.side)
        return [fresh.get(name, gr.skip()) for name in self.side.fields]

    def left(self, request: gr.Request) -> None:
        """A browser tab was closed."""
        self.showing.pop(request.session_hash, None)


def work_named(service: Service, side: Side, named: dict[str, Any]) -> Work:
    """What the controls of a side say, in operations; of the files that they name only the headers are read.

    Raises InputError or ValidationError for what cannot be made.
    """
    files = {name: as_upload(Path(named[name])) for name in FILES if named.get(name)}
    asked = wanted({name: value for name, value in named.items() if name not in FILES}).model_copy(update={"prompt": EXAMPLE})
    if side.speaks:
        chosen = asked.model_dump(include={"steps", "guidance", "begin", "expression"}) | dict.fromkeys(("image", "audio"), "")
        made = speech(seconds_of(files["audio"]), chosen | {"seed": 0, "drive": "given" if "drive" in files else None})
        return made.work(service.fitting(MODEL).config)
    given = tuple(given_as(upload, LAST if name == "last_frame" else 0) for name, upload in files.items() if name != "subject")
    return work_of(service.fitting(asked.model).config, service.request(asked, 0, given))


def tab_of(request: dict[str, Any]) -> str:
    """The side that a queued request belongs to."""
    if is_speech(request):
        return "avatar"
    return "image" if request.get("given") else "text"


def rewrite_normal(prompt: str, typed: str) -> tuple[Any, Any, Any]:
    return rewritten(typed or prompt, "normal")


def rewrite_master(prompt: str, typed: str) -> tuple[Any, Any, Any]:
    return rewritten(typed or prompt, "master")


def rewritten(typed: str, mode: Mode) -> tuple[Any, Any, Any]:
    """The prompt as the model was trained to read it, to be edited; what was typed stays below it."""
    try:
        made = rewrite(typed, mode)
    except InputError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return made.text, *written(typed)


def written(typed: str) -> tuple[Any, Any]:
    """`typed` and `undo`, where the prompt is a rewriting."""
    return gr.Textbox(typed, visible=True), gr.Button(visible=True)


def unwritten() -> tuple[Any, Any]:
    """The same, where the prompt is what was typed."""
    return gr.Textbox("", visible=False), gr.Button(visible=False)


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
