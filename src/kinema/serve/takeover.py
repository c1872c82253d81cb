"""Settings that go back onto the page: of a file that is dropped, of a video that was made, or for a video that goes on from one."""

import shutil
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from kinema.conditioning.expression import NAMES, prompt_for
from kinema.errors import MissingExtraError
from kinema.pipelines.recipe import facts_of
from kinema.serve.callers import language_at, own, user_of
from kinema.serve.controls import I18N
from kinema.serve.jobs import Job
from kinema.serve.orders import FILES, Service
from kinema.serve.recipes import frame_at, read_recipe
from kinema.serve.speeches import MODEL, is_speech
from kinema.serve.studio import LIVE, Studio, tab_of, unwritten, written
from kinema.serve.uploads import MARK
from kinema.serve.words import say

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error


BUTTONS = ("use", "go_on", "animate")
ENDINGS = {"audio/mpeg": ".mp3"}  # by which players know a file, where it is not the media type's own name


class Takeover:
    """Sets the controls of the tab that a request belongs to, and opens it."""

    def __init__(self, service: Service, tabs: gr.Tabs, studios: Sequence[Studio]):
        self.service, self.tabs, self.studios = service, tabs, studios
        self.lent = Path(mkdtemp(prefix="kinema-"))  # files on their way back to the page
        weakref.finalize(self, shutil.rmtree, self.lent, ignore_errors=True)  # at the latest when the process ends

    @property
    def targets(self) -> list[Any]:
        """The components that are set: the tab that is open, and the controls of all of them."""
        return [self.tabs, *(studio.controls[name] for studio in self.studios for name in names_of(studio))]

    def lay_out(self, job: Any, where: str) -> None:
        """Buttons for a finished job. where: the part of the page that shows its video."""
        gives = any(studio.side.gives for studio in self.studios)
        with gr.Row():
            use, go_on, animate = (gr.Button(I18N(name), size="sm", min_width=100, visible=name == "use" or gives) for name in BUTTONS)
        at = gr.Number(0, visible=False)
        use.click(self.use, job, self.targets, **LIVE)
        go_on.click(self.go_on, job, self.targets, **LIVE)
        second = f"(name, at) => [name, document.querySelector('{where} video')?.currentTime || 0]"
        animate.click(self.animate, [job, at], self.targets, js=second, **LIVE)

    def filled(self, tab: str, values: dict[str, Any]) -> list[Any]:
        """Values of `targets`. tab: the one that the request belongs to."""
        chosen = next((studio for studio in self.studios if studio.side.name == tab), self.studios[0])
        if values["model"] not in chosen.side.models:
            values = values | {"model": chosen.side.models[0]}
        found: list[Any] = [gr.Tabs(selected=chosen.side.name)]
        for studio in self.studios:
            found += [values.get(name, gr.skip()) if studio is chosen else gr.skip() for name in names_of(studio)]
        return found

    def nothing(self) -> list[Any]:
        return [gr.skip() for _ in self.targets]

    def use(self, name: str | None, request: gr.Request) -> list[Any]:
        """As it was for a job."""
        job = own(self.service, name, request)
        return self.nothing() if job is None else self.settings(job.request, request)

    def go_on(self, name: str | None, request: gr.Request) -> list[Any]:
        """For a video that continues a job's; of a picture, for one that begins with it."""
        job = own(self.service, name, request)
        if job is None or not str(job.file).endswith(".mp4"):
            return self.animate(name, 0.0, request)
        return self.begun(job, request, continue_from=self.lend(job.place(self.service.folder) / str(job.file), ".mp4"))

    def animate(self, name: str | None, at: float, request: gr.Request) -> list[Any]:
        """For a video that begins with what a job's video shows at a second."""
        job = own(self.service, name, request)
        if job is None or job.file is None:
            return self.nothing()
        return self.begun(job, request, input_reference=frame_at(job.place(self.service.folder) / job.file, at))

    def begun(self, job: Job, request: gr.Request, **files: Any) -> list[Any]:
        """As it was for a job, with other files and another seed."""
        fresh = dict.fromkeys(FILES) | {"seed": -1, "stability": False, "fold": gr.Accordion(open="continue_from" in files)}
        return self.filled("image", self.values(self.filmed(job.request), language_at(request)) | fresh | files)

    def filmed(self, plain: dict[str, Any]) -> dict[str, Any]:
        """A request for a video; of an avatar's, only its words and its size."""
        if not is_speech(plain):
            return plain
        config = self.service.fitting(plain["model"]).config
        size = {name: plain[name] for name in ("height", "width")}
        return {"model": config.name} | facts_of(config.request(plain["prompt"], seed=0, **size))

    def restore(self, file: str, request: gr.Request) -> list[Any]:
        """As a file's own metadata says."""
        language = language_at(request)
        recipe = read_recipe(Path(file))
        Path(file).unlink(missing_ok=True)
        if recipe is None:
            gr.Warning(say(language, "no_settings"))
            return self.nothing()
        gr.Info(say(language, "restored"))
        return self.settings(recipe, request)

    def settings(self, plain: dict[str, Any], request: gr.Request) -> list[Any]:
        """As a request says, with the files that were given where they are still here."""
        language, files = language_at(request), dict.fromkeys(FILES) | self.found(plain, request)
        fold = {"fold": gr.Accordion(open=bool(files["continue_from"] or files["drive"]))}
        values = self.acted(plain, language) if is_speech(plain) else self.values(plain, language)
        return self.filled(tab_of(plain), values | files | fold | {"stability": bool(plain.get("stability"))})

    def found(self, plain: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Files that a request names by what they hold, as values of their controls."""
        files: dict[str, Any] = {}
        for name, sha256 in named_files(plain):
            upload = self.service.uploads.find(user_of(self.service, request), MARK + str(sha256))
            if upload is None:
                gr.Warning(say(language_at(request), "lost_file"))
            else:
                files[name] = self.lend(upload.path, ENDINGS.get(upload.type) or f".{upload.type.partition('/')[2]}")
        return files

    def acted(self, request: dict[str, Any], language: str) -> dict[str, Any]:
        """An avatar's request as values of the controls; a prompt that follows from the expression is left out again."""
        self.told(request, language)
        expression = str(request.get("expression") or "")
        prompt = request.get("prompt") or ""
        usual = prompt == prompt_for(expression or "neutral")
        values = {name: request.get(name) for name in ("seed", "steps", "guidance", "begin")}
        known = expression if expression in NAMES else ""
        return values | {"model": MODEL, "expression": known, "prompt": "" if usual else prompt, "face": request.get("face") or 0}

    def told(self, request: dict[str, Any], language: str) -> bool:
        """Whether a request's model is here; where it is not, that is said."""
        known = request.get("model") in self.service.models
        if not known:
            gr.Warning(say(language, "other_model", model=str(request.get("model"))[:64]))
        return known

    def values(self, request: dict[str, Any], language: str) -> dict[str, Any]:
        """A request as values of the controls. What makes no sense here stays as it is."""
        lora, _, scale = (request.get("lora") or "").rpartition(":")
        known = self.told(request, language)
        words = written(request["typed"]) if request.get("typed") else unwritten()
        return request | {
            "typed": words[0],
            "undo": words[1],
            "size": f"{request.get('width')}x{request.get('height')}",
            "frames": str(request.get("frames")),
            "guidance": request.get("embedded_guidance") or request.get("guidance"),
            "lora": Path(lora).stem if Path(lora).stem in self.service.loras() else "",
            "lora_scale": float(scale or 1),
            "recalls": bool(request.get("recalls", True)),
            "model": request["model"] if known else next(iter(self.service.models)),
        }

    def lend(self, path: Path, ending: str) -> str:
        """A copy of a file of ours that the page may show."""
        place = self.lent / f"{path.parent.parent.name}-{path.stem}{ending}"
        shutil.copyfile(path, place)
        return str(place)


def names_of(studio: Studio) -> list[str]:
    """The controls of a tab that are set."""
    return [name for name in (*studio.side.fields, "undo", "fold") if name in studio.controls]


def named_files(plain: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The control that each of a request's files belongs to, and the file's SHA-256."""
    for each in plain.get("given") or []:
        yield (
            "continue_from" if each.get("kind") == "footage" else "input_reference" if each.get("at") == 0 else "last_frame",
            each.get("sha256"),
        )
    if plain.get("reference"):
        yield "subject", plain["reference"].get("sha256")
    for name, part in (("input_reference", "image"), ("audio", "audio"), ("drive", "drive")):
        if plain.get(part):
            yield name, plain[part]
