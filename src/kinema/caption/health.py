"""What can be seen to be wrong with a caption's text without a model: the counters of cosmos-curator (NVIDIA, 2025), by their rules."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from kinema.records import Caption

FLAGS: dict[str, str] = {
    "empty": "there is no text",
    "sentinel": "the text stands for a failure, or is the model talking of itself",
    "too_short": "fewer than 4 words",
    "too_long": "more than 1,024 words",
    "repeated_word": "one word is half of the text, or more",
    "repeated_phrase": "the same three words come three times",
    "few_words": "fewer than two fifths of the words differ",
    "near_duplicate": "another caption has nine tenths of the same words",
}
"""The closed vocabulary."""

FEWEST, MOST = 4, 1024  # words
WORD_SHARE, WORD_FROM = 0.5, 6  # of texts this long
PHRASE_TIMES = 3
DISTINCT_SHARE, DISTINCT_FROM = 0.4, 8
SAME_SHARE = 0.9  # Jaccard, of sets of words
SENTINEL = re.compile(
    r"^\W*(?:n/?a|none|null|nil|unknown|error|todo|caption|string|no (?:caption|description)(?: available)?)\W*$"
    r"|\bas an ai\b|\blanguage model\b|\bi(?:'m| am) (?:sorry|unable)\b|\bi (?:cannot|can't)\b",
    re.IGNORECASE,
)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)?", text.lower())


def health(text: str) -> tuple[str, ...]:
    """The flags of one text; none for a sound one. Near-duplicates need the others: see `near_duplicates`."""
    words = words_of(text)
    if not words:
        return ("empty",)
    phrases = Counter(zip(words, words[1:], words[2:], strict=False))
    found = {
        "sentinel": bool(SENTINEL.search(text)),
        "too_short": len(words) < FEWEST,
        "too_long": len(words) > MOST,
        "repeated_word": len(words) >= WORD_FROM and Counter(words).most_common(1)[0][1] >= WORD_SHARE * len(words),
        "repeated_phrase": max(phrases.values(), default=0) >= PHRASE_TIMES,
        "few_words": len(words) >= DISTINCT_FROM and len(set(words)) < DISTINCT_SHARE * len(words),
    }
    return tuple(flag for flag, is_so in found.items() if is_so)


def caption_health(caption: Caption) -> tuple[str, ...]:
    """The flags of the short and the dense text together, in the order of FLAGS; an empty dense text is none."""
    found = {*health(caption.short), *(health(caption.dense) if caption.dense else ())}
    return tuple(flag for flag in FLAGS if flag in found)


def near_duplicates(texts: Sequence[str]) -> list[int | None]:
    """For each text the first earlier one whose set of words is at least nine tenths the same; None where there is none.

    Exact, without comparing all pairs: two such sets must share one of their few rarest words.
    """
    sets = [frozenset(words_of(text)) for text in texts]
    often = Counter(word for words in sets for word in words)
    index: dict[str, list[int]] = defaultdict(list)
    found: list[int | None] = []
    for number, words in enumerate(sets):
        rare = sorted(words, key=lambda word: (often[word], word))[: len(words) - int(-(-SAME_SHARE * len(words) // 1)) + 1]
        before = sorted({other for word in rare for other in index[word]})
        found.append(next((other for other in before if jaccard(words, sets[other]) >= SAME_SHARE), None))
        for word in rare:
            index[word].append(number)
    return found


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def counted(flags: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many captions have each flag; "sound" are those that have none."""
    seen = Counter(flag for each in flags for flag in each)
    return {"sound": sum(not each for each in flags)} | {flag: seen[flag] for flag in FLAGS}
