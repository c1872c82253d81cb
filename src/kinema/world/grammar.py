"""Small English: articles, number, verb forms, and how a subject is named."""

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from kinema.world.sprites import Subject

T = TypeVar("T")

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "gray", "grey", "black", "brown", "blond", "golden")
_MANY = {"people", "men", "women", "children", "kids", "dads", "moms", "two"}
_ONE = {"rhinoceros", "thumbs", "Rex", "headphones", "Christmas", "Paris"}
_NO_ARTICLE = re.compile(
    "Santa Claus|Mrs. Claus|fog|mist|mount fuji|bread|bacon|garlic|salt|butter|ice|spaghetti|popcorn|cooked rice|curry rice|sushi|soap|"
    "yarn|dna|broccoli|coral|fire|sake|oden"
)
_AFTER_HEAD = re.compile(
    r"[,;]| (?:with|without|of|in|on|at|to|from|for|behind|inside|that|who|and|surrounded|smiling through|holding|showing|wearing|riding|"
    r"playing|doing|getting|having|using|blowing|raising|feeding|licking|rolling|taking|making|saying|carrying|pulling|lifting|rowing|"
    r"surfing|swimming|golfing|running|dancing|juggling|meditating|covering|waving|pointing|fluttering|breathing|throwing)\b"
)
_PERSON = re.compile(r"\b(man|woman|person|boys?|girls?|men|women|couple|mother|father|people|adults|heads?|faces?|body|blonds|hands?)\b")
_AN = re.compile(r"\b([Aa]) (?=(?:[aeio]|u(?!ni|se|su|til|k|ra)|hour|honest|SUV|OK|[xX]-)(?!ne[- ]|uro|U\b))", re.IGNORECASE)
_DOUBLED = ("run", "hop", "swim", "spin", "zigzag", "get", "step", "flip", "drop")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]


def chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def is_plural(noun: str) -> bool:
    """Whether a noun phrase takes a plural verb: "clapping hands", "mother, father and son", but "pair of hearts"."""
    words = noun.split()
    if words[0].lower() in _MANY or re.match(r"(father|mother)(,| and)", noun):
        return True
    head = _AFTER_HEAD.split(noun)[0].split()[-1]
    if head.lower() in _MANY:
        return True
    return bool(re.search(r"[^suio]s$", head)) and not any(head.endswith(one) for one in _ONE)


def with_article(noun: str) -> str:
    """ "cat" -> "a cat"; plural nouns and names stay bare."""
    if is_plural(noun) or _NO_ARTICLE.fullmatch(noun) or re.match(r"(an?|the|some) ", noun, re.IGNORECASE):
        return noun
    return f"the {noun}" if noun == "Statue of Liberty" else correct_articles(f"a {noun}")


def correct_articles(text: str) -> str:
    """a -> an before a vowel that is heard: "a orange wall" -> "an orange wall", but "a unicorn"."""
    return _AN.sub(lambda match: "An " if match[1] == "A" else "an ", text)


def third_person(verb: str) -> str:
    """ "fly" -> "flies"; only the first word of a phrase changes."""
    first, _, rest = verb.partition(" ")
    if re.search(r"[^aeiou]y$", first):
        first = first[:-1] + "ies"
    else:
        first += "es" if re.search(r"(s|x|z|ch|sh|o)$", first) else "s"
    return f"{first} {rest}".strip()


def present_participle(verb: str) -> str:
    """ "run" -> "running"; only the first word of a phrase changes."""
    first, _, rest = verb.partition(" ")
    if first in _DOUBLED:
        first += first[-1]
    elif first.endswith("e") and not first.endswith("ee"):
        first = first[:-1]
    return f"{first}ing {rest}".strip()


def conjugated(verb: str, plural: bool, progressive: bool) -> str:
    """ "walk" -> "walks", "walk", "is walking" or "are walking"."""
    if progressive:
        return ("are " if plural else "is ") + present_participle(verb)
    return verb if plural else third_person(verb)


def sentence(text: str) -> str:
    """Capitalised, articles right, one full stop."""
    text = correct_articles(re.sub(r"\s+", " ", text)).strip().rstrip(".")
    return text[:1].upper() + text[1:] + "."


def join_and(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _colored(subject: Subject, noun: str) -> str:
    """ "orange cat", where the subject is of one main colour and its noun does not say so."""
    plain = subject.kind in ("animal", "vehicle", "object", "drink", "plant", "building") and subject.colors
    return f"{subject.colors[0]} {noun}" if plain and not any(color in noun.lower() for color in COLORS) else noun


def name(subject: Subject, rng: np.random.Generator, plain: bool = False) -> str:
    """What a person would call the subject, without article: its noun or, unless `plain`, a synonym or a coloured noun."""
    if not plain and subject.also and chance(rng, 0.3):
        return pick(rng, subject.also)
    return _colored(subject, subject.noun) if not plain and chance(rng, 0.25) else subject.noun


def described(subject: Subject) -> str:
    """The noun with the subject's look: "a poodle, a gray poodle with white fluffy puffs", "a man meditating with short blond hair"."""
    noun, look = subject.noun, subject.look
    if not look:
        return with_article(noun)
    first, *more = look.removeprefix("one ").split(", ")
    head = noun.split()[-1]
    if noun not in first and head in first.split() and head not in ("up", "down") and not _AFTER_HEAD.search(noun):
        first = re.sub(rf"\b{re.escape(head)}\b", noun, first, count=1)
    if noun in first:
        joint = "," if _AFTER_HEAD.search(first) else " with"
        return f"{with_article(first)}{joint} {join_and(more)}" if more else with_article(first)
    if subject.kind in ("person", "creature") and not _PERSON.search(first):
        return f"{with_article(noun)} with {join_and([first, *more])}"
    return f"{with_article(noun)}, {look},"
