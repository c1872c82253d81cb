"""Written text in the picture, and subtitles, which stand still in its lower quarter.

Found by RapidOCR's PP-OCRv6 detector and confirmed by its recogniser: what cannot be read is no text, however much it looks like it. A word
counts where it is read; one as tall as a house, and two or three letters, only in two frames, for a pair of eyes makes a "60" now and then.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from kinema.errors import MissingExtraError

LONGEST = 640  # pixels: a longer frame is shrunk to this for the detector
SURE, CERTAIN = 0.6, 0.9  # of the recogniser, for words and for what is shorter
WORD, LEGIBLE = 4, 2  # letters or digits
TALLEST = 0.3  # of the frame's height: two letters larger than this are shapes, such as the planks of a barn
SAME_BOX = 0.7  # intersection over union in height and place; a subtitle's width changes with its words
LOWER = 0.75  # of the height: below it text counts as a subtitle
STABLE_SHARE = 0.75  # of the frames read


class Box(NamedTuple):
    """In shares of the frame, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)


@cache
def reader() -> Any:
    """The detector and recogniser, on one thread, kept for the process."""
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise MissingExtraError("rapidocr", "curate") from error
    threads = {f"EngineConfig.onnxruntime.{which}_op_num_threads": 1 for which in ("intra", "inter")}
    limits = {"Det.limit_type": "max", "Det.limit_side_len": LONGEST}
    return RapidOCR(params={"Global.log_level": "critical", "Global.use_cls": False} | threads | limits)


class Reading(NamedTuple):
    """A piece of text in one frame."""

    box: Box
    letters: str  # and digits; nothing else, in lower case
    alone: bool = False  # it counts though no other frame says the same


def legible(letters: str, score: float, height: float) -> bool:
    """height: of the box, as a share of the frame's."""
    return (len(letters) >= WORD and score >= SURE) or (len(letters) >= LEGIBLE and score >= CERTAIN and height <= TALLEST)


def counts_alone(letters: str, score: float, height: float) -> bool:
    """Of what is legible: a word, unless it is so tall that a row of houses may pass for it."""
    return len(letters) >= WORD and (height <= TALLEST or score >= CERTAIN)


def letters_of(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def read_text(frame: UInt8[np.ndarray, "H W 3"]) -> list[Reading]:
    """The text in one frame."""
    found = reader()(np.ascontiguousarray(frame[:, :, ::-1]), use_det=True, use_cls=False, use_rec=True)
    if found.boxes is None or found.txts is None:
        return []
    height, width = frame.shape[:2]
    size = np.array([width, height])
    corners = np.clip(np.asarray(found.boxes) / size, 0, 1)
    boxes = [Box(*each.min(axis=0).tolist(), *each.max(axis=0).tolist()) for each in corners]
    read = zip(boxes, map(letters_of, found.txts), found.scores, strict=True)
    tall = [(box, letters, score, box.bottom - box.top) for box, letters, score in read]
    return [Reading(box, letters, counts_alone(letters, *how)) for box, letters, *how in tall if legible(letters, *how)]


def trusted(frames: Sequence[Sequence[Reading]]) -> list[list[Box]]:
    """Where text is, frame by frame: what counts alone, and the rest where another frame says the same."""
    said = Counter(letters for frame in frames for letters in {reading.letters for reading in frame})
    return [[box for box, letters, alone in frame if alone or said[letters] > 1] for frame in frames]


def covered(boxes: Sequence[Box]) -> float:
    """Share of the frame under the union of some boxes."""
    mask = np.zeros((360, 640), bool)
    for left, top, right, bottom in boxes:
        mask[round(top * 360) : round(bottom * 360), round(left * 640) : round(right * 640)] = True
    return float(mask.mean())


def text_area(boxes: Sequence[Sequence[Box]]) -> float:
    """Mean over the frames read of the share that text covers, 0 to 1. Usual limit: 0.05 and below (Allegro)."""
    return float(np.mean([covered(frame) for frame in boxes])) if boxes else 0.0


def same_line(one: Box, other: Box) -> bool:
    """Whether two boxes lie at one height and over one another."""
    inter = min(one.bottom, other.bottom) - max(one.top, other.top)
    union = max(one.bottom, other.bottom) - min(one.top, other.top)
    return inter >= SAME_BOX * union and min(one.right, other.right) > max(one.left, other.left)


def subtitle_top(boxes: Sequence[Sequence[Box]]) -> float | None:
    """Where the subtitles begin, as a share of the height; None where no line of the lower quarter stays through most of the frames."""
    if len(boxes) < 2:
        return None
    tops = []
    for line in (box for frame in boxes for box in frame if box.top >= LOWER):
        seen = sum(any(same_line(line, box) for box in frame) for frame in boxes)
        if seen >= STABLE_SHARE * len(boxes):
            tops.append(line.top)
    return min(tops, default=None)
