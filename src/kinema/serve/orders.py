"""What may be asked for: the fields of a request, checked against the model's rules and this machine's, before it is queued."""

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from kinema.caption.rewrite import rewrite
from kinema.conditioning.frames import LAST, Given
from kinema.errors import InputError, MissingExtraError
from kinema.pipelines.base import MAX_SEED, Request, check_given
from kinema.pipelines.recipe import facts_of
from kinema.serve.fitting import LORAS, Fitting, Times
from kinema.serve.guard import Bucket, Keys
from kinema.serve.intake import measure, seconds_of
from kinema.serve.jobs import Job, Queue, QueueFullError
from kinema.serve.speeches import Speech, check_served, speech
from kinema.serve.uploads import Kind, Upload, Uploads

try:
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve") from error

PREVIEW = "preview.webp"
FILES = ("input_reference", "last_frame", "continue_from", "subject", "audio", "drive")  # fields that a form may fill with a file
SPOKEN = ("audio", "drive", "expression", "face", "begin")  # fields that an avatar alone takes
FILMED = (
    "size", "seconds", "frames", "fps", "shift", "sampler", "negative", "lora", "lora_scale", "rewrite", "typed", "stability",
    "last_frame", "continue_from", "subject", "recalls",
)  # fmt: skip
"""Fields that an avatar does not take."""
ORDERED = ("model", "size", "seconds", "prompt", "lora", "lora_scale", "rewrite", "priority", *FILES, *SPOKEN)
"""Fields that do not go into a video's request as they are."""
URGENT = 10  # the highest priority


class FileReference(BaseModel):
    """An upload by its id, as OpenAI's client names one."""

    model_config = ConfigDict(extra="forbid")

    file_id: str = Field(max_length=128)


Reference = Annotated[str, Field(max_length=128)] | FileReference


class VideoRequest(BaseModel):
    """A video to make. What is left out is the model's default. Fields beyond OpenAI's are marked Kinema."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str | None = Field(None, max_length=4000, description="what the video shows; needed unless audio is given")
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
    lora: str | None = Field(None, max_length=128, description="Kinema: an adapter, see /v1/models")
    lora_scale: float = Field(1.0, ge=-4, le=4, description="Kinema: its strength")
    input_reference: Reference | None = Field(
        None, description="first frame: the id of an upload (/v1/files), or in a form the picture itself"
    )
    last_frame: Reference | None = Field(None, description="Kinema: last frame, in the same way")
    continue_from: Reference | None = Field(None, description="Kinema: what the video continues: an upload, or a video made here, by id")
    subject: Reference | None = Field(None, description="Kinema: a picture of the subject, which is no frame of the video, in the same way")
    recalls: bool = Field(True, description="Kinema: a model that remembers its world looks up the subject that the prompt names")
    rewrite: Literal["normal", "master"] | None = Field(None, description="Kinema: rewrite the prompt as the model was trained to read it")
    typed: str | None = Field(None, max_length=4000, description="Kinema: what was typed, where the prompt is a rewriting of it already")
    stability: bool = Field(False, description="Kinema: stay close to the first frame: less motion, fewer surprises")
    audio: Reference | None = Field(None, description="Kinema: a voice; the face of input_reference then says it (WAV, MP3, FLAC, Ogg)")
    expression: str | None = Field(None, max_length=32, description="Kinema, with audio: neutral, happy, sad, angry or surprised")
    drive: Reference | None = Field(None, description="Kinema, with audio: a video whose face gives expression, blinks and head pose")
    face: int | None = Field(None, ge=1, le=100, description="Kinema, with audio: which face, from the left; the largest if left out")
    begin: float | None = Field(None, gt=0, le=1, description="Kinema, with audio: noise level at which the model takes over the sketch")
    priority: int = Field(0, ge=-URGENT, le=URGENT, description="Kinema: higher goes first; keys say how high one may go")


def given_as(upload: Upload, at: int) -> Given:
    """An upload as the first frame, the last, or what is continued; only its header is read. Raises InputError where it is too large."""
    kind: Literal["picture", "footage"] = "picture" if upload.kind == "picture" else "footage"
    height, width = measure(upload)
    return Given(path=str(upload.path), sha256=upload.sha256, height=height, width=width, at=at, kind=kind)


def refuse(wanted: VideoRequest, fields: tuple[str, ...], where: str) -> None:
    """Raises InputError where one of these fields is given: what has no effect is not accepted in silence."""
    given = [name for name in fields if name in wanted.model_fields_set and getattr(wanted, name) not in (None, False)]
    if given:
        raise InputError(
            f"{', '.join(given)} {'have' if len(given) > 1 else 'has'} no meaning {where}: leave {'them' if len(given) > 1 else 'it'} out"
        )


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the API and the page work on."""

    queue: Queue
    folder: Path  # of results, adapters and measured times
    models: dict[str, Fitting]
    keys: Keys | None = None  # None: no key is asked for
    rate: Bucket = field(default_factory=lambda: Bucket(60.0, 1.0))  # new jobs a client

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self.folder)

    @property
    def times(self) -> Times:
        return Times(self.folder)

    def loras(self) -> dict[str, str]:
        """Name -> file name of the adapters that lie in the folder."""
        return {path.stem: path.name for path in sorted((self.folder / LORAS).glob("*.safetensors"))}

    def submit(self, user: str, wanted: VideoRequest, key: str | None = None) -> Job:
        """Queue a video. Raises InputError for what cannot be made, QueueFullError where this user must wait."""
        self.admit(user)
        known = None if key is None else self.queue.by_key(user, key)
        seed = known.request["seed"] if known else secrets.randbelow(2**31)
        most = URGENT if self.keys is None else self.keys.priority(user)
        if wanted.priority > most:
            raise InputError(f"priority={wanted.priority} is above {most}, the most for your key: kinema serve key add NAME --priority N")
        plain = self.spoken(user, wanted, seed).facts() if wanted.audio else self.plain(user, wanted, seed)
        return self.queue.submit(user, plain, key, wanted.priority)

    def admit(self, user: str) -> None:
        """Count a request. Raises QueueFullError where there were too many."""
        wait = self.rate.take(user)
        if wait:
            raise QueueFullError(f"too many requests: try again in {wait:.0f} s")

    def fitting(self, model: str) -> Fitting:
        if model not in self.models:
            raise InputError(f"model={model!r} is not served here: use one of {', '.join(self.models)}")
        return self.models[model]

    def request(self, wanted: VideoRequest, seed: int, given: tuple[Given, ...] = (), subject: Given | None = None) -> Request:
        """With nothing left to choose. seed: where none was chosen."""
        fitting = self.fitting(wanted.model)
        refuse(wanted, SPOKEN, "without audio")
        chosen = wanted.model_dump(exclude=set(ORDERED))
        if wanted.size:
            chosen["width"], chosen["height"] = map(int, wanted.size.split("x"))
        if wanted.seconds and not wanted.frames:
            chosen["frames"] = 1 + 4 * max(0, round((wanted.seconds * (wanted.fps or fitting.config.defaults.fps) - 1) / 4))
        chosen["seed"] = seed if wanted.seed is None else wanted.seed
        if not wanted.prompt:
            raise InputError("prompt is missing: say what the video should show, such as 'A cat walks on the grass.'")
        prompt = wanted.prompt
        if wanted.rewrite:
            prompt, chosen["typed"] = rewrite(prompt, wanted.rewrite).text, prompt
        request = fitting.config.request(prompt, **chosen, given=given, reference=subject)
        fitting.check(request)
        return request

    def plain(self, user: str, wanted: VideoRequest, seed: int) -> dict[str, Any]:
        """The request as it lies in the queue: files that were given by what they hold, not where they lie."""
        subject = given_as(self.upload(user, wanted.subject, "picture"), 0) if wanted.subject else None
        request = self.request(wanted, seed, self.given(user, wanted), subject)
        check_given(self.fitting(wanted.model).config, request)
        facts = {name: value for name, value in facts_of(request).items() if value is not None}
        return {"model": wanted.model} | facts | self.adapter(wanted)

    def spoken(self, user: str, wanted: VideoRequest, seed: int) -> Speech:
        """An avatar's request."""
        check_served(self.models, wanted.model)
        refuse(wanted, FILMED, "beside audio")
        if wanted.input_reference is None or wanted.audio is None:
            raise InputError("input_reference is missing: audio needs a picture with a face that says it")
        image, sound = self.upload(user, wanted.input_reference, "picture"), self.upload(user, wanted.audio, "sound", "video")
        drive = self.upload(user, wanted.drive, "video") if wanted.drive else None
        for upload in filter(None, (image, drive)):
            measure(upload)
        chosen = wanted.model_dump(include={"model", "prompt", "steps", "guidance", "begin", "expression", "face"})
        chosen["prompt"] = wanted.prompt or None
        files = {"image": image.sha256, "audio": sound.sha256, "drive": drive.sha256 if drive else None}
        return speech(seconds_of(sound), chosen | files | {"seed": seed if wanted.seed is None else wanted.seed})

    def adapter(self, wanted: VideoRequest) -> dict[str, str]:
        if not wanted.lora:
            return {}
        if wanted.lora not in self.loras():
            raise InputError(f"lora={wanted.lora!r} is not here: use one of {', '.join(self.loras()) or 'none, there are none'}")
        return {"lora": f"{self.loras()[wanted.lora]}:{wanted.lora_scale:g}"}

    def given(self, user: str, wanted: VideoRequest) -> tuple[Given, ...]:
        """The files that a request names."""
        found: list[tuple[Kind, int, Any]] = [
            ("picture", 0, wanted.input_reference),
            ("picture", LAST, wanted.last_frame),
            ("video", 0, wanted.continue_from),
        ]
        return tuple(given_as(self.upload(user, reference, kind), at) for kind, at, reference in found if reference)

    def upload(self, user: str, reference: str | FileReference, *kinds: Kind) -> Upload:
        """Raises InputError where there is no such upload or video, or it is of another kind."""
        name = reference.file_id if isinstance(reference, FileReference) else reference
        found = self.uploads.find(user, name) or self.made(user, name)
        if found is None:
            raise InputError(f"file={name!r} is not here: upload it again (/v1/files)")
        if found.kind not in kinds:
            raise InputError(f"file={name!r} is a {found.kind}, and a {' or a '.join(kinds)} is needed")
        return found

    def made(self, user: str, name: str) -> Upload | None:
        """The result of a job of this user, as an upload of its own: it then stays though the job is deleted."""
        job = self.queue.get(name)
        if job is None or job.user != user or job.file is None:
            return None
        with (job.place(self.folder) / job.file).open("rb") as file:
            return self.uploads.add(user, file)

    def shown(self, job: Job) -> Path:
        """The preview of a job, where there is one."""
        return job.place(self.folder) / PREVIEW
