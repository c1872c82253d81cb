"""From a caption's fields to training texts: some are left out, the rest change places, so that a model meets many lengths and orders.

One draw is a function of the caption's key and the epoch alone, on every machine. The world's captions and those of curated clips go
the same way. Source: HunyuanVideo (arXiv 2412.03603, §3.2) for the mechanism; the paper gives no rates.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from kinema.errors import InputError
from kinema.records import Caption
from kinema.world.captions import CAMERA_PHRASES
from kinema.world.grammar import chance, pick, sentence
from kinema.world.style import STYLES


def text_of(caption: Caption, key: str, epoch: int) -> str:
    """The training text of a clip in an epoch. Raises InputError where the caption says nothing."""
    digest = hashlib.sha256(f"{key}\0{epoch}".encode()).digest()
    return training_text(caption, np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big"))))


def training_text(caption: Caption, rng: np.random.Generator) -> str:
    """One text out of a caption's fields: the short or the dense one, then some of the others in any order; up to about 90 words.

    A style other than the usual and a moving camera are nearly always said, so that saying nothing means the usual. A field that is
    empty is never said. Raises InputError where both the short and the dense one are.
    """
    if not (caption.short or caption.dense):
        raise InputError(f"{caption} has neither a short nor a dense text: caption the clip again, or leave it out")
    special = not caption.style.lower().startswith(tuple(s.lower() for s in STYLES["3D render"].sentences + STYLES["3D render"].phrases))
    moving = caption.camera_movement != "static"
    dense = chance(rng, 0.4)
    camera = sentence(pick(rng, CAMERA_PHRASES[caption.camera_movement])) if caption.camera_movement else ""
    offered = (
        (camera, (0.85 if moving else 0.15) * (0.1 if dense else 1)),
        (caption.style, 0.93 if special else 0.3),
        (caption.background, 0.3),
        (caption.shot_type, 0.3),
        (caption.lighting, 0.25),
        (caption.atmosphere, 0.15),
    )
    extras = [sentence(text) for text, share in offered if chance(rng, share) and text]
    order = np.argsort(rng.random(len(extras)))
    head = sentence(caption.dense or caption.short if dense else caption.short or caption.dense)
    return _finish(_joined(head, [extras[i] for i in order], rng), rng)


def _joined(head: str, extras: Sequence[str], rng: np.random.Generator) -> str:
    """A text from its parts: sentences, or one line with commas as prompts often are."""
    if chance(rng, 0.5):
        return " ".join([head, *extras])
    parts = [_lower_first(extra).rstrip(".") for extra in extras]
    if parts and chance(rng, 0.12):
        return sentence(", ".join([*parts, _lower_first(head).rstrip(".")]))
    return ", ".join([head.rstrip("."), *parts]) + "."


def _lower_first(text: str) -> str:
    return text if text[:2] == "3D" or (text[:2].isalpha() and text[:2].isupper()) else text[:1].lower() + text[1:]


def _finish(text: str, rng: np.random.Generator) -> str:
    text = text.rstrip(".") if chance(rng, 0.25) else text
    return text.lower() if chance(rng, 0.15) else text
