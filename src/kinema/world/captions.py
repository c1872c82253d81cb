"""What is seen in a clip, in English: the structured caption, and prompts as users write them.

Directions are the viewer's: left is the left of the picture. What a text leaves out is the usual: a 3D render, a camera that
stands still, clear weather.
"""

from collections.abc import Sequence

import numpy as np

from kinema.records import Caption
from kinema.world.grammar import chance, conjugated, described, is_plural, join_and, name, pick, sentence, with_article
from kinema.world.light import LIGHTS
from kinema.world.motion import PATHS, mirrored, natural_verb
from kinema.world.scenes import PLACES
from kinema.world.spec import ClipSpec
from kinema.world.sprites import Subject
from kinema.world.style import STYLES
from kinema.world.weather import WEATHERS

DARK_PLACES = ("night sky", "space", "moon", "night city", "underwater", "volcano", "stage", "library")
"""Places that plain light does not make day."""

PACE_WORDS = {"slowly": ("slowly", "slowly", "at a slow pace"), "quickly": ("quickly", "fast", "rapidly", "at high speed"), "": ("",)}

CAMERA_PHRASES: dict[str, tuple[str, ...]] = {
    "zoom in": ("the camera zooms in", "camera zooms in", "zoom in", "zooming in"),
    "zoom out": ("the camera zooms out", "camera zooms out", "zoom out", "zooming out"),
    "pan up": ("the camera pans up", "camera pans up", "the camera moves up", "pan up"),
    "pan down": ("the camera pans down", "camera pans down", "the camera moves down", "pan down"),
    "pan left": ("the camera pans left", "camera pans left", "the camera moves to the left", "pan left"),
    "pan right": ("the camera pans right", "camera pans right", "the camera moves to the right", "pan right"),
    "tilt up": ("the camera tilts up", "camera tilts up", "the camera turns upwards", "tilt up"),
    "tilt down": ("the camera tilts down", "camera tilts down", "the camera turns downwards", "tilt down"),
    "tilt left": ("the camera tilts left", "camera tilts left", "the camera turns to the left", "tilt left"),
    "tilt right": ("the camera tilts right", "camera tilts right", "the camera turns to the right", "tilt right"),
    "around left": ("the camera moves around to the left", "camera circles around left", "the camera orbits to the left", "around left"),
    "around right": (
        "the camera moves around to the right",
        "camera circles around right",
        "the camera orbits to the right",
        "around right",
    ),
    "static": ("static camera", "the camera stands still", "fixed camera", "static shot"),
    "handheld": ("handheld camera", "shaky handheld camera", "the camera shakes slightly in the hand", "handheld shot"),
}

SHOT_PHRASES = {
    "close-up": ("close-up", "close-up shot", "seen up close"),
    "medium shot": ("medium shot", "mid shot"),
    "wide shot": ("wide shot", "long shot", "seen from afar"),
}


def _medium(place: str) -> str:
    if place in ("sea", "underwater"):
        return "water"
    return "land" if PLACES[place].has_ground else "air"


def _motion(spec: ClipSpec, travel: str, plural: bool, rng: np.random.Generator, progressive: bool) -> str:
    """ "walks slowly to the left"."""
    verb, after = pick(rng, PATHS[spec.path].says)
    if plural:
        after = after.replace("where it is", "where they are")
    verb = natural_verb(travel, _medium(spec.place)) if verb == "~" else verb
    pace = pick(rng, PACE_WORDS[spec.pace])
    moving = conjugated(verb, plural, progressive)
    if not pace:
        return f"{moving} {after}".strip()
    early = " " not in pace and chance(rng, 0.5) and after.split(" ")[0] not in ("up", "down", "bigger", "larger", "smaller")
    return f"{moving} {pace} {after}".strip() if early else f"{moving} {after} {pace}".replace("  ", " ")


def _action(spec: ClipSpec, subject: Subject) -> str:
    """What its animation shows; without "on the spot" where the subject goes elsewhere."""
    going = spec.path != "stays"
    words = subject.action.replace(" on the spot", "").replace(" in place", "") if going else subject.action
    return "" if going and words.startswith("stays still") else words


def _pair(spec: ClipSpec, cast: Sequence[Subject], rng: np.random.Generator, look: bool) -> tuple[str, str]:
    """Two subjects and what they do."""
    names = [described(s) if look and not described(s).endswith(",") else with_article(name(s, rng)) for s in cast]
    sides = look or chance(rng, 0.4)
    who = f"{names[0]} on the left and {names[1]} on the right" if sides else join_and(names)
    if spec.path == "stays":
        return who, pick(rng, ("are side by side", "stay next to each other", "are next to each other"))
    travel = cast[0].travel if natural_verb(cast[0].travel, "land") == natural_verb(cast[1].travel, "land") else "none"
    return who, _motion(spec, travel, True, rng, chance(rng, 0.3))


def _one(spec: ClipSpec, subject: Subject, rng: np.random.Generator, look: bool) -> tuple[str, str]:
    """The subject and what it does; one that stays shows its action instead."""
    noun = name(subject, rng)
    who = described(subject) if look else with_article(noun)
    plural = is_plural(subject.noun if look else noun)
    if spec.path == "stays" and subject.action and not plural and chance(rng, 0.75):
        return who, _action(spec, subject)
    return who, _motion(spec, subject.travel, plural, rng, chance(rng, 0.3))


def _clause(spec: ClipSpec, cast: Sequence[Subject], rng: np.random.Generator, look: bool = False, place: bool = True) -> str:
    """ "a cat walks to the left on the grass", without capital and full stop."""
    who, does = _pair(spec, cast, rng, look) if len(cast) == 2 else _one(spec, cast[0], rng, look)
    if not place:
        return f"{who} {does}"
    where = pick(rng, PLACES[spec.place].phrases)
    if "," in does or (not look and chance(rng, 0.1)):
        return f"{who.rstrip(',')} {where} {does}" if chance(rng, 0.5) else f"{where}, {who} {does}"
    return f"{who} {does} {where}"


def _light_words(spec: ClipSpec, rng: np.random.Generator) -> str:
    if spec.light == "daylight" and spec.place in DARK_PLACES:
        return ""
    return pick(rng, LIGHTS[spec.light].phrases)


def _weather_words(spec: ClipSpec, rng: np.random.Generator) -> str:
    phrases = WEATHERS[spec.weather].phrases
    return pick(rng, phrases) if phrases else ""


def _detail(spec: ClipSpec, subject: Subject, rng: np.random.Generator) -> str:
    """A second sentence about a subject: its action, or which way it looks."""
    if is_plural(subject.noun):
        return ""
    the = f"The {subject.noun}" if subject.noun not in ("Santa Claus", "Mrs. Claus") else subject.noun
    action, facing = _action(spec, subject), subject.facing
    if facing in ("left", "right") and chance(rng, 0.4):
        looks = {"left": "right", "right": "left"}[facing] if mirrored(spec.path, facing, spec.mirror) else facing
        return sentence(f"{the} faces {looks}" + (f" and {action}" if action and "," not in action else ""))
    return sentence(f"{the} {action}") if action else ""


def _dense(spec: ClipSpec, cast: Sequence[Subject], rng: np.random.Generator) -> str:
    circumstances = ", ".join(words for words in (_weather_words(spec, rng), _light_words(spec, rng)) if words)
    first = sentence(_clause(spec, cast, rng, look=True) + (f", {circumstances}" if circumstances else ""))
    details = [_detail(spec, subject, rng) for subject in cast if not (subject.action and _action(spec, subject) in first)]
    camera = pick(rng, [phrase for phrase in CAMERA_PHRASES[spec.camera] if phrase.startswith("the ")] or [f"{spec.camera} camera"])
    return " ".join(part for part in (first, *details, sentence(camera)) if part)


def _cast(spec: ClipSpec, subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects of a clip out of all of them, in its order."""
    found = {subject.id: subject for subject in subjects if subject.id in spec.subjects}
    return [found[subject_id] for subject_id in spec.subjects]


def describe(spec: ClipSpec, subjects: Sequence[Subject], draw: int = 0) -> Caption:
    """The structured caption of a clip.

    subjects: those of the pack, or at least the clip's. draw: another number words the same truth otherwise.
    """
    rng, cast = np.random.Generator(np.random.PCG64([spec.seed, 3, draw])), _cast(spec, subjects)
    light, weather, style = LIGHTS[spec.light], WEATHERS[spec.weather], STYLES[spec.style]
    dark = spec.light == "daylight" and spec.place in DARK_PLACES
    moods = light.atmosphere if spec.weather == "clear" or chance(rng, 0.5) else weather.atmosphere
    circumstance = _weather_words(spec, rng) or (_light_words(spec, rng) if chance(rng, 0.3) else "")
    return Caption(
        short=sentence(f"{_clause(spec, cast, rng)} {circumstance}"),
        dense=_dense(spec, cast, rng),
        background=sentence(pick(rng, PLACES[spec.place].background)),
        style=sentence(pick(rng, style.sentences + style.phrases)),
        shot_type=sentence(pick(rng, SHOT_PHRASES[spec.shot])),
        lighting=sentence("natural light of the place" if dark else pick(rng, light.lighting)),
        atmosphere=sentence(f"{'quiet and vast' if dark else pick(rng, moods)} {pick(rng, ('mood', 'atmosphere'))}"),
        camera_movement=spec.camera,
    )


def names(spec: ClipSpec, subjects: Sequence[Subject], rng: np.random.Generator) -> str:
    """Who is in a clip, and no more: "a cat"."""
    return join_and([with_article(name(subject, rng)) for subject in _cast(spec, subjects)])


def user_prompt(spec: ClipSpec, subjects: Sequence[Subject], rng: np.random.Generator) -> str:
    """A short prompt as users write them: "A cat walks on the grass, cinematic style."; rarely the bare "a cat"."""
    cast = _cast(spec, subjects)
    if chance(rng, 0.03):
        return names(spec, subjects, rng)
    head = _clause(spec, cast, rng, place=chance(rng, 0.93))
    offered = (
        (_weather_words(spec, rng), 0.8),
        (_light_words(spec, rng), 0.15 if spec.light in ("daylight", "bright studio") else 0.6),
        (pick(rng, STYLES[spec.style].phrases), 0.2 if spec.style == "3D render" else 0.93),
        (pick(rng, SHOT_PHRASES[spec.shot]), 0.2),
        (pick(rng, CAMERA_PHRASES[spec.camera]), 0.05 if spec.camera == "static" else 0.8),
    )
    extras = [text for text, share in offered if text and chance(rng, share)]
    text = sentence(", ".join([head, *extras]))
    text = text.rstrip(".") if chance(rng, 0.5) else text
    return text.lower() if chance(rng, 0.35) else text
