"""From what a person types to what a model was trained to read: structured English, with every fact kept.

`normal` only puts in order what is there; `master` also fills what is left open: framing, light, mood, camera. Korean and Chinese become
English. Rules do it offline and never lose a word; a language model may say more, and where it loses a fact the rules' text stands.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from kinema.caption.camerawords import CAMERA
from kinema.caption.facts import facts, lost
from kinema.caption.translate import translate
from kinema.caption.words import NUMBERS, Language, language_of, words_of_kind
from kinema.errors import InputError, KinemaError
from kinema.world.captions import CAMERA_PHRASES, SHOT_PHRASES
from kinema.world.grammar import is_plural, sentence, with_article
from kinema.world.light import LIGHTS
from kinema.world.style import STYLES
from kinema.world.weather import WEATHERS

LOG = logging.getLogger(__name__)
Mode = Literal["normal", "master"]
MODES: tuple[Mode, ...] = ("normal", "master")
ORDER = ("short", "background", "style", "shot_type", "lighting", "atmosphere", "camera_movement")  # in which a rewritten prompt says them
USUAL = {
    "shot_type": ("Medium shot.", r"\bview\b|\bshot\b|close"),
    "lighting": (
        "Soft natural light.",
        r"light|\blit\b|\bsun|\bmoon|\bnight|\bdark|\bdawn|\bneon|\blamp|\bfire|\bspace\b|water|\brain|\bsnow|fog",
    ),
    "camera_movement": ("The camera stands still.", r"camera|handheld|\bzoom|\bpan\b|\bdrone"),
}
"""What `master` adds where a prompt leaves it open and nobody knows better, and words that show that it does not."""
LONGEST = 4000  # letters
NAMES = ("Santa Claus", "Mrs. Claus")


@dataclass(frozen=True)
class Rewritten:
    """A prompt before and after; `writer` is "rules", "smollm2" or "endpoint:NAME"."""

    original: str
    text: str
    mode: Mode
    language: Language
    writer: str


@runtime_checkable
class Writer(Protocol):
    """Something that writes better than rules; it may fail, and is then not heard."""

    name: str

    def write(self, prompt: str, fields: Mapping[str, str], mode: Mode) -> str:
        """A new text. prompt: as it was typed; fields: as the rules have translated it and put it in order, of ORDER."""
        ...


def rewrite(prompt: str, mode: Mode, writer: Writer | None = None) -> Rewritten:
    """Rewrite one prompt. Raises InputError for an empty one, one beyond 4,000 letters, and an unknown mode.

    writer: None leaves it to the rules. A writer that fails, or whose text loses a fact, is not heard; a note is logged.
    """
    if mode not in MODES:
        raise InputError(f"rewrite={mode!r} is not known: use {' or '.join(MODES)}")
    if not prompt.strip() or len(prompt) > LONGEST:
        raise InputError(f"the prompt has {len(prompt.strip())} letters: 1 to {LONGEST} can be rewritten")
    language = language_of(prompt)
    english = prompt if language == "en" else translate(prompt, language)  # type: ignore[arg-type]
    english = " ".join(english.split())
    fields = arranged(english)
    if mode == "master":
        fields = {name: text for name, (text, said) in USUAL.items() if not re.search(said, english.lower())} | fields
    plain = joined(fields)
    if writer is None:
        return Rewritten(prompt, plain, mode, language, "rules")
    must = facts(english) if language == "en" else certain(english)
    text = heard(writer, prompt, fields, mode, must)
    return Rewritten(prompt, text or plain, mode, language, writer.name if text else "rules")


def certain(translated: str) -> set[str]:
    """Facts that any good translation has: for verbs there are too many words."""
    verbs = {stem for verb in words_of_kind("verb") for stem in facts(verb)}
    return {fact for fact in facts(translated) - verbs if fact.isascii()}


def heard(writer: Writer, prompt: str, fields: Mapping[str, str], mode: Mode, must: set[str]) -> str:
    """The writer's text, or "" where it fails or loses one of the facts that it must keep."""
    try:
        text = " ".join(writer.write(prompt, fields, mode).split())
    except KinemaError as error:
        LOG.warning("%s could not rewrite the prompt, so rules did: %s", writer.name, error)
        return ""
    if gone := lost(must, text):
        LOG.warning("%s lost %s of the prompt, so rules rewrote it", writer.name, ", ".join(sorted(gone)))
        return ""
    return text


def arranged(english: str) -> dict[str, str]:
    """A prompt's own words, sorted into fields: what says how the film is made goes to its field, all else stays together."""
    found: dict[str, list[str]] = {"short": []}
    for number, text in enumerate(re.split(r"(?<=[.!?])\s+|\n+", english)):
        main: list[str] = []
        for part in text.rstrip(".").split(", "):
            name = field_of(part)
            (found.setdefault(name, []) if name else main).append(camera_sentence(part) if name == "camera_movement" else part)
        if any(part.strip() for part in main):
            head = ", ".join(main)
            found["short"].append(complete(head) if number == 0 else head)
    return {name: " ".join(sentence(part) for part in parts if part.strip()) for name, parts in found.items()}


def field_of(part: str) -> str:
    """The field that a part between commas belongs to; "" for what happens in the picture."""
    text = part.lower().strip()
    if re.match(CAMERA["en"], text):
        return "camera_movement"
    if text.endswith(("style", "aesthetic")) or text in STYLE_WORDS:
        return "style"
    if text in SHOT_WORDS or re.fullmatch(r"(?:\S+ )?(?:shot|close-up|view)", text):
        return "shot_type"
    if text in LIGHT_WORDS or re.search(r"\b(?:light|lighting|lit by .*)$", text):
        return "lighting"
    return "atmosphere" if text.endswith(("atmosphere", "mood")) else ""


STYLE_WORDS = {phrase.lower() for style in STYLES.values() for phrase in style.phrases}
SHOT_WORDS = {phrase.lower() for phrases in SHOT_PHRASES.values() for phrase in phrases} | {"aerial shot", "wide angle"}
LIGHT_WORDS = {phrase.lower() for table in (LIGHTS, WEATHERS) for kind in table.values() for phrase in kind.phrases}


def camera_sentence(part: str) -> str:
    """A bare movement as a sentence of the captions: "zoom in" -> "the camera zooms in"; what says more stays as it is."""
    same = next((phrases[0] for phrases in CAMERA_PHRASES.values() if part.lower().strip() in phrases), part)
    return part if lost(facts(part), same) else same


def complete(head: str) -> str:
    """One or two words without a verb become a sentence: "cat" -> "a cat is in view"."""
    words = re.sub(r"^(?:an?|the) ", "", head, flags=re.IGNORECASE).split()
    bare = len(words) == len(head.split())
    has_verb = len(words) == 2 and (words[1].endswith("ing") or words[1].endswith("s") != bare or words[0].endswith("s"))
    if len(words) > 2 or (has_verb and head not in NAMES and words[0].lower() not in NUMBERS):
        return head
    named = head if head in NAMES or not bare else with_article(head[:1].lower() + head[1:])
    return f"{named} {'are' if head not in NAMES and is_plural(head) else 'is'} in view"


def joined(fields: Mapping[str, str]) -> str:
    return " ".join(fields[name] for name in ORDER if fields.get(name))
