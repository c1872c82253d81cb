"""Captioners: frames in, structured captions out. One of our own that works offline, any vision-language model of transformers, or one
behind an endpoint.

The latter two are asked alike, and their answers are read alike (`schema.read_answer`): an answer that is no caption goes back with the
error, twice at most.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kinema.caption.endpoint import Endpoint, EndpointConfig, picture_part
from kinema.caption.health import caption_health
from kinema.caption.schema import FIELDS, JSON_SCHEMA, CaptionRow, Reading, read_answer
from kinema.errors import InputError, KinemaError, WeightsError

Frames = UInt8[np.ndarray, "_ _ _ 3"]  # T H W 3, of any size beside another clip's
Picture = UInt8[np.ndarray, "h w 3"]
SHOWN = 8  # frames of a clip that a captioner sees
SIDE = 512  # pixels of their longer side at most

INSTRUCTION = "\n".join(
    [
        "These pictures are frames of one video clip, in order. Describe the clip for training a video model.",
        "Say only what is seen. Where you are not sure of a field, leave it an empty text. Directions are the viewer's.",
        "Answer with one JSON object with these fields, each an English text:",
        *(f'"{name}": {what}' for name, what in FIELDS.items()),
    ]
)
AGAIN = "This is not yet right: {problem}. Answer again with the whole JSON object and nothing else."


@runtime_checkable
class Captioner(Protocol):
    """Frames of clips to readings, one each, in order. name: the source that rows carry."""

    name: str

    def caption(self, clips: Sequence[Frames]) -> list[Reading]: ...


def shown(frames: Frames) -> list[Picture]:
    """The frames that a captioner sees: evenly spread, shrunk."""
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int))]
    scale = min(1.0, SIDE / max(chosen.shape[1:3]))
    size = max(1, round(chosen.shape[2] * scale)), max(1, round(chosen.shape[1] * scale))
    return [np.asarray(Image.fromarray(frame).resize(size)) for frame in chosen]


class EndpointCaptioner:
    """A vision-language model behind an OpenAI-compatible address; clips are asked about side by side."""

    def __init__(self, config: EndpointConfig):
        self.endpoint, self.name = Endpoint(config), f"endpoint:{config.model}"

    def caption(self, clips: Sequence[Frames]) -> list[Reading]:
        """A clip whose question is not answered has the error as its reading; the others go on."""
        with ThreadPoolExecutor(self.endpoint.config.at_once) as pool:
            return list(pool.map(self.one, clips))

    def one(self, frames: Frames) -> Reading:
        parts = [picture_part(frame) for frame in shown(frames)]
        question: dict[str, Any] = {"role": "user", "content": [*parts, {"type": "text", "text": INSTRUCTION}]}

        def ask(answer: str, problem: str) -> str:
            turns = [question, {"role": "assistant", "content": answer}, {"role": "user", "content": AGAIN.format(problem=problem)}]
            return self.endpoint.chat(turns, JSON_SCHEMA)

        try:
            return read_answer(self.endpoint.chat([question], JSON_SCHEMA), ask)
        except KinemaError as error:
            return Reading(None, 0, str(error))


class TransformersCaptioner:
    """Any image-text-to-text model that transformers can load: a folder, or a name on the model hub."""

    def __init__(self, model: str | Path, device: str = "cpu", max_tokens: int = 512):
        self.model_name, self.device, self.max_tokens = str(model), device, max_tokens
        self.name = f"transformers:{Path(model).name}"

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """Processor and model. Raises WeightsError where they cannot be had."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(self.model_name)
            model = AutoModelForImageTextToText.from_pretrained(self.model_name, dtype="auto")
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{self.model_name} is no vision-language model that transformers can load: {reason}") from error
        return processor, model.to(self.device).eval()  # type: ignore[arg-type]

    def caption(self, clips: Sequence[Frames]) -> list[Reading]:
        return [self.one(frames) for frames in clips]

    def one(self, frames: Frames) -> Reading:
        pictures = shown(frames)
        question: list[dict[str, Any]] = [
            {"role": "user", "content": [*({"type": "image"} for _ in pictures), {"type": "text", "text": INSTRUCTION}]}
        ]

        def ask(answer: str, problem: str) -> str:
            turns = [("assistant", answer), ("user", AGAIN.format(problem=problem))]
            return self.answer(question + [{"role": who, "content": [{"type": "text", "text": said}]} for who, said in turns], pictures)

        return read_answer(self.answer(question, pictures), ask)

    def answer(self, messages: Sequence[dict[str, Any]], pictures: Sequence[Picture]) -> str:
        """Greedy: the same clip gives the same words."""
        import torch

        processor, model = self.parts
        prompt = processor.apply_chat_template(list(messages), add_generation_prompt=True)
        inputs = processor(text=prompt, images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt").to(self.device)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False)
        return processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]


Kind = Literal["offline", "camera", "transformers", "endpoint"]


@cache
def captioner(kind: Kind, model: str = "", url: str = "", device: str = "cpu") -> Captioner | None:
    """The captioner of a kind, kept for the process; None for "camera", where nothing but the movement is told.

    model: of transformers, a folder or name; of an endpoint, its name. Raises InputError where a kind lacks what it needs.
    """
    if kind in ("transformers", "endpoint") and not model:
        raise InputError(f"captioner={kind!r} needs a model: name one")
    if kind == "endpoint":
        return EndpointCaptioner(EndpointConfig(url=url, model=model))
    if kind == "transformers":
        return TransformersCaptioner(model, device)
    if kind == "camera":
        return None
    from kinema.caption.offline import OfflineCaptioner

    return OfflineCaptioner()


def described(key: str, frames: Frames, who: Captioner, camera: str) -> CaptionRow:
    """The captioner's row with its health. camera: the movement that was measured, or ""; it stands in place of the captioner's."""
    (reading,) = who.caption([frames])
    row = reading.row(key, who.name)
    if row.caption is None:
        return row
    caption = replace(row.caption, camera_movement=camera)
    return replace(row, caption=caption, flags=caption_health(caption))
