"""The structured caption as JSON: what a captioner is asked for, and how its answer is read, mended and refused.

An answer is repaired at most twice: what is plainly broken is mended here, the rest goes back to whoever wrote it, with the error.
What is still no caption then stays on record with the last error. Fields: HunyuanVideo (arXiv 2412.03603, §3.2).
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from kinema.errors import InputError
from kinema.records import CAMERA_MOVEMENTS, Caption

FIELDS: dict[str, str] = {
    "short": "one sentence: who or what does what, where",
    "dense": "several sentences: the scene, its parts, what changes in time, how the camera moves",
    "background": "what is behind and around the subject",
    "style": "the look of the picture, such as documentary, cinematic, 3D render, anime",
    "shot_type": "the framing, such as close-up, medium shot, wide shot, aerial shot",
    "lighting": "where the light comes from, and what it is like",
    "atmosphere": "the mood",
    "camera_movement": f"one of: {', '.join(CAMERA_MOVEMENTS)}",
}
NEEDED = ("short",)  # the others may be empty: what a captioner does not know, it leaves out
MOST_REPAIRS = 2

JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": list(FIELDS),
    "properties": {name: {"type": "string", "description": what} for name, what in FIELDS.items()}
    | {"camera_movement": {"type": "string", "enum": ["", *CAMERA_MOVEMENTS]}},
}
"""For endpoints that can hold a model to a schema."""

Ask = Callable[[str, str], str]
"""(the answer, what is wrong with it) -> another answer."""

assert list(FIELDS) == [part.name for part in fields(Caption)]


@dataclass(frozen=True, kw_only=True)
class CaptionRow:
    """A caption and where it comes from, as one line of a table.

    source: who wrote it, such as "world", "transformers:NAME", "endpoint:NAME", "person". quality: tags such as a tier or "reviewed".
    repairs: how often its JSON was repaired, 0 to 2. error: why there is no caption; then `caption` is None. flags: see `health`.
    """

    key: str
    caption: Caption | None
    source: str
    quality: tuple[str, ...] = ()
    repairs: int = 0
    error: str = ""
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "CaptionRow":
        """Raises InputError for a row that is not one."""
        try:
            written = row["caption"]
            caption = check(written) if written is not None else None
            return cls(**{**row, "caption": caption, "quality": tuple(row["quality"]), "flags": tuple(row["flags"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"{str(row)[:80]!r} is no row of captions: {error}") from error


@dataclass(frozen=True)
class Reading:
    """What became of a captioner's answer: a caption, or the last error."""

    caption: Caption | None
    repairs: int
    error: str = ""

    def row(self, key: str, source: str, **more: Any) -> CaptionRow:
        return CaptionRow(key=key, caption=self.caption, source=source, repairs=self.repairs, error=self.error, **more)


def check(found: Any) -> Caption:
    """A caption from an object. Raises InputError that names the field and the rule."""
    if not isinstance(found, dict):
        raise InputError(f"the answer is a JSON {type(found).__name__}: it must be an object with the fields {', '.join(FIELDS)}")
    if unknown := sorted(map(str, found.keys() - FIELDS.keys())):
        raise InputError(f"{', '.join(unknown)} is no field of a caption: use {', '.join(FIELDS)}")
    if missing := [name for name in FIELDS if name not in found]:
        raise InputError(f"the fields {', '.join(missing)} are missing: give every field, empty where nothing can be said")
    if wrong := [name for name in FIELDS if not isinstance(found[name], str)]:
        raise InputError(f"{wrong[0]}={found[wrong[0]]!r} must be a text")
    words = {name: " ".join(found[name].split()) for name in FIELDS}
    if empty := [name for name in NEEDED if not words[name]]:
        raise InputError(f"{empty[0]} is empty: say at least this")
    words["camera_movement"] = camera = words["camera_movement"].lower().replace("_", " ").rstrip(".")
    if camera and camera not in CAMERA_MOVEMENTS:
        raise InputError(f"camera_movement={camera!r} is not known: use one of {', '.join(CAMERA_MOVEMENTS)}, or an empty text")
    return Caption(**words)


def parse(text: str) -> Caption:
    """A caption from JSON. Raises InputError that says what is wrong."""
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"the answer is not JSON: {getattr(error, 'msg', 'nested too deeply')}") from error
    return check(found)


def mended(text: str) -> str:
    """Without what models put around JSON: thoughts, fences, talk before and after, commas at the end, line breaks within texts."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    start, stop = text.find("{"), text.rfind("}")
    body = text[start : stop + 1] if 0 <= start < stop else text
    body = re.sub(r",(\s*[}\]])", r"\1", body.replace("“", '"').replace("”", '"'))
    return re.sub(r"\s*\n\s*", " ", body)


def read_answer(text: str, ask: Ask | None = None) -> Reading:
    """The caption in a captioner's answer.

    ask: called where mending does not help; None if nobody can be asked. At most two repairs in all.
    """
    for repairs in range(MOST_REPAIRS + 1):
        try:
            return Reading(parse(text), repairs)
        except InputError as error:
            problem = str(error)
        tidy = mended(text)
        if repairs == MOST_REPAIRS or (tidy == text and ask is None):
            return Reading(None, repairs, problem)
        text = tidy if tidy != text else ask(text, problem)  # type: ignore[misc]
    raise AssertionError("the last round returns")
