"""What may be asked of an avatar: a picture, a sound, and how its face acts. It lies in the queue like any other request."""

from collections.abc import Container
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from kinema.conditioning.avatar import AvatarConfig, read_avatar_config
from kinema.conditioning.expression import prompt_for
from kinema.conditioning.whisper import PACKED
from kinema.errors import InputError, MissingExtraError, WeightsError
from kinema.media.face import DETECTOR
from kinema.media.packaged import located
from kinema.pipelines.avatar import SHIPPED, Acting, windows_of
from kinema.pipelines.base import ModelConfig
from kinema.serve.fitting import Work, work_on
from kinema.shapes import PixelShape

MODEL = "mini"  # which the shipped avatar was trained with
USUAL = Acting()


@dataclass(frozen=True, kw_only=True)
class Speech:
    """A face that speaks; nothing is left to choose. Raises InputError where a value breaks a rule."""

    model: str
    prompt: str
    seed: int
    frames: int  # about: how long the sound lasts shows when a worker hears it
    height: int
    width: int
    fps: int
    steps: int
    guidance: float
    begin: float
    image: str  # SHA-256 of an upload, as the next two
    audio: str
    drive: str | None = None
    expression: str | None = None
    face: int | None = None  # counted from the left from 1; None: the largest

    def __post_init__(self):
        if self.expression and self.drive:
            raise InputError(f"expression={self.expression!r} and a driving video both say what the face shows: leave one out")
        _ = self.acting  # which refuses the rest

    @property
    def acting(self) -> Acting:
        """Its driving video apart, which is not decoded here."""
        chosen = {name: getattr(self, name) for name in ("seed", "steps", "guidance", "begin", "expression", "prompt")}
        return Acting(**chosen)

    def facts(self) -> dict[str, Any]:
        """As it lies in the queue."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def work(self, config: ModelConfig) -> Work:
        """Floating-point operations."""
        count, window = windows_of(self.frames, USUAL.window), PixelShape(USUAL.window, self.height, self.width)
        one = work_on(config, f"{config.name} avatar", self.steps * (2 if self.guidance > 1 else 1), window)
        return Work(one.name, count * one.denoise, count * one.decode)


def speech(seconds: float, chosen: dict[str, Any]) -> Speech:
    """With nothing left to choose. seconds: of the sound; chosen: fields of Speech, None where the default is meant."""
    made, named = shape(), {name: value for name, value in chosen.items() if value is not None}
    usual: dict[str, Any] = {"steps": USUAL.steps, "guidance": USUAL.guidance, "begin": USUAL.begin, "model": MODEL}
    usual["prompt"] = prompt_for(named.get("expression", "neutral"))
    size = {"height": made.side, "width": made.side, "fps": made.fps, "frames": max(round(seconds * made.fps), 1)}
    return Speech(**usual | named | size)


def is_speech(request: dict[str, Any]) -> bool:
    """Whether a queued request is an avatar's."""
    return "audio" in request


@cache
def shape() -> AvatarConfig:
    """What the shipped avatar makes."""
    return read_avatar_config(SHIPPED)


def check_served(models: Container[str], model: str = MODEL) -> None:
    """Raises InputError where no avatar can be made here, or not by this model."""
    if MODEL not in models or model != MODEL:
        raise InputError(f"model={model!r} has no avatar here: {f'use {MODEL}' if MODEL in models else f'{MODEL} has, and is not served'}")
    try:
        for packed in (DETECTOR, PACKED):
            located(packed)
        if find_spec("ai_edge_litert") is None:
            raise MissingExtraError("ai-edge-litert", "avatar")
    except (MissingExtraError, WeightsError) as error:
        raise InputError(f"avatars cannot be made here: {error}") from error


def served(models: Container[str]) -> bool:
    """Whether avatars can be made here."""
    try:
        check_served(models)
    except InputError:
        return False
    return True
