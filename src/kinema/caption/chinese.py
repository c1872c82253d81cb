"""Chinese into tokens: no spaces, so the longest word of the dictionary is taken each time; 在 ... 上 makes a place."""

import re

from kinema.caption.camerawords import camera_in
from kinema.caption.translate import Role, Token
from kinema.caption.words import dictionary, matches

MEASURES = "只条头匹个位名辆架艘朵棵群座片颗本杯块束把对双台列幅张"
NUMBER = re.compile(rf"^(\d+|[一二两三四五六七八九十])\s*(?:[{MEASURES}]|位)")
DROPPED = re.compile(
    r"^(?:正在|正|在|进入|进|着|了|的|地|得|里|中|上|下|是|有|一个|这|那|它|他|她|并|然后|从|向|往|朝|过|被|把|以|用|风格|镜头|视频|画面|背景|场景|\s)"
)
AND = re.compile(r"^(?:和|与|跟|以及|、|及)")
RELATIONS = {"上面": "on", "上": "on", "里面": "in", "里": "in", "中间": "among", "中": "in", "内": "in", "下面": "under", "下": "under",
             "旁边": "next to", "旁": "next to", "前面": "in front of", "前": "in front of", "后面": "behind", "后": "behind",
             "之间": "among", "边": "next to"}  # fmt: skip


def tokens_of(clause: str) -> list[Token]:
    """The tokens of one clause; a clause about the camera is one token."""
    if movement := camera_in(clause, "zh"):
        return [Token("camera", movement)]
    found: list[Token] = []
    inside = False  # after 在
    while clause:
        token, taken = first(clause, inside)
        if taken == 0:
            joined = AND.match(clause)
            taken = joined.end() if joined else 0
            if joined and found:
                found[-1] = Token(found[-1].kind, found[-1].english, "and", found[-1].before)
        if taken == 0:
            dropped = DROPPED.match(clause)
            inside = inside or clause.startswith(("在", "正在", "进"))
            taken = dropped.end() if dropped else 0
        if taken == 0:
            taken = stranger(clause)
            token = Token("unknown", clause[:taken])
        if token:
            found.append(token)
            inside = inside and token.kind in ("colour", "look", "number")
        clause = clause[taken:]
    return found


def first(clause: str, inside: bool) -> tuple[Token | None, int]:
    """The token that a clause begins with and how many letters it takes; (None, 0) where the dictionary has none."""
    if number := NUMBER.match(clause):
        return Token("number", number_of(number[1])), number.end()
    if digits := re.match(r"\d+(?!D)", clause):
        return Token("number", digits[0]), digits.end()
    for word, meaning in matches("zh", clause):
        rest = clause[len(word) :]
        if word == "一" or (word in ("左", "右", "大", "小", "红", "黄", "绿", "蓝", "紫", "白", "灰", "黑") and not rest):
            continue
        if meaning.kind not in ("noun", "place"):
            return Token(meaning.kind, meaning.english), len(word)
        relation = next((name for name in RELATIONS if rest.startswith(name)), "") if inside or meaning.kind == "place" else ""
        role: Role = "place" if inside or meaning.kind == "place" else ""
        return Token(meaning.kind, meaning.english, role, RELATIONS.get(relation, "")), len(word) + len(relation)
    return None, 0


def number_of(word: str) -> str:
    return word if word.isdigit() else next(meaning.english for meaning in dictionary("zh")[word] if meaning.kind == "number")


def stranger(clause: str) -> int:
    """How many letters until something known begins."""
    for taken in range(1, len(clause)):
        rest = clause[taken:]
        if DROPPED.match(rest) or AND.match(rest) or first(rest, False)[1]:
            return taken
    return len(clause)
