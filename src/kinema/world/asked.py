"""What a prompt asks for, in the terms that the offline judges know: the world's nouns, places, movements and styles.

A prompt is read by rules, longest phrase first; what was understood is taken out before the next thing is looked for, so that a flower
field is no flower. What is not found is not asked, and not scored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from kinema.records import CAMERA_MOVEMENTS
from kinema.world.grammar import conjugated
from kinema.world.light import LIGHTS
from kinema.world.motion import PATHS
from kinema.world.scenes import PLACES
from kinema.world.sprites import labelled_subjects
from kinema.world.weather import WEATHERS

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
NUMBERS = {word: value for value, word in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1)}
SIDES = {
    "left": r"(?:to the )?left(?:wards?)?",
    "right": r"(?:to the )?right(?:wards?)?",
    "up": r"up(?:wards?)?",
    "down": r"down(?:wards?)?",
}
KINDS = {
    "around": r"(?:camera )?(?:moves |circles |orbits |moving |circling |orbiting |arcs )?\b(?:around|orbits|orbiting)",
    "tilt": r"(?:tilt(?:s|ing)?|camera turns|camera turning)",
    "pan": r"(?:pan(?:s|ning)?|camera (?:moves|moving|travels|glides|slides|trucks))",
}
NAMED = {
    "zoom in": r"zoom(?:s|ing)? in|push(?:es|ing)? in|dolly in|camera moves closer",
    "zoom out": r"zoom(?:s|ing)? out|pull(?:s|ing)? (?:back|out)|dolly out",
    "static": r"static (?:camera|shot)|fixed camera|camera stands still|tripod|camera is (?:still|static|fixed)",
    "handheld": r"(?:shaky )?hand-?held(?: camera| shot)?|camera shakes[\w ]*hand|shaky camera",
}
CAMERA = {
    name: NAMED.get(name) or rf"(?:the )?{KINDS[name.split()[0]]} {SIDES[name.split()[-1]]}"
    for name in sorted(CAMERA_MOVEMENTS, key=lambda name: name.split()[0] not in ("around", "zoom"))
}
STYLE_WORDS = {
    "3D render": r"3d (?:render|animation|cartoon)",
    "pixel art": r"pixel(?: art)?|8-bit|retro game",
    "black and white": r"black[ -]and[ -]white|monochrome",
    "sketch": r"sketch|pencil|hand-drawn",
    "watercolour": r"watercolou?r",
    "cinematic": r"cinematic|film|movie",
}
COMES_BACK = (
    r"left and right|up and down|side to side|jump\w*(?: high| up)*(?: into the air)?|over and over|bigger and bigger|smaller and smaller"
)
FROM = {"left": r"from (?:the )?right\b", "right": r"from (?:the )?left\b"}
HEADINGS = {
    "right": r"\bright(?:wards?)?\b",
    "left": r"\bleft(?:wards?)?\b",
    "up": r"\bupwards?\b|up into the air|\bris(?:es?|ing)\b|fl(?:y|ies|ying) up|goes up|climbs?",
    "down": r"\bdownwards?\b|\bdown\b|\bfall(?:s|ing)?\b|\bdrop(?:s|ping)?\b|descends?",
}
RELATIONS = {
    "left": r"on the left and .* on the right|left of", "right": r"right of",
    "above": r"\babove\b|on top of|\bover\b", "below": r"\bbelow\b|\bunder\b|\bbeneath\b",
}  # fmt: skip
STANDS = re.compile(r"(?:to|on) the (?:left|right) of|on the (?:left|right)")
PACES = {-1: r"\bslow(?:ly)?\b|slow pace|leisurely|gently", 1: r"\bquick(?:ly)?\b|\bfast\b|rapid(?:ly)?|high speed|swiftly"}


@dataclass(frozen=True)
class Asked:
    """Empty, 0 or None: not asked."""

    subjects: tuple[str, ...] = ()  # nouns of `nouns()`, as they follow one another; two at most
    color: str = ""
    number: int = 0
    place: str = ""  # a name in PLACES
    relation: str = ""  # of the first subject to the second: a name in RELATIONS
    action: str = ""  # a name in PATHS that goes nowhere
    phrase: str = ""  # how the action is said
    direction: str = ""  # a name in HEADINGS
    pace: int = 0  # -1 slow, 1 quick
    camera: str = ""
    style: str = ""


@cache
def nouns() -> dict[str, tuple[str, ...]]:
    """What people call the world's subjects -> the ids of those that it may be."""
    found: dict[str, tuple[str, ...]] = {}
    for subject in labelled_subjects():
        for noun in dict.fromkeys(name.lower() for name in (subject.noun, *subject.also)):
            found[noun] = (*found.get(noun, ()), subject.id)
    return found


def either(words: Iterable[str]) -> str:
    """A pattern of any of some phrases, the longest first."""
    return "|".join(re.escape(word.lower()) for word in sorted(words, key=len, reverse=True))


@cache
def noun_pattern() -> re.Pattern[str]:
    return re.compile(rf"\b({either(nouns())})(s|es)?\b")


@cache
def places() -> dict[str, str]:
    """Phrase -> place."""
    return {phrase.lower(): name for name, place in PLACES.items() for phrase in place.phrases}


@cache
def place_pattern() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{either(places())})\b")


@cache
def air_pattern() -> re.Pattern[str]:
    """Light and weather."""
    return re.compile(rf"\b(?:{either(phrase for table in (LIGHTS, WEATHERS) for item in table.values() for phrase in item.phrases)})\b")


FORMS = tuple((plural, progressive) for plural in (False, True) for progressive in (False, True))


@cache
def actions() -> dict[str, tuple[str, int]]:
    """A phrase such as "bounces up and down" -> its path, and which of FORMS it has."""
    found: dict[str, tuple[str, int]] = {}
    for name, path in PATHS.items():
        for verb, after in path.says if not path.heading and name != "stays" else ():
            for form, (plural, progressive) in enumerate(FORMS if verb != "~" else ()):
                found.setdefault(f"{conjugated(verb, plural, progressive)} {after}".strip().lower(), (name, form))
    return found


@cache
def action_pattern() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{either(actions())})\b")


def other_actions(phrase: str, count: int) -> list[str]:
    """Ways to say other actions, in the same form."""
    name, form = actions()[phrase]
    found = {other: said for said, (other, its) in reversed(actions().items()) if its == form and other != name}
    return list(found.values())[:count]


def first(patterns: dict, text: str) -> tuple:
    """(name, match) of the first pattern that is found; (None, None)."""
    for name, pattern in patterns.items():
        if match := re.search(pattern, text):
            return name, match
    return None, None


def without(text: str, match: re.Match[str] | None) -> str:
    return text if match is None else f"{text[: match.start()]} , {text[match.end() :]}"


@cache
def read(prompt: str) -> Asked:
    """What an English prompt asks for."""
    text = re.sub(r"\s+", " ", prompt.lower()).replace("grey", "gray")
    camera, match = first(CAMERA, text)
    text = without(text, match)
    style, match = first(STYLE_WORDS, text)
    text = without(text, match)
    place = place_pattern().search(text)
    text = air_pattern().sub(" , ", without(text, place))
    relation, _ = first(RELATIONS, text)
    found = list(noun_pattern().finditer(STANDS.sub(" and ", re.sub("the camera", "", text))))[:2]
    moving = STANDS.sub(" and ", text)
    action = action_pattern().search(moving)
    going = re.sub(COMES_BACK, "", moving)
    heading = first(FROM, going)[0] or first(HEADINGS, going)[0]
    pace, _ = first(PACES, moving)
    color = re.search(rf"\b({'|'.join(COLORS)})\b", text)
    return Asked(
        subjects=tuple(noun[1] for noun in found),
        color=color[1] if color else "",
        number=number_of(text, found),
        place=places()[place[0]] if place else "",
        relation=relation if relation and len(found) == 2 else "",
        action=actions()[action[0]][0] if action else "",
        phrase=action[0] if action else "",
        direction=heading or "",
        pace=pace or 0,
        camera=camera or "",
        style=style or "",
    )


def number_of(text: str, found: list[re.Match[str]]) -> int:
    """As many as a number says; else the named ones, each after "a" or "an"; 0 where plurals leave it open."""
    said = re.search(rf"\b({'|'.join(NUMBERS)}|\d+)\b (?!side)", text)
    if said:
        return NUMBERS.get(said[1]) or int(said[1])
    return 0 if any(match[2] for match in found) else len(found)
