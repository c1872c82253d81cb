"""Korean into tokens: words stand between spaces, each with its particles; counters follow their number, verbs their objects."""

import re
from collections.abc import Iterator

from kinema.caption.camerawords import camera_in
from kinema.caption.translate import Role, Token
from kinema.caption.words import Word, dictionary, matches

PARTICLES: dict[str, Role] = {
    "을": "object", "를": "object",
    "에서는": "place", "에서": "place", "에는": "place", "에": "place", "위로": "place",
    "와": "and", "과": "and", "하고": "and", "이랑": "and", "랑": "and",
    "이": "", "가": "", "은": "", "는": "", "의": "", "도": "", "들이": "", "들은": "", "들": "", "들을": "object", "들과": "and",
    "으로": "", "로": "", "이다": "", "만": "", "께서": "", "풍": "", "이며": "", "인": "", "색": "", "색의": "", "빛": "", "빛의": "",
}  # fmt: skip
RELATIONS = {
    "위": "on", "위에서": "on", "위에": "on", "위를": "over", "안에서": "in", "안에": "in", "속에서": "in", "속에": "in", "속": "in",
    "아래": "under", "아래에서": "under", "아래에": "under", "밑에서": "under", "밑에": "under", "옆에서": "next to", "옆에": "next to",
    "앞에서": "in front of", "앞에": "in front of", "뒤에서": "behind", "뒤에": "behind", "사이에서": "among", "사이로": "among",
    "주위를": "around", "향해": "towards", "근처에서": "near",
}  # fmt: skip
COUNTER = re.compile(
    r"^(\d+|[한두세네]|다섯|여섯|일곱|여덟|아홉|열)\s*(마리|명|대|개|송이|그루|척|켤레|채|권|잔|쌍|사람)(?:의|가|이|은|는|를|을|와|과)?$"
)
FILLERS = re.compile(r"^(?:있다|있는|있습니다|있어요|있고|있음|한다|합니다|하는|하며|하고|그리고|그|이|저|"
                     r"영상|비디오|모습|장면|채로|채|가지고|깡충깡충|"
                     r"배경|배경으로|스타일|스타일로|느낌|샷|카메라)(?:의|을|를|이|가|은|는|으로|에서|입니다)?$")  # fmt: skip
ENDING_KINDS = ("verb", "adverb", "direction", "style", "shot", "light", "weather", "mood")


def tokens_of(clause: str) -> list[Token]:
    """The tokens of one clause; a clause about the camera is one token."""
    if movement := camera_in(clause, "ko"):
        return [Token("camera", movement)]
    return list(phrases(clause.split()))


def phrases(words: list[str]) -> Iterator[Token]:
    position = 0
    while position < len(words):
        taken, found = several(words, position)
        if not taken:
            taken, found = 1, single(words[position])
        if found and found[-1].kind in ("noun", "place", "unknown"):
            more, found = related(words, position + taken, found)
            taken += more
        yield from found
        position += taken


def several(words: list[str], position: int) -> tuple[int, list[Token]]:
    """An entry of the dictionary that has spaces in it, the longest first; (0, []) where there is none."""
    for length in (4, 3, 2):
        text = " ".join(words[position : position + length])
        if text.count(" ") != length - 1:
            continue
        if COUNTER.match(text):
            return length, single(text)
        for word, meaning in matches("ko", text):
            if word.count(" ") == length - 1 and (role := role_of(meaning, text[len(word) :])) is not None:
                return length, [Token(meaning.kind, meaning.english, role)]
    return 0, []


def related(words: list[str], position: int, found: list[Token]) -> tuple[int, list[Token]]:
    """A noun followed by its number, or by a word of place such as 위에서 "on"."""
    if position < len(words) and words[position] in RELATIONS:
        last = found[-1]
        return 1, [*found[:-1], Token(last.kind, last.english, "place", RELATIONS[words[position]])]
    for length in (2, 1):
        text = " ".join(words[position : position + length])
        if text.count(" ") == length - 1 and (number := COUNTER.match(text)):
            role: Role = {"를": "object", "을": "object", "와": "and", "과": "and"}.get(text[-1], found[-1].role)  # type: ignore[assignment]
            last = Token(found[-1].kind, found[-1].english, role)
            return length, [*found[:-1], Token("number", number_in(number[1])), last]
    return 0, found


def number_in(word: str) -> str:
    return word if word.isdigit() else next(meaning.english for meaning in dictionary("ko")[word] if meaning.kind == "number")


def single(word: str) -> list[Token]:
    """What stands between two spaces."""
    if number := COUNTER.match(word):
        return [Token("number", number_in(number[1]))]
    if word.isdigit():
        return [Token("number", word)]
    if word not in dictionary("ko") and FILLERS.match(word):
        return []
    return split(word) or unknown(word)


def split(word: str) -> list[Token]:
    """Words of the dictionary and a particle; [] where it does not come out even."""
    for text, meaning in matches("ko", word):
        rest = word[len(text) :]
        if (role := role_of(meaning, rest)) is not None:
            return [Token(meaning.kind, meaning.english, role)]
        if meaning.kind in ("noun", "colour", "look", "place") and (more := split(rest)):
            return [Token(meaning.kind, meaning.english), *more]
    return []


def role_of(meaning: Word, rest: str) -> Role | None:
    """What the letters after a word make of it; None where they are no ending of its kind."""
    if meaning.kind == "verb":
        return ""
    if meaning.kind in ENDING_KINDS:
        return "" if rest in ("", "의", "에", "로", "으로", "이", "가", "은", "는", "에서", "을", "를", "한", "인", "의") else None
    if meaning.kind == "place" and rest in ("", "으로", "로", "을", "를"):
        return "place"
    return "" if not rest else PARTICLES.get(rest)


def unknown(word: str) -> list[Token]:
    """Kept as it is, without its particle."""
    ending = next((end for end in sorted(PARTICLES, key=len, reverse=True) if word.endswith(end) and len(word) > len(end) + 1), "")
    stem = word[: len(word) - len(ending)] if ending else word
    return [Token("unknown", stem, PARTICLES.get(ending, ""))]
