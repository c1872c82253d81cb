"""What happens in a clip, as plain data: drawn from a seed, kept as JSON, split by rule into training and held-out."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from kinema.errors import InputError
from kinema.records import CAMERA_MOVEMENTS
from kinema.world.motion import PATHS, allowed_paths
from kinema.world.scenes import PLACES, VARIANTS
from kinema.world.sprites import Subject
from kinema.world.style import STYLES

Split = Literal["train", "heldout"]
T = TypeVar("T")


class Shot(NamedTuple):
    """size: of the subject; feet: screen v on which it stands; both in frame heights."""

    size: float
    feet: float
    weight: float


SHOTS = {"close-up": Shot(0.72, 0.42, 0.3), "medium shot": Shot(0.53, 0.35, 0.48), "wide shot": Shot(0.37, 0.27, 0.22)}
PACES = {"slowly": 0.7, "": 1.0, "quickly": 1.45}

ANIMATED_SHARE, PAIR_SHARE, PLAIN_SHARE, MATCHED_SHARE = 0.92, 0.15, 0.12, 0.65
CLEAR_SHARE, PLAIN_STYLE_SHARE, STATIC_SHARE = 0.7, 0.6, 0.45
HELD_PLACES, HELD_CAMERAS = 0.04, 0.03  # shares of (subject, place) and (subject, camera) pairs never trained on
NIGHT = "moonlit night"
PLAIN = "plain "  # how the names of the one-colour places begin
PAIR_PATHS = ("stays", "moves left", "moves right", "bounces", "jumps", "sways", "spins", "twirls", "floats", "shakes", "grows", "shrinks")


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """One clip of the world: with the sprite pack, everything needed to render it again.

    subjects: one id, or two from left to right. path: a name in PATHS. pace: a name in PACES. mirror: whether a side view
    looks the other way where its path leaves that open. variant: of the drawn place. camera_amount: 1 is a plain move.
    """

    seed: int
    frames: int
    height: int
    width: int
    subjects: tuple[str, ...]
    path: str = "stays"
    pace: str = ""
    mirror: bool = False
    place: str = "grass"
    variant: int = 0
    light: str = "daylight"
    weather: str = "clear"
    style: str = "3D render"
    shot: str = "medium shot"
    camera: str = "static"
    camera_amount: float = 1.0
    fps: int = 12

    def __post_init__(self):
        tables = (("path", PATHS), ("pace", PACES), ("place", PLACES), ("style", STYLES), ("shot", SHOTS), ("camera", CAMERA_MOVEMENTS))
        for name, table in tables:
            if getattr(self, name) not in table:
                raise InputError(f"{name}={getattr(self, name)!r} is not in the world: use one of {', '.join(map(repr, table))}")
        if not 1 <= len(self.subjects) <= 2:
            raise InputError(f"subjects={self.subjects}: a clip has one or two")

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict) -> "ClipSpec":
        return cls(**{**row, "subjects": tuple(row["subjects"])})


def _share(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts alone, the same on every machine."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def held_place(subject: str, place: str) -> bool:
    """Whether this subject in this place is kept for evaluation."""
    return _share("place", subject, place) < HELD_PLACES


def held_camera(subject: str, camera: str) -> bool:
    """Whether this subject under this camera movement is kept for evaluation; a static camera never is, or it would be seen only moved."""
    return camera != "static" and _share("camera", subject, camera) < HELD_CAMERAS


def is_held_out(spec: ClipSpec) -> bool:
    """Whether any (subject, place) or (subject, camera) pair of the clip is held out."""
    return any(held_place(subject, spec.place) or held_camera(subject, spec.camera) for subject in spec.subjects)


def _pick(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of some options; by weights, through one uniform number, so that no library's choice() decides."""
    weights = weights or [1.0] * len(options)
    edges = np.cumsum(weights)
    return options[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(options) - 1)]


def _draw_subjects(rng: np.random.Generator, subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    animated = [s for s in subjects if s.animated]
    still = [s for s in subjects if not s.animated] or animated
    draw = lambda: _pick(rng, animated if rng.random() < ANIMATED_SHARE else still)  # noqa: E731
    first = draw()
    if rng.random() >= PAIR_SHARE:
        return (first,)
    second = draw()
    return (first,) if second.noun == first.noun else (first, second)


def _draw_place(rng: np.random.Generator, subject: Subject) -> str:
    plain = [name for name in PLACES if name.startswith(PLAIN)]
    drawn = [name for name in PLACES if not name.startswith(PLAIN)]
    matched = [name for name in drawn if set(PLACES[name].places_match) & set(subject.places)]
    kind, choice = rng.random(), rng.random()
    if kind < PLAIN_SHARE and plain:
        return _pick(rng, plain)
    return _pick(rng, matched if matched and choice < MATCHED_SHARE else drawn)


def _draw_path(rng: np.random.Generator, cast: Sequence[Subject]) -> str:
    allowed = set.intersection(*(set(allowed_paths(s.travel, s.facing)) for s in cast))
    names = [name for name in PATHS if name in allowed and (len(cast) == 1 or name in PAIR_PATHS)]
    return _pick(rng, names, [PATHS[name].weight for name in names])


def _draw_camera(rng: np.random.Generator) -> str:
    moving = [name for name in CAMERA_MOVEMENTS if name != "static"]
    return "static" if rng.random() < STATIC_SHARE else _pick(rng, moving)


def _draw_air(rng: np.random.Generator, place: str) -> tuple[str, str]:
    """Light and weather that suit a place; its first light is the most natural, night (which hides subjects) is rare."""
    lights, weathers = PLACES[place].lights, PLACES[place].weathers
    light = _pick(rng, lights, [2.0] + [0.5 if light == NIGHT else 1.0 for light in lights[1:]])
    rough = [weather for weather in weathers if weather != "clear" and (light != NIGHT or weather == "fireflies")]
    return light, "clear" if not rough or rng.random() < CLEAR_SHARE else _pick(rng, rough)


def _draw(rng: np.random.Generator, seed: int, subjects: Sequence[Subject], frames: int, height: int, width: int) -> ClipSpec:
    cast = _draw_subjects(rng, subjects)
    place = _draw_place(rng, cast[0])
    light, weather = _draw_air(rng, place)
    styles = [name for name in STYLES if name != "3D render"]
    path = _draw_path(rng, cast)
    pace = _pick(rng, tuple(PACES), (0.2, 0.6, 0.2))
    return ClipSpec(
        seed=seed,
        frames=frames,
        height=height,
        width=width,
        subjects=tuple(subject.id for subject in cast),
        path=path,
        pace=pace if PATHS[path].paced else "",
        mirror=bool(rng.random() < 0.5),
        place=place,
        variant=int(rng.integers(0, VARIANTS)),
        light=light,
        weather=weather,
        style="3D render" if rng.random() < PLAIN_STYLE_SHARE else _pick(rng, styles),
        shot=_pick(rng, tuple(SHOTS), [shot.weight for shot in SHOTS.values()]),
        camera=_draw_camera(rng),
        camera_amount=round(float(rng.uniform(0.85, 1.2)), 3),
    )


def _into_held_out(spec: ClipSpec, rng: np.random.Generator, places: Sequence[str]) -> ClipSpec | None:
    """The same clip in a held-out place or under a held-out camera of its first subject, where it has one."""
    subject = spec.subjects[0]
    held = [replace(spec, camera=camera) for camera in CAMERA_MOVEMENTS if held_camera(subject, camera)]
    for place in places:
        if held_place(subject, place):
            light, weather = _draw_air(rng, place)
            held.append(replace(spec, place=place, light=light, weather=weather))
    return _pick(rng, held) if held else None


def sample_spec(
    seed: int, subjects: Sequence[Subject], frames: int = 33, height: int = 128, width: int = 128, split: Split = "train"
) -> ClipSpec:
    """Draw a clip; the same arguments give the same clip on every machine.

    subjects: of the sprite pack. split: "train" never contains a held-out pair, "heldout" always does.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 0 if split == "train" else 1]))
    while True:
        spec: ClipSpec | None = _draw(rng, seed, subjects, frames, height, width)
        if split == "heldout" and spec is not None:
            spec = _into_held_out(spec, rng, tuple(PLACES))
        if spec is not None and is_held_out(spec) == (split == "heldout"):
            return spec
