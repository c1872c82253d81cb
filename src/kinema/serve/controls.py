"""What stands on the page's left: the controls of one video, their values as a request, and a request as their values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kinema.conditioning.expression import NAMES
from kinema.errors import InputError, MissingExtraError
from kinema.flow.samplers import SAMPLERS
from kinema.serve.api import told
from kinema.serve.fitting import Fitting
from kinema.serve.orders import Service, VideoRequest
from kinema.serve.speeches import MODEL, USUAL, served
from kinema.serve.words import LANGUAGES, WORDS

try:
    import gradio as gr
    from pydantic import ValidationError
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

EXAMPLE = "A cat walks on the grass, realistic style."
FIELDS = (
    "prompt", "typed", "subject", "recalls", "model", "size", "frames", "steps", "seed", "guidance", "shift", "sampler", "fps", "negative",
    "lora", "lora_scale",
)  # fmt: skip
GIVEN = ("input_reference", "last_frame", "continue_from")
ACTED = ("prompt", "input_reference", "audio", "drive", "expression", "face", "steps", "seed", "guidance", "begin")
TIMED = ("model", "size", "frames", "steps", "guidance", "sampler", "audio", *GIVEN)  # what the expected time depends on
PICTURE: dict[str, Any] = {
    "type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"], "format": "png", "height": 200, "elem_classes": "k-given",
}  # fmt: skip
TRANSLATIONS = {language: {key: texts[i] for key, texts in WORDS.items()} for i, language in enumerate(LANGUAGES)}
I18N = gr.I18n(**TRANSLATIONS, **{"zh-CN": TRANSLATIONS["zh"]})  # Gradio knows Chinese by its script


@dataclass(frozen=True)
class Side:
    """A tab that makes videos: of text alone, of pictures and videos too, or of a picture and a voice."""

    name: Literal["text", "image", "avatar"]
    models: list[str]  # that it offers

    @property
    def gives(self) -> bool:
        """Whether pictures and videos are given here."""
        return self.name == "image"

    @property
    def speaks(self) -> bool:
        """Whether a picture and a voice are given here."""
        return self.name == "avatar"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the controls that make up a request."""
        if self.speaks:
            return ACTED
        return (*FIELDS, *GIVEN, "stability") if self.gives else FIELDS

    def id(self, part: str) -> str:
        """A name for styles, scripts and tests."""
        return part if self.name == "text" else f"{self.name}-{part}"


def sides(models: dict[str, Fitting]) -> list[Side]:
    """The tabs that these models can fill."""
    text = [name for name, fitting in models.items() if not fitting.config.needs_picture]
    image = [name for name, fitting in models.items() if fitting.config.needs_picture or "frames" in fitting.config.conditions]
    avatar = [MODEL] if served(models) else []
    return [side for side in (Side("text", text), Side("image", image), Side("avatar", avatar)) if side.models]


def lay_out(service: Service, side: Side) -> dict[str, Any]:
    """The controls in the order in which they are read."""
    return (lay_out_acting(side) if side.speaks else lay_out_film(service, side)) | lay_out_buttons(side)


def lay_out_buttons(side: Side) -> dict[str, Any]:
    """What every tab ends with."""
    t = I18N
    made: dict[str, Any] = {"time": gr.HTML(elem_id=side.id("time"))}
    with gr.Row():
        made["generate"] = gr.Button(t("generate"), variant="primary", elem_id=side.id("generate"), min_width=120)
        made["cancel"] = gr.Button(t("cancel"), variant="stop", interactive=False, elem_id=side.id("cancel"), min_width=120)
    made["file"] = gr.UploadButton(t("from_file"), file_types=[".mp4", ".png"], size="sm", elem_id=side.id("settings-file"))  # type: ignore[arg-type]
    return made


def lay_out_acting(side: Side) -> dict[str, Any]:
    """A face, a voice, and how the face acts."""
    t = I18N
    made: dict[str, Any] = {"input_reference": gr.Image(label=t("face_picture"), elem_id=side.id("face"), **PICTURE)}
    made["audio"] = gr.Audio(
        label=t("voice"),
        type="filepath",
        sources=["upload", "microphone"],
        buttons=["download"],
        elem_id=side.id("audio"),
        elem_classes="k-given",
        editable=False,
    )
    with gr.Row():
        moods: list[Any] = [(t("as_it_likes"), ""), *((t(name), name) for name in NAMES)]
        made["expression"] = gr.Dropdown(moods, value="", label=t("expression"), min_width=140)
        made["seed"] = lay_out_seed()
    with gr.Accordion(t("drive"), open=False) as made["fold"]:
        made["drive"] = gr.Video(label=t("drive"), sources=["upload"], height=200, elem_id=side.id("drive"), elem_classes="k-given")
    with gr.Accordion(t("more"), open=False):
        made["steps"] = gr.Slider(1, 50, value=USUAL.steps, step=1, label=t("steps"))
        made["guidance"] = gr.Slider(1, 5, value=USUAL.guidance, step=0.1, label=t("guidance"), info=t("voice_guidance_info"))
        made["begin"] = gr.Slider(0.05, 1, value=USUAL.begin, step=0.05, label=t("begin"), info=t("begin_info"))
        made["face"] = gr.Number(0, label=t("face"), info=t("face_info"), precision=0, minimum=0)
        made["prompt"] = gr.Textbox(label=t("prompt"), info=t("acted_prompt_info"), lines=2, max_length=4000)
    return made


def lay_out_seed() -> Any:
    return gr.Number(-1, label=I18N("seed"), info=I18N("seed_info"), precision=0, minimum=-1, min_width=110)


def lay_out_film(service: Service, side: Side) -> dict[str, Any]:
    """What makes a video of words, and perhaps pictures."""
    first, t = service.models[side.models[0]], I18N
    value = defaults(first, side)
    made: dict[str, Any] = lay_out_given(side) if side.gives else {}
    made |= lay_out_prompt(side)
    made["model"] = gr.Dropdown(side.models, value=side.models[0], label=t("model"), visible=len(side.models) > 1)
    with gr.Row():
        made["size"] = gr.Dropdown(
            sizes(first, side), value=value["size"], label=t("size"), info=t("size_info"), allow_custom_value=True, min_width=140
        )
        made["frames"] = gr.Dropdown(
            lengths(first), value=value["frames"], label=t("frames"), info=t("frames_info"), allow_custom_value=True, min_width=140
        )
    with gr.Row():
        made["steps"] = gr.Slider(1, 100, value=value["steps"], step=1, label=t("steps"), min_width=160)
        made["seed"] = lay_out_seed()
    with gr.Accordion(t("more"), open=False):
        made |= lay_out_more(list(service.loras()), value)
    return made


def lay_out_prompt(side: Side) -> dict[str, Any]:
    """The prompt, what its subject looks like, and what was typed where the prompt was rewritten."""
    t = I18N
    made: dict[str, Any] = {"prompt": gr.Textbox(EXAMPLE, label=t("prompt"), placeholder=t("prompt_hint"), lines=3, max_length=4000)}
    with gr.Row():
        for mode in ("normal", "master"):
            made[mode] = gr.Button(t(f"rewrite_{mode}"), size="sm", min_width=80, elem_id=side.id(f"rewrite-{mode}"))
    with gr.Accordion(t("subject"), open=False):
        made["subject"] = gr.Image(label=t("subject"), elem_id=side.id("subject"), min_width=140, **PICTURE)
        made["recalls"] = gr.Checkbox(True, label=t("recalls"), info=t("recalls_info"))
    made["typed"] = gr.Textbox(label=t("typed"), interactive=False, visible=False, elem_id=side.id("typed"))
    made["undo"] = gr.Button(t("undo"), size="sm", visible=False, elem_id=side.id("undo"))
    return made


def lay_out_given(side: Side) -> dict[str, Any]:
    """Pictures and a video; they are not opened before a worker does."""
    t = I18N
    made: dict[str, Any] = {}
    with gr.Row():
        for name in ("input_reference", "last_frame"):
            made[name] = gr.Image(label=t(name), elem_id=side.id(name.replace("_", "-")), min_width=140, **PICTURE)
    with gr.Accordion(t("continue_from"), open=False) as made["fold"]:
        made["continue_from"] = gr.Video(
            label=t("continue_from"), sources=["upload"], height=200, elem_id=side.id("continue-from"), elem_classes="k-given"
        )
    made["stability"] = gr.Checkbox(label=t("stability"), info=t("stability_info"))
    return made


def lay_out_more(loras: list[str], value: dict[str, Any]) -> dict[str, Any]:
    """What most people leave as it is."""
    t = I18N
    made: dict[str, Any] = {}
    made["guidance"] = gr.Slider(1, 20, value=value["guidance"], step=0.5, label=t("guidance"), info=t("guidance_info"))
    made["shift"] = gr.Slider(0, 20, value=value["shift"], step=0.1, label=t("shift"), info=t("shift_info"))
    made["sampler"] = gr.Dropdown(list(SAMPLERS), value=value["sampler"], label=t("sampler"))
    made["fps"] = gr.Slider(1, 60, value=value["fps"], step=1, label=t("fps"))
    made["negative"] = gr.Textbox(value["negative"], label=t("negative"), info=t("negative_info"), lines=2, max_length=4000)
    choices: list[Any] = [(t("none"), ""), *((name, name) for name in loras)]
    made["lora"] = gr.Dropdown(choices, value="", label=t("lora"), visible=bool(loras))
    made["lora_scale"] = gr.Slider(-2, 2, value=1, step=0.05, label=t("lora_scale"), visible=bool(loras))
    return made


def defaults(fitting: Fitting, side: Side) -> dict[str, Any]:
    """A model's defaults as values of the controls."""
    made = fitting.config.defaults
    return {
        "size": "" if side.gives else fitting.sizes[0], "frames": str(made.frames), "steps": made.steps, "guidance": made.guidance,
        "shift": made.shift or 0, "sampler": made.sampler, "fps": made.fps, "negative": made.negative,
    }  # fmt: skip


def of_model(fitting: Fitting, side: Side) -> dict[str, Any]:
    """The controls at another model's defaults."""
    fresh = defaults(fitting, side)
    offered = {"size": sizes(fitting, side), "frames": lengths(fitting)}
    return fresh | {name: gr.Dropdown(choices, value=fresh[name]) for name, choices in offered.items()}


def sizes(fitting: Fitting, side: Side) -> list[tuple[Any, str]]:
    """Sizes to offer; where a picture is given, first its own shape."""
    plain: list[tuple[Any, str]] = [(size, size) for size in fitting.sizes]
    return [(I18N("as_given"), ""), *plain] if side.gives else plain


def lengths(fitting: Fitting) -> list[tuple[str, str]]:
    """Numbers of frames with their seconds; as text, which is what the browser filters by."""
    made = fitting.config.defaults
    return [(f"{n} · {n / made.fps:.1f} s" if n > 1 else "1", str(n)) for n in fitting.lengths(made.width, made.height)]


def wanted(named: Mapping[str, Any]) -> VideoRequest:
    """Values of the controls as a request. Raises ValidationError."""
    given = dict(named)
    given["seed"] = None if given["seed"] in (None, -1) else given["seed"]
    given |= {name: given[name] or None for name in ("shift", "face") if name in given}
    return VideoRequest.model_validate({name: value for name, value in given.items() if value not in (None, "")})


def reason(error: InputError | ValidationError) -> str:
    return told(error.errors()) if isinstance(error, ValidationError) else str(error)
