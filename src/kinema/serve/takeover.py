"""Settings that go back onto the page: of a file that is dropped, of a video that was made, or for a video that goes on from one."""

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from kinema.errors import MissingExtraError
from kinema.serve.callers import language_at, own, user_of
from kinema.serve.controls import I18N
from kinema.serve.jobs import Job
from kinema.serve.orders import FILES, Service
from kinema.serve.recipes import frame_at, read_recipe
from kinema.serve.studio import LIVE, Studio, unwritten, written
from kinema.serve.uploads import MARK
from kinema.serve.words import say

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error


BUTTONS = ("use", "go_on", "animate")


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

    def filled(self, gives: bool, values: dict[str, Any]) -> list[Any]:
        """Values of `targets`. gives: the request belongs to the tab where files are given."""
        chosen = next((studio for studio in self.studios if studio.side.gives == gives), self.studios[0])
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
        return self.filled(True, self.values(job.request, language_at(request)) | fresh | files)

    def restore(self, file: str, request: gr.Request) -> list[Any]:
        """As a file's own metadata says."""
        language = language_at(request)
        recipe = read_recipe(Path(file))
        Path(file).unlink(missing_ok=True)
        if recipe is None:
            gr.Warning(say(language, "no_settings"))
            return self.nothing()
        lora = {f"{Path(each['file']).name}:{each['scale']}" for each in recipe.get("loras", [])}
        gr.Info(say(language, "restored"))
        return self.settings({"model": recipe.get("model"), "lora": next(iter(lora), None)} | recipe["request"], request)

    def settings(self, plain: dict[str, Any], request: gr.Request) -> list[Any]:
        """As a request says, with the files that were given where they are still here."""
        language, given = language_at(request), plain.get("given") or []
        files: dict[str, Any] = dict.fromkeys(FILES)
        for each in given:
            upload = self.service.uploads.find(user_of(self.service, request), MARK + str(each.get("sha256")))
            if upload is None:
                gr.Warning(say(language, "lost_file"))
            else:
                name = "continue_from" if upload.kind == "video" else "input_reference" if each.get("at") == 0 else "last_frame"
                files[name] = self.lend(upload.path, f".{upload.type.partition('/')[2]}")
        fold = {"fold": gr.Accordion(open=bool(files["continue_from"])), "stability": bool(plain.get("stability"))}
        return self.filled(bool(given), self.values(plain, language) | files | fold)

    def values(self, request: dict[str, Any], language: str) -> dict[str, Any]:
        """A request as values of the controls. What makes no sense here stays as it is."""
        lora, _, scale = (request.get("lora") or "").rpartition(":")
        known = request.get("model") in self.service.models
        if not known:
            gr.Warning(say(language, "other_model", model=str(request.get("model"))[:64]))
        words = written(request["typed"]) if request.get("typed") else unwritten()
        return request | {
            "typed": words[0],
            "undo": words[1],
            "size": f"{request.get('width')}x{request.get('height')}",
            "frames": str(request.get("frames")),
            "guidance": request.get("embedded_guidance") or request.get("guidance"),
            "lora": Path(lora).stem if Path(lora).stem in self.service.loras() else "",
            "lora_scale": float(scale or 1),
            "model": request["model"] if known else next(iter(self.service.models)),
        }

    def lend(self, path: Path, ending: str) -> str:
        """A copy of a file of ours that the page may show."""
        place = self.lent / f"{path.parent.parent.name}-{path.stem}{ending}"
        shutil.copyfile(path, place)
        return str(place)


def names_of(studio: Studio) -> list[str]:
    """The controls of a tab that are set."""
    return [*studio.side.fields, "undo", *(["fold"] if studio.side.gives else [])]
