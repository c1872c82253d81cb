"""What every pipeline shares: the config of a whole model, a request for one video, and its result."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.conditioning import CONDITIONS
from kinema.conditioning.frames import Given
from kinema.conditioning.sizes import size_like
from kinema.dit.model import DiTConfig
from kinema.errors import InputError
from kinema.flow.samplers import SAMPLERS
from kinema.flow.sigmas import default_shift, refining, schedule
from kinema.shapes import SIZE_STEP, PixelShape
from kinema.text.encoder import TextConfig
from kinema.vae.model import VAEConfig

MAX_SEED = 2**63 - 1
MAX_STEPS = 1000
OnStep = Callable[[str, int, int], None]
"""Called as (stage, done, total) while a video is made."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model makes where a request does not say."""

    frames: int  # T
    height: int  # H
    width: int  # W
    fps: int
    steps: int
    guidance: float  # embedded where the DiT takes it, classifier-free otherwise
    reference_guidance: float | None = None  # of a picture of the subject, where that is followed at a scale of its own
    shift: float | None = None  # None: what the number of steps asks for
    sampler: str = "euler"
    negative: str = ""  # the prompt of the unconditional half
    draft_side: int = 0  # pixels of the shorter side of a first pass; what is hardly larger has none. 0: one pass at any size
    strength: float = 0.5  # noise level at which the second pass begins
    window: int | None = None  # T made at once; longer videos are made piece by piece, each continuing the last. None: any length


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that is needed to build a model, its weights apart. Raises InputError for a condition that the table does not have."""

    name: str
    dit: DiTConfig
    vae: VAEConfig
    text: TextConfig
    defaults: Defaults
    conditions: tuple[str, ...] = ()  # of `kinema.conditioning.CONDITIONS`: what it was trained to take

    def __post_init__(self):
        for name in self.conditions:
            if name not in CONDITIONS:
                raise InputError(f"conditions={list(self.conditions)}: {name!r} is not known: use {', '.join(CONDITIONS)}")

    @property
    def needs_picture(self) -> bool:
        """Whether it makes nothing without a first frame."""
        return self.dit.image_condition != "none"

    def request(self, prompt: str, guidance: float | None = None, **chosen: Any) -> "Request":
        """A request for this model; what is not chosen, or is None, is its default. The first of what is given decides the size.

        guidance: goes to the embedded scale where the DiT takes one, else to the classifier-free one.
        chosen: other fields of Request.
        """
        named = {name: value for name, value in chosen.items() if value is not None}
        fields: dict[str, Any] = asdict(self.defaults) | {"prompt": prompt} | self.size_of(named.get("given", ())) | named
        default, side, _ = fields.pop("guidance"), fields.pop("draft_side"), fields.pop("window")
        shorter = min(fields["height"], fields["width"])
        fields = {"draft": side / shorter if side and shorter >= side + SIZE_STEP else 0.0} | fields
        scale = default if guidance is None else guidance
        scales: dict[str, Any] = {"embedded_guidance": scale} if self.dit.guidance else {"guidance": scale}
        if scale <= 1 and "reference_guidance" not in named:
            fields["reference_guidance"] = None
        fields["shift"] = fields["shift"] or default_shift(fields["steps"])
        return Request(**scales | fields)

    def size_of(self, given: Sequence[Given]) -> dict[str, int]:
        """Height and width for what is given, where none are chosen."""
        if not given:
            return {}
        side = round(math.sqrt(self.defaults.height * self.defaults.width))
        return dict(zip(("height", "width"), size_like(given[0].height, given[0].width, side), strict=True))


@dataclass(frozen=True, kw_only=True)
class Request:
    """One video to make: nothing is left to choose, so the same request gives the same bits.

    Raises InputError where a value breaks a rule.
    """

    prompt: str
    seed: int
    frames: int  # T
    height: int  # H
    width: int  # W
    fps: int
    steps: int
    shift: float
    sampler: str
    negative: str = ""  # used where guidance is above 1
    guidance: float = 1.0  # classifier-free; 1 switches it off and halves the time
    embedded_guidance: float | None = None  # for models distilled to take it
    reference_guidance: float | None = None  # how closely to follow the picture of the subject, at three calls a step; None: as the text
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # noise levels at which classifier-free guidance works
    reuse: int = 1  # the model is called once in so many steps, after the first few
    cache: float = 0.0  # relative change of the first block below which the others are left out; 0: never
    forecast: bool = False  # what is left out goes on as a straight line, rather than staying as it was
    draft: float = 0.0  # share of its sides that a first pass has; the second begins from it, enlarged. 0: one pass
    strength: float = 0.5  # noise level at which that second pass begins
    typed: str | None = None  # what the person wrote, where `prompt` is a rewriting of it
    given: tuple[Given, ...] = ()  # pictures and videos that it begins with, ends with, or passes through
    reference: Given | None = None  # a picture of the subject, which is no frame of the video; None: as `recalls` says
    recalls: bool = True  # a model that remembers its world looks up the subject that the prompt names
    stability: bool = False  # start from a trace of the first picture in every frame: less motion, fewer surprises

    def __post_init__(self):
        shape = self.shape  # refuses what no model can make
        places = [each.place(shape.frames) for each in self.given]
        if self.stability and 0 not in places:
            raise InputError("stability starts from the first frame, which is not given: name a picture for it (--image)")
        if not self.prompt.strip():
            raise InputError(f"prompt={self.prompt!r} is empty: say what the video should show, such as 'A cat walks on the grass.'")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed={self.seed} is out of range: use 0 to {MAX_SEED}")
        if not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"steps={self.steps} is out of range: use 1 to {MAX_STEPS}; 50 is usual")
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise InputError(f"shift={self.shift} must be above 0: 7 is usual at 50 steps, 17 below 20")
        for name in ("guidance", "embedded_guidance", "reference_guidance"):
            scale = getattr(self, name)
            if scale is not None and not 1 <= scale <= 100:
                raise InputError(f"{name}={scale} is out of range: use 1 (off) to 100; 6 is usual")
        if self.reference_guidance is not None and self.guidance == 1:
            raise InputError(f"reference_guidance={self.reference_guidance} needs classifier-free guidance above 1, and there is none")
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise InputError(f"guidance_interval={low} {high} must be two noise levels in order, from 0 (data) to 1 (noise)")
        if (low, high) != (0, 1) and self.guidance == 1:
            raise InputError("guidance_interval needs classifier-free guidance above 1: there is none, or the model takes it as input")
        if not 1 <= self.reuse <= 10:
            raise InputError(f"reuse={self.reuse} is out of range: use 1 (every step is computed) to 10; 3 is usual")
        if not 0 <= self.cache < 1:
            raise InputError(f"cache={self.cache} is out of range: use 0 (every block is computed) to below 1; 0.1 is usual")
        if self.forecast and not self.cache:
            raise InputError("forecast continues what the cache leaves out, and there is no cache: name its bound, such as cache=0.1")
        if self.draft and (not 0 < self.draft < 1 or self.first_pass.shape == shape):
            raise InputError(
                f"draft={self.draft} of {self.height}x{self.width} must be smaller by 16 pixels or more: 0.5 is usual, 0 is none"
            )
        refining(self.steps, self.strength)  # refuses a strength that begins nowhere between draft and noise
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler={self.sampler!r} is not known: use one of {', '.join(SAMPLERS)}")
        if not 1 <= self.fps <= 240:
            raise InputError(f"fps={self.fps} is out of range: use 1 to 240 frames a second")

    @property
    def shape(self) -> PixelShape:
        return PixelShape(self.frames, self.height, self.width)

    @property
    def first_pass(self) -> "Request":
        """The draft: the same video, smaller, as near to its share as sizes go."""
        height, width = (max(round(side * self.draft / SIZE_STEP), 1) * SIZE_STEP for side in (self.height, self.width))
        return replace(self, height=height, width=width, draft=0.0)

    @property
    def sigmas(self) -> Float[Tensor, " S"]:
        """Noise levels of its last pass."""
        return refining(self.steps, self.strength) if self.draft else schedule(self.steps, self.shift)

    @property
    def calls(self) -> int:
        """Of the model for one velocity, where its subject is known."""
        return 1 if self.guidance == 1 else 2 if self.reference_guidance in (None, self.guidance) else 3

    @property
    def passes(self) -> list[tuple[PixelShape, int]]:
        """Size and steps of each."""
        first = self.first_pass.passes if self.draft else []
        return [*first, (self.shape, len(self.sigmas) - 1)]

    def variants(self, count: int) -> list["Request"]:
        """The same request with seeds seed, seed + 1, ..."""
        if count < 1:
            raise InputError(f"num_videos={count} must be 1 or more")
        return [replace(self, seed=self.seed + i) for i in range(count)]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished video."""

    frames: UInt8[Tensor, "T H W 3"]
    latents: Float[Tensor, "C t h w"]  # scaled as the DiT sees them
    recipe: dict[str, Any]  # request, model config, versions, weights hashes: enough to make it again
    timings: dict[str, float]  # seconds a stage


def check_given(config: ModelConfig, request: Request) -> None:
    """Raises InputError where a model cannot take what is given, or needs a picture and has none."""
    places = sorted(each.place(request.frames) for each in request.given)
    if config.needs_picture and (places != [0] or request.given[0].kind != "picture"):
        raise InputError(f"model={config.name!r} continues one picture: give it, alone and at 0 (--image FILE)")
    if config.needs_picture and request.draft:
        raise InputError(f"model={config.name!r} sees its picture at one size: leave draft={request.draft} out")
    if places and not config.needs_picture and "frames" not in config.conditions:
        raise InputError(f"model={config.name!r} was not trained to take pictures or video: use mini, or an image-to-video model")
    if request.reference and "reference" not in config.conditions:
        raise InputError(
            f"model={config.name!r} was not trained to take a picture of its subject: use mini, or begin with the picture (--image)"
        )
    if len(places) == request.frames:
        raise InputError(f"all {request.frames} frames are given: nothing is left to make; ask for more --frames")
