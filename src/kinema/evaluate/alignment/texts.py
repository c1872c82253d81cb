"""Texts that are right about a clip, and texts that are wrong about it in one thing alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from kinema.records import CAMERA_MOVEMENTS
from kinema.world.captions import describe, user_prompt
from kinema.world.grammar import with_article
from kinema.world.motion import PATHS
from kinema.world.scenes import PLACES
from kinema.world.spec import PLAIN, ClipSpec
from kinema.world.sprites import Subject

Rng = np.random.Generator
TRIES = 8  # wordings drawn until the thing that differs is said
OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up", "near": "far", "far": "near", "in": "out", "out": "in"}
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")


def generator(*key: int) -> Rng:
    return np.random.Generator(np.random.PCG64(list(key)))


def pick(rng: Rng, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def cast_of(spec: ClipSpec, known: dict[str, Subject]) -> list[Subject]:
    return [known[subject] for subject in spec.subjects]


def right_texts(spec: ClipSpec, known: dict[str, Subject], draw: int) -> list[str]:
    """A user's prompt, the short caption, and where it has a colour one that names it; another draw, other words."""
    cast, rng = cast_of(spec, known), generator(spec.seed, 21, draw)
    colored = colored_text(spec, known, rng)
    return [user_prompt(spec, cast, rng), describe(spec, cast, draw).short, *([colored] if colored else [])]


def colored_text(spec: ClipSpec, known: dict[str, Subject], rng: Rng, color: str = "") -> str:
    """ "A purple closed umbrella in the street." in its main colour or another; empty where it has none of COLORS."""
    subject = known[spec.subjects[0]]
    own = next((name for name in subject.colors if name in COLORS), "")
    if not own:
        return ""
    plain = subject.noun.removeprefix(own).strip() or subject.noun
    return f"{with_article(f'{color or own} {plain}').capitalize()} {pick(rng, PLACES[spec.place].phrases)}."


def other_subject(spec: ClipSpec, known: dict[str, Subject], rng: Rng) -> ClipSpec | None:
    nouns = {known[subject].noun for subject in spec.subjects}
    others = [subject.id for subject in known.values() if subject.animated and subject.noun not in nouns]
    return replace(spec, subjects=(pick(rng, others), *spec.subjects[1:])) if others else None


def other_place(spec: ClipSpec, known: dict[str, Subject], rng: Rng) -> ClipSpec | None:
    """Another drawn place; a plain colour for a plain colour."""
    plain = spec.place.startswith(PLAIN)
    return replace(spec, place=pick(rng, [name for name in PLACES if name.startswith(PLAIN) == plain and name != spec.place]))


def other_direction(spec: ClipSpec, known: dict[str, Subject], rng: Rng) -> ClipSpec | None:
    """The opposite path; None where the path has no direction."""
    swapped = " ".join(OPPOSITES.get(word, word) for word in spec.path.split())
    if swapped != spec.path:
        return replace(spec, path=swapped)
    opposite = OPPOSITES.get(PATHS[spec.path].heading or "")
    against = [name for name, path in PATHS.items() if opposite and path.heading == opposite]
    return replace(spec, path=pick(rng, against)) if against else None


def other_camera(spec: ClipSpec, known: dict[str, Subject], rng: Rng) -> ClipSpec | None:
    """Another camera movement, the opposite one half of the time."""
    opposite = " ".join(OPPOSITES.get(word, word) for word in spec.camera.split())
    if opposite != spec.camera and rng.random() < 0.5:
        return replace(spec, camera=opposite)
    return replace(spec, camera=pick(rng, [name for name in CAMERA_MOVEMENTS if name not in (spec.camera, "static")]))


OTHERS: dict[str, Callable[[ClipSpec, dict[str, Subject], Rng], ClipSpec | None]] = {
    "subject": other_subject,
    "place": other_place,
    "direction": other_direction,
    "camera": other_camera,
}
DIMENSIONS = (*OTHERS, "color")


def contrast(spec: ClipSpec, known: dict[str, Subject], dimension: str, draw: int) -> tuple[str, str] | None:
    """A right and a wrong text in like words, which differ in one dimension; None where the clip has nothing to ask there.

    dimension: one of DIMENSIONS. A still camera is not asked: texts seldom name it.
    """
    rng = generator(spec.seed, 23, DIMENSIONS.index(dimension), draw)
    if dimension == "color":
        others = [name for name in COLORS if name not in known[spec.subjects[0]].colors]
        words = int(rng.integers(1 << 30))
        right = colored_text(spec, known, generator(words))
        return (right, colored_text(spec, known, generator(words), pick(rng, others))) if right else None
    if dimension == "camera" and spec.camera == "static":
        return None
    other = OTHERS[dimension](spec, known, rng)
    if other is None:
        return None
    for _ in range(TRIES):
        words = int(rng.integers(1 << 30))
        texts = [user_prompt(some, cast_of(some, known), generator(words)) for some in (spec, other)]
        if texts[0].lower() != texts[1].lower():
            return texts[0], texts[1]
    return None
