"""A small dictionary of what the world shows, in English, Korean and Chinese (`words.tsv`, made by hand), and words of a language."""

import csv
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

Language = Literal["en", "ko", "zh"]
TABLE = Path(__file__).with_name("words.tsv")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
HANGUL, HAN = re.compile(r"[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]"), re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
SYLLABLES, FINALS = 0xAC00, 28  # Hangul's block, and how many finals (none among them) a syllable may have
ADDED_FINALS = (4, 8, 17)  # the finals n, l and b, with which verbs go on: 달리- makes 달린다, 달릴, 달립니다


class Word(NamedTuple):
    """kind: noun, place, colour, look, number, verb, adverb, direction, style, shot, light, weather, mood."""

    kind: str
    english: str


def language_of(text: str) -> Language:
    """By script: any Hangul is Korean, otherwise any Han is Chinese, everything else is taken for English."""
    if HANGUL.search(text):
        return "ko"
    return "zh" if HAN.search(text) else "en"


@cache
def dictionary(language: Literal["ko", "zh"]) -> dict[str, list[Word]]:
    """What each word may mean; more than one meaning where kinds differ, in the order of the table."""
    column, found = {"ko": "korean", "zh": "chinese"}[language], dict[str, list[Word]]()
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            for word in row[column].split("|"):
                for form in [word, *(closed(word) if row["kind"] == "verb" and language == "ko" else ())]:
                    found.setdefault(form, []).append(Word(row["kind"], row["english"]))
    return found


def closed(stem: str) -> list[str]:
    """The forms of a Korean stem that ends in a vowel."""
    if (ord(stem[-1]) - SYLLABLES) % FINALS:
        return []
    return [stem[:-1] + chr(ord(stem[-1]) + final) for final in ADDED_FINALS]


@cache
def longest(language: Literal["ko", "zh"]) -> int:
    return max(map(len, dictionary(language)))


def matches(language: Literal["ko", "zh"], text: str) -> Iterator[tuple[str, Word]]:
    """Words that the text begins with, the longest first."""
    known = dictionary(language)
    for length in range(min(longest(language), len(text)), 0, -1):
        for word in known.get(text[:length], ()):
            yield text[:length], word


@cache
def words_of_kind(kind: str) -> frozenset[str]:
    """All English words of a kind."""
    with TABLE.open(encoding="utf-8") as file:
        return frozenset(row["english"] for row in csv.DictReader(file, delimiter="\t") if row["kind"] == kind)
