"""Korean and Chinese prompts into English without a model: words by the dictionary, order by a few rules of grammar.

It reads short prompts about what the world shows: who, how many, of what colour, does what, where, which way, in what light and style, with
what camera. Each clause becomes tokens (in `korean.py` and `chinese.py`), and the tokens one English clause here. A word that the
dictionary does not have is kept as it is, so that nothing is lost without a trace.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from kinema.world.grammar import conjugated, correct_articles, join_and, sentence, with_article

Role = Literal["", "object", "place", "and"]
RANKS = ("adverb", "direction", "place")
IRREGULAR = {"man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice", "sheep": "sheep",
             "fish": "fish",
             "deer": "deer", "wolf": "wolves", "leaf": "leaves", "goat": "goats", "family": "families",
             "bread": "bread", "water": "water"}  # fmt: skip
UNCOUNTED = ("water", "bread", "milk", "coffee", "ice cream", "Santa Claus")


@dataclass(frozen=True)
class Token:
    """One word of a clause.

    kind: as in Word, or "camera", "unknown". role: what its particle or preposition makes of it; "and": another follows.
    before: the English preposition of a place, such as "on", where the language says it.
    """

    kind: str
    english: str
    role: Role = ""
    before: str = ""


@dataclass
class Phrase:
    """A noun with what belongs to it."""

    number: str = ""
    looks: list[str] = field(default_factory=list)
    noun: str = ""
    joined: bool = False  # "and" follows

    @property
    def plural(self) -> bool:
        return self.number not in ("", "one", "1")

    def __str__(self) -> str:
        noun = plural_of(self.noun) if self.plural else self.noun
        words = " ".join([*self.looks, noun])
        if self.plural:
            return f"{self.number} {words}"
        if self.number:
            return f"one {words}" if self.number == "1" else f"{correct_articles('a ' + words)}"
        return words if self.noun in UNCOUNTED or not self.noun.isascii() else with_article(words)


@dataclass
class Event:
    """One thing that is done: its verb and what goes with it."""

    verb: str = ""
    objects: list[Phrase] = field(default_factory=list)
    after: list[tuple[int, str]] = field(default_factory=list)  # adverbs, directions and places, by their rank in English

    def english(self, plural: bool) -> str:
        verb = conjugated(self.verb, plural, False) if self.verb else ""
        after = [words for _, words in sorted(self.after, key=lambda ranked: ranked[0])]
        return " ".join(part for part in (verb, join_phrases(self.objects), *after) if part)


def plural_of(noun: str) -> str:
    *first, last = noun.split(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "es" if re.search(r"(s|x|z|ch|sh)$", last) else "s"
    return " ".join([*first, last])


def join_phrases(phrases: Sequence[Phrase]) -> str:
    return join_and([str(phrase) for phrase in phrases]) if phrases else ""


def located(token: Token, looks: Sequence[str]) -> str:
    """ "in the green forest"; a plain noun gets its preposition, or "at"."""
    if token.kind == "place":
        before, _, noun = token.english.partition(" the ") if " the " in token.english else ("in", "", token.english.removeprefix("in "))
        if token.english in ("under water", "in space"):
            return token.english
        before = token.before if token.before not in ("", "on", "in", "among") else before
    else:
        before, noun = token.before or "at", token.english
    return " ".join([before, "the", *looks, noun])


class Clause:
    """Builds one English clause out of tokens, one after another."""

    def __init__(self, verb_last: bool):
        """verb_last: objects come before their verb, as in Korean; otherwise after it."""
        self.verb_last = verb_last
        self.subjects: list[Phrase] = []
        self.events: list[Event] = []
        self.pending = Event()
        self.phrase = Phrase()
        self.asides: list[str] = []

    def add(self, token: Token) -> None:
        if token.kind == "number":
            self.phrase.number = token.english
        elif token.kind in ("colour", "look"):
            self.phrase.looks.append(token.english)
        elif token.kind in ("noun", "place", "unknown"):
            self.name(token)
        elif token.kind == "verb":
            self.act(token.english)
        elif token.kind in ("adverb", "direction"):
            self.current().after.append((RANKS.index(token.kind), token.english))
        else:
            self.asides.append(token.english)

    def name(self, token: Token) -> None:
        if token.role == "place":
            self.current().after.append((RANKS.index("place"), located(token, self.phrase.looks)))
            self.phrase = Phrase()
            return
        noun = token.english.split(" the ")[-1] if token.kind == "place" else token.english
        self.phrase.noun, self.phrase.joined = noun, token.role == "and"
        objects = self.current().objects
        is_object = token.role == "object" or (not self.verb_last and bool(self.events)) or (bool(objects) and objects[-1].joined)
        (objects if is_object else self.subjects).append(self.phrase)
        self.phrase = Phrase()

    def act(self, verb: str) -> None:
        if self.events and self.events[-1].verb == verb and self.pending == Event():
            return
        self.pending.verb = verb
        self.events.append(self.pending)
        self.pending = Event()

    def current(self) -> Event:
        return self.events[-1] if self.events and not self.verb_last else self.pending

    def english(self) -> str:
        """Without capital and full stop."""
        plural = len(self.subjects) > 1 or any(subject.plural for subject in self.subjects)
        left = [*self.phrase.looks, *([self.phrase.number] if self.phrase.number else [])]
        rest = Event(objects=self.pending.objects, after=self.pending.after)
        does = join_and([event.english(plural) for event in self.events]) if self.events else ""
        main = " ".join(part for part in (join_phrases(self.subjects), does, rest.english(plural), *left) if part)
        return ", ".join(part for part in (main, *self.asides) if part)


def translate(text: str, language: Literal["ko", "zh"]) -> str:
    """A prompt in Korean or Chinese as English sentences."""
    from kinema.caption.chinese import tokens_of as chinese
    from kinema.caption.korean import tokens_of as korean

    said = []
    for part in re.split(r"[.。!！?？\n]+", text):
        clauses = []
        for piece in re.split(r"[,，;；:：]|(?<=[고며서])\s+(?=카메라)", part):
            clause = Clause(verb_last=language == "ko")
            for token in korean(piece) if language == "ko" else chinese(piece):
                clause.add(token)
            clauses.append(clause.english())
        if any(clauses):
            said.append(sentence(", ".join(clause for clause in clauses if clause)))
    return " ".join(said)
