"""What a prompt says that a rewriting must not lose: its content words, compared by their stems."""

import re
from collections.abc import Iterable

EMPTY = frozenset(
    re.findall(r"\w+", "a an the and or but of in on at to from by with without for into over under through "
        "as is are was were be been being it its this that "
    "these those there he she they his her their them him i you we my your our some while who which what where when then than so very "
    "has have had do does did not no just also video clip footage show shows showing shown picture scene image please make "
    "create generate")
)  # fmt: skip
SAME = {"grey": "gray", "colour": "color", "watercolour": "watercolor", "upward": "up", "upwards": "up", "downward": "down",
        "downwards": "down", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight",
        "9": "nine", "10": "ten", "closeup": "close", "men": "man", "women": "woman", "children": "child", "people": "person",
        "mice": "mouse", "wolves": "wolf", "leaves": "leaf"}  # fmt: skip


def stem(word: str) -> str:
    """ "walks", "walking", "walked" -> "walk"; rough, but the same on both sides."""
    word = SAME.get(word, word)
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if (
            word.endswith(ending)
            and len(word) - len(ending) >= (2 if ending == "ies" else 3)
            and not (ending == "s" and word.endswith("ss"))
        ):
            word = word[: -len(ending)] + rest
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]  # running, stopped
    return word.removesuffix("e")


def facts(text: str) -> set[str]:
    """Stems of the content words."""
    return {stem(word) for word in re.findall(r"[^\W_]+", text.lower()) if word not in EMPTY}


def lost(wanted: Iterable[str], text: str) -> set[str]:
    """Those of the facts that a text does not say."""
    return set(wanted) - facts(text)
