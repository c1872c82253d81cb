"""The web page. It talks to the queue, as the API does; what it shows of a job is in show.py, its words are in words.py.

A tab is a function that lays out its controls; image to video and avatars are further functions of the same kind beside text_to_video.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from kinema.errors import InputError, KinemaError, MissingExtraError
from kinema.flow.samplers import SAMPLERS
from kinema.media.video import read_metadata
from kinema.serve import show
from kinema.serve.api import told, user_at
from kinema.serve.fitting import Fitting
from kinema.serve.jobs import Job
from kinema.serve.orders import Service, VideoRequest
from kinema.serve.words import LANGUAGES, WORDS, duration, language_of, say

try:
    import gradio as gr
    from pydantic import ValidationError
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

HERE = Path(__file__).parent
LOOK_EVERY = 0.25  # seconds between looks at a running job
PREVIEW_EVERY = 1.5  # seconds that a preview stays, so that its animation can be seen
SHOWN = 24  # videos in the gallery
CACHE_KEPT = 3600  # seconds that uploaded files stay
SIGNATURES = {".mp4": (4, b"ftyp"), ".png": (0, b"\x89PNG\r\n\x1a\n")}  # what a file begins with, so that no other reader is tried on it
EXAMPLE = "A cat walks on the grass, realistic style."
FIELDS = ("prompt", "model", "size", "frames", "steps", "seed", "guidance", "shift", "sampler", "fps", "negative", "lora", "lora_scale")
TIMED = ("model", "size", "frames", "steps", "guidance", "sampler")  # what the expected time depends on
SELECT = """element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-id]");
  if (card) trigger("click", {id: card.dataset.id});
});"""

TRANSLATIONS = {language: {key: texts[i] for key, texts in WORDS.items()} for i, language in enumerate(LANGUAGES)}
I18N = gr.I18n(**TRANSLATIONS, **{"zh-CN": TRANSLATIONS["zh"]})  # Gradio knows Chinese by its script


def mount_page(app: Any, service: Service) -> None:
    """The page at / of a FastAPI application."""
    gr.mount_gradio_app(
        app, Page(service).build(), path="/", theme=theme(), css_paths=[HERE / "page.css"], i18n=I18N, ssr_mode=False, max_file_size="64mb",
        head=f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>", footer_links=["settings"], show_error=True,
    )  # fmt: skip


def theme() -> Any:
    """Quiet, with the system's own letters: nothing is fetched from elsewhere."""
    fonts = ("system-ui", "sans-serif")
    return gr.themes.Base(primary_hue="indigo", neutral_hue="zinc", font=fonts, font_mono=("ui-monospace", "monospace"), radius_size="lg")


def language_at(request: gr.Request) -> str:
    return language_of(request.headers.get("accept-language"))


class Page:
    """All tabs over one service."""

    def __init__(self, service: Service):
        self.service = service
        self.showing: dict[str | None, str] = {}  # browser tab -> the job that it shows

    def build(self) -> gr.Blocks:
        with gr.Blocks(title="Kinema", analytics_enabled=False, delete_cache=(CACHE_KEPT, CACHE_KEPT)) as page:
            gr.HTML('<div class="k-title"><b>Kinema</b></div>')
            with gr.Tabs() as tabs:
                with gr.Tab(I18N("text_to_video"), id="text"):
                    controls = self.text_to_video(page)
                with gr.Tab(I18N("gallery"), id="gallery") as tab:
                    self.gallery(tab, tabs, controls)
                with gr.Tab(I18N("models"), id="models"):
                    models = gr.HTML()
            page.load(self.models, None, models, queue=False, show_progress="hidden", api_visibility="private")
            page.unload(self.left)
        return page

    def text_to_video(self, page: gr.Blocks) -> dict[str, Any]:
        """The tab's layout and what its controls do."""
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                controls = lay_out(self.service)
            with gr.Column(scale=3, min_width=320):
                stage = gr.HTML(elem_id="stage")
                again = gr.Button(I18N("use"), visible=False, size="sm")
        job, values = gr.State(), [controls[name] for name in FIELDS]
        quiet: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        live: Any = {"show_progress": "hidden", "concurrency_limit": None, "trigger_mode": "multiple", "api_visibility": "private"}
        for begin in (controls["generate"].click, controls["prompt"].submit):
            begin(self.submit, values, job, **live).success(  # refusals are messages, which need Gradio's queue
                self.follow, job, [stage, controls["cancel"], again], **live
            )
        page.load(self.resume, None, job, **quiet).then(self.follow, job, [stage, controls["cancel"], again], **live)
        controls["cancel"].click(self.cancel, job, None, **quiet)
        again.click(self.use, job, values, **live)
        controls["file"].upload(self.restore, controls["file"], values, **live)  # messages need the queue
        controls["model"].input(self.choose_model, controls["model"], values, **quiet)
        gr.on(
            [page.load, *(controls[name].change for name in TIMED)],
            self.expected,
            values,
            controls["time"],
            **quiet,
            trigger_mode="always_last",
        )
        return controls

    def gallery(self, tab: Any, tabs: Any, controls: dict[str, Any]) -> None:
        """Past videos; one that is chosen is shown above the others."""
        quiet: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        chosen, shown = gr.State(), gr.HTML(elem_id="chosen")
        with gr.Row(visible=False) as buttons:
            use, delete = gr.Button(I18N("use"), size="sm"), gr.Button(I18N("delete"), size="sm", variant="stop")
        grid = gr.HTML(js_on_load=SELECT, elem_id="gallery")
        tab.select(self.past, None, grid, **quiet)
        grid.click(self.choose, None, [chosen, shown, buttons], **quiet)
        use.click(self.use, chosen, [controls[name] for name in FIELDS], **quiet).then(
            lambda: gr.Tabs(selected="text"), None, tabs, **quiet
        )
        delete.click(self.delete, chosen, [shown, buttons], **quiet).then(self.past, None, grid, **quiet)

    def user(self, request: gr.Request) -> str:
        user = user_at(self.service, request.request)
        if user is None:
            raise gr.Error("the key is no longer valid: reload the page", print_exception=False)
        return user

    def own(self, name: str | None, request: gr.Request) -> Job | None:
        """A job, if it is there and the caller's."""
        job = self.service.queue.get(name) if name else None
        return job if job and job.user == self.user(request) else None

    def submit(self, request: gr.Request, *values: Any) -> str:
        """Queue what the controls say; returns the job's id."""
        try:
            return self.service.submit(self.user(request), wanted(values)).id
        except (InputError, ValidationError) as error:
            raise gr.Error(reason(error), print_exception=False) from error

    def resume(self, request: gr.Request) -> str | None:
        """What this user waits for, after the page was loaded again."""
        waiting = self.service.queue.unfinished(self.user(request))
        return waiting[-1].id if waiting else None

    async def follow(self, name: str | None, request: gr.Request) -> AsyncIterator[tuple[Any, Any, Any]]:
        """How the job stands, until it is over or this browser tab shows another one."""
        language, before, seen, preview = language_at(request), "", 0.0, None
        if name is None:
            yield show.empty(language), gr.Button(interactive=False), gr.Button(visible=False)
            return
        self.showing[request.session_hash] = name
        while self.showing.get(request.session_hash) == name and (job := await asyncio.to_thread(self.own, name, request)):
            if time.monotonic() - seen > PREVIEW_EVERY:
                seen, preview = time.monotonic(), read(self.service.shown(job))
            html = await asyncio.to_thread(self.stage, job, language, preview)
            if html != before:
                before = html
                yield html, gr.Button(interactive=not job.over and job.cancel is None), gr.Button(visible=job.status == "done")
            if job.over:
                return
            await asyncio.sleep(LOOK_EVERY)

    def stage(self, job: Job, language: str, preview: bytes | None) -> str:
        fitting, plain = self.service.fitting(job.request["model"]), dict(job.request)
        request = fitting.config.request(
            **{name: value for name, value in plain.items() if name not in ("model", "lora", "given", "stability")}
        )
        before = self.service.queue.ahead(job) if job.status == "queued" else 0
        return show.stage(job, language, before, self.service.times.estimate(fitting.config, request).seconds, preview)

    def cancel(self, name: str | None, request: gr.Request) -> None:
        job = self.own(name, request)
        if job:
            self.service.queue.cancel(job.id)

    def expected(self, request: gr.Request, *values: Any) -> str:
        """How long it will take; or why it cannot be made."""
        language = language_at(request)
        try:
            asked = wanted(values).model_copy(update={"prompt": EXAMPLE})
            estimate = self.service.times.estimate(self.service.fitting(asked.model).config, self.service.request(asked, 0))
        except (InputError, ValidationError) as error:
            return show.note(reason(error))
        time_s = duration(language, estimate.seconds)
        return show.note(say(language, "about" if estimate.measured else "guess", time=time_s))

    def choose_model(self, model: str) -> list[Any]:
        """The controls at another model's defaults."""
        fitting = self.service.fitting(model)
        made = fitting.config.defaults
        fresh = defaults(fitting) | {
            "size": gr.Dropdown(fitting.sizes, value=fitting.sizes[0]),
            "frames": gr.Dropdown(lengths(fitting), value=str(made.frames)),
        }
        return [fresh.get(name, gr.skip()) for name in FIELDS]

    def use(self, name: str | None, request: gr.Request) -> list[Any]:
        """The controls as they were for a job."""
        job = self.own(name, request)
        return [gr.skip() for _ in FIELDS] if job is None else self.settings(job.request, language_at(request))

    def restore(self, file: str, request: gr.Request) -> list[Any]:
        """The controls as a file's own metadata has them."""
        language = language_at(request)
        recipe = read_recipe(Path(file))
        Path(file).unlink(missing_ok=True)
        if recipe is None:
            gr.Warning(say(language, "no_settings"))
            return [gr.skip() for _ in FIELDS]
        lora = {f"{Path(each['file']).name}:{each['scale']}" for each in recipe.get("loras", [])}
        gr.Info(say(language, "restored"))
        return self.settings({"model": recipe.get("model"), "lora": next(iter(lora), None)} | recipe["request"], language)

    def settings(self, request: dict[str, Any], language: str) -> list[Any]:
        """A request as values of the controls. What makes no sense here stays as it is."""
        lora, _, scale = (request.get("lora") or "").rpartition(":")
        known = request.get("model") in self.service.models
        if not known:
            gr.Warning(say(language, "other_model", model=str(request.get("model"))[:64]))
        values = request | {
            "size": f"{request.get('width')}x{request.get('height')}",
            "frames": str(request.get("frames")),
            "guidance": request.get("embedded_guidance") or request.get("guidance"),
            "lora": Path(lora).stem if Path(lora).stem in self.service.loras() else "",
            "lora_scale": float(scale or 1),
            "model": request["model"] if known else next(iter(self.service.models)),
        }
        return [values.get(name, gr.skip()) for name in FIELDS]

    def left(self, request: gr.Request) -> None:
        """A browser tab was closed."""
        self.showing.pop(request.session_hash, None)

    def past(self, request: gr.Request) -> str:
        return show.gallery(self.service.queue.finished(self.user(request), SHOWN), language_at(request))

    def choose(self, event: gr.EventData, request: gr.Request) -> tuple[Any, Any, Any]:
        job = self.own(str(event._data.get("id", "")), request)
        if job is None:
            return None, "", gr.Row(visible=False)
        return job.id, show.result(job, language_at(request)), gr.Row(visible=True)

    def delete(self, name: str | None, request: gr.Request) -> tuple[Any, Any]:
        job = self.own(name, request)
        if job and self.service.queue.delete(job.id):
            shutil.rmtree(job.place(self.service.folder).parent, ignore_errors=True)
        return "", gr.Row(visible=False)

    def models(self, request: gr.Request) -> str:
        return show.models(self.service.models, language_at(request))


def lay_out(service: Service) -> dict[str, Any]:
    """The controls of one video, in the order in which they are read."""
    names, loras = list(service.models), list(service.loras())
    first = service.models[names[0]]
    value, t = defaults(first), I18N
    made: dict[str, Any] = {
        "prompt": gr.Textbox(EXAMPLE, label=t("prompt"), placeholder=t("prompt_hint"), lines=3, max_length=4000, autofocus=True)
    }
    made["model"] = gr.Dropdown(names, value=names[0], label=t("model"), visible=len(names) > 1)
    with gr.Row():
        made["size"] = gr.Dropdown(
            first.sizes, value=value["size"], label=t("size"), info=t("size_info"), allow_custom_value=True, min_width=140
        )
        made["frames"] = gr.Dropdown(
            lengths(first), value=value["frames"], label=t("frames"), info=t("frames_info"), allow_custom_value=True, min_width=140
        )
    with gr.Row():
        made["steps"] = gr.Slider(1, 100, value=value["steps"], step=1, label=t("steps"), min_width=160)
        made["seed"] = gr.Number(-1, label=t("seed"), info=t("seed_info"), precision=0, minimum=-1, min_width=110)
    with gr.Accordion(t("more"), open=False):
        made["guidance"] = gr.Slider(1, 20, value=value["guidance"], step=0.5, label=t("guidance"), info=t("guidance_info"))
        made["shift"] = gr.Slider(0, 20, value=value["shift"], step=0.1, label=t("shift"), info=t("shift_info"))
        made["sampler"] = gr.Dropdown(list(SAMPLERS), value=value["sampler"], label=t("sampler"))
        made["fps"] = gr.Slider(1, 60, value=value["fps"], step=1, label=t("fps"))
        made["negative"] = gr.Textbox(value["negative"], label=t("negative"), info=t("negative_info"), lines=2, max_length=4000)
        choices: list[Any] = [(t("none"), ""), *((name, name) for name in loras)]
        made["lora"] = gr.Dropdown(choices, value="", label=t("lora"), visible=bool(loras))
        made["lora_scale"] = gr.Slider(-2, 2, value=1, step=0.05, label=t("lora_scale"), visible=bool(loras))
    made["time"] = gr.HTML(elem_id="time")
    with gr.Row():
        made["generate"] = gr.Button(t("generate"), variant="primary", elem_id="generate", min_width=120)
        made["cancel"] = gr.Button(t("cancel"), variant="stop", interactive=False, elem_id="cancel", min_width=120)
    made["file"] = gr.UploadButton(
        t("from_file"),  # type: ignore[arg-type]
        file_types=[".mp4", ".png"],
        size="sm",
        elem_id="settings-file",
    )
    return made


def defaults(fitting: Fitting) -> dict[str, Any]:
    """A model's defaults as values of the controls."""
    made = fitting.config.defaults
    return {
        "size": fitting.sizes[0], "frames": str(made.frames), "steps": made.steps, "guidance": made.guidance, "shift": made.shift or 0,
        "sampler": made.sampler, "fps": made.fps, "negative": made.negative,
    }  # fmt: skip


def lengths(fitting: Fitting) -> list[tuple[str, str]]:
    """Numbers of frames with their seconds; as text, which is what the browser filters by."""
    made = fitting.config.defaults
    return [(f"{n} · {n / made.fps:.1f} s" if n > 1 else "1", str(n)) for n in fitting.lengths(made.width, made.height)]


def wanted(values: Sequence[Any]) -> VideoRequest:
    """The controls as a request. Raises ValidationError."""
    given = dict(zip(FIELDS, values, strict=True))
    given["seed"] = None if given["seed"] in (None, -1) else given["seed"]
    given["shift"] = given["shift"] or None
    return VideoRequest.model_validate({name: value for name, value in given.items() if value not in (None, "")})


def reason(error: InputError | ValidationError) -> str:
    return told(error.errors()) if isinstance(error, ValidationError) else str(error)


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def read_recipe(path: Path) -> dict[str, Any] | None:
    """What made this file, if it is one of ours; None for whatever else it is."""
    start, mark = SIGNATURES.get(path.suffix.lower(), (0, b"\0"))
    with path.open("rb") as file:
        if not file.read(start + len(mark)).endswith(mark):
            return None
    try:
        recipe = read_metadata(path)
    except KinemaError:
        return None
    fits = recipe is not None and isinstance(recipe.get("request"), dict) and isinstance(recipe.get("model"), str)
    return recipe if fits else None
