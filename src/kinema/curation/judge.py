"""How well the filters find what was planted (`planted.py`), and cuts that a person marked: recall, precision, F1.

A filter's decision is that of the recipe's first tier. Two filters look at text: a mark made of words is not held against the text
filter, nor a subtitle against the watermark filter. Measurements are kept beside the clips, so that a changed threshold costs nothing.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinema.curation.duplicates import Duplicates
from kinema.curation.measure import BlackBorders, Clarity, Embedding, Fingerprint, Geometry, Movement, Text, Watermark
from kinema.curation.operator import Item, Measurement, Rejection, Table, Vector
from kinema.curation.planted import known
from kinema.curation.recipe import Thresholds
from kinema.curation.shots import NEAR, Transition, analyse, transitions

OPERATORS = (Geometry(), BlackBorders(), Clarity(), Movement(), Text(), Watermark(), Fingerprint(), Embedding())
MEASURED = "measured.jsonl"
HARD_SLACK = 1  # frames by which a planted or marked cut may be missed
Row = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """Counts of one filter."""

    right: int
    missed: int
    wrong: int

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.missed + self.wrong)


def measure(path: Path) -> Row:
    """Everything that is needed to judge a clip; plain JSON."""
    item = Item(path.stem, path, "clip", is_cut=True)
    row: Row = {"name": path.name}
    for operator in OPERATORS:
        for found in operator.run(item, {}):
            if isinstance(found, Measurement):
                row[found.name] = found.value
            elif isinstance(found, Vector):
                row["embedding"] = [round(value, 5) for value in found.values]
    row["transitions"] = [list(each) for each in transitions(analyse(Item(path.stem, path, "source")))]
    return row


def measured(folder: Path) -> list[Row]:
    """All clips of a folder with their truth; what was measured before is read."""
    store = folder / MEASURED
    rows = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    there = {row["name"]: row for row in rows}
    found = []
    for truth in known(folder):
        if truth["name"] not in there:
            there[truth["name"]] = measure(folder / truth["name"])
            with store.open("a") as file:
                file.write(json.dumps(there[truth["name"]]) + "\n")
        found.append(there[truth["name"]] | truth)
    return found


def beyond(name: str) -> Callable[[Row], bool]:
    """Whether the first tier refuses a clip for one value; NULL is refused."""
    ladder = getattr(Thresholds(), name)
    least, most = (bounds[0] if bounds else None for bounds in (ladder.at_least, ladder.at_most))

    def refused(row: Row) -> bool:
        value = row[name]
        return value is None or (least is not None and value < least) or (most is not None and value > most)

    return refused


def has_text(row: Row) -> bool:
    """Refused for its text, or cropped for its subtitles."""
    return beyond("text_area")(row) or row["subtitle_top"] < 1


FILTERS: dict[str, tuple[Callable[[Row], bool], str]] = {
    "blur": (beyond("blur"), ""),
    "text": (has_text, "mark"),
    "mark": (beyond("watermark"), "text"),
    "border": (beyond("border_area"), ""),
    "still": (beyond("frozen"), ""),
}
"""For each fault the decision, and the fault that may be taken for it."""


def count(truths: Iterable[bool], decisions: Iterable[bool]) -> Score:
    pairs = list(zip(truths, decisions, strict=True))
    return Score(pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)))


def of_faults(rows: Sequence[Row]) -> dict[str, Score]:
    """Scores of the filters that look at one clip."""
    scores = {}
    for fault, (decide, spared) in FILTERS.items():
        asked = [row for row in rows if row["fault"] != spared]
        scores[fault] = count([row["fault"] == fault for row in asked], [decide(row) for row in asked])
    return scores


def of_duplicates(rows: Sequence[Row]) -> Score:
    """A near-duplicate is found where it is thrown away, and for the clip that it repeats."""
    items = tuple(Item(row["name"], Path(row["name"]), "clip") for row in rows)
    columns: Mapping[str, list[Any]] = {
        name: [row.get(name) for row in rows] for name in ("width", "height", "seconds", "fingerprint", "file")
    }
    table = Table(items, columns, {"embedding": np.array([row["embedding"] for row in rows], np.float32)})
    verdicts = Duplicates().run_set(table)
    out = {key: found for key, rows_ in verdicts.items() for found in rows_ if isinstance(found, Rejection)}
    return count([row["fault"] == "duplicate" for row in rows], [row["name"] in out for row in rows])


def matched(found: Sequence[Transition], marks: Sequence[Transition], slack: int) -> Score:
    """Each mark answers for one find that touches it, to within `slack` frames."""
    left, right = list(found), 0
    for mark in marks:
        touching = [each for each in left if each.start <= mark.end + slack and each.end >= mark.start - slack]
        if touching:
            right += 1
            left.remove(touching[0])
    return Score(right, len(marks) - right, len(left))


def of_transitions(found: Sequence[Transition], marks: Sequence[Transition]) -> dict[str, Score]:
    """Cuts and fades apart: a find that belongs to the other kind is not held against either."""
    hard, soft = ([mark for mark in marks if (mark.start == mark.end) == is_cut] for is_cut in (True, False))
    scores = {}
    for name, mine, others in (("cut", hard, soft), ("fade", soft, hard)):
        slack = HARD_SLACK if name == "cut" else NEAR
        kind = [each for each in found if each.is_hard == (name == "cut") or matched([each], mine, slack).right]
        stray = [each for each in kind if matched([each], others, NEAR).right and not matched([each], mine, slack).right]
        scores[name] = matched([each for each in kind if each not in stray], mine, slack)
    return scores


def total(scores: Iterable[Score]) -> Score:
    every = list(scores)
    return Score(*(sum(getattr(score, name) for score in every) for name in ("right", "missed", "wrong")))


def of_cuts(rows: Sequence[Row]) -> dict[str, Score]:
    each = []
    for row in rows:
        marks = [Transition(row["cut"], row["cut"])] if "cut" in row else [Transition(*row["fade"])] if "fade" in row else []
        each.append(of_transitions([Transition(*found) for found in row["transitions"]], marks))
    return {kind: total(scores[kind] for scores in each) for kind in ("cut", "fade")}


@dataclass(frozen=True)
class Marks:
    """A film's transitions as a person saw them, and the stretches that were looked at; frames."""

    transitions: list[Transition]
    stretches: list[tuple[int, int]]

    @classmethod
    def read(cls, path: Path) -> "Marks":
        """Lines start,end,kind; # begins a comment, # stretch START END a stretch."""
        lines = path.read_text().splitlines()
        looked = [tuple(map(int, line.split()[2:])) for line in lines if line.startswith("# stretch")]
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return cls([Transition(int(row["start"]), int(row["end"])) for row in rows], looked)  # type: ignore[arg-type]


def of_film(path: Path, marks: Marks, fps: float) -> dict[str, Score]:
    """How well the cuts of a film are found within the marked stretches."""
    each = []
    for start, end in marks.stretches:
        part = Item(f"{path}-{start}", path, "source", start=start, end=end, start_s=start / fps, end_s=end / fps)
        found = [Transition(one + start, other + start) for one, other in transitions(analyse(part))]
        each.append(of_transitions(found, [mark for mark in marks.transitions if start <= mark.start < end]))
    return {kind: total(scores[kind] for scores in each) for kind in ("cut", "fade")}


def table(scores: Mapping[str, Score]) -> str:
    lines = [f"{'':<12}{'recall':>8}{'precision':>11}{'F1':>8}{'right':>7}{'missed':>8}{'wrong':>7}"]
    for name, each in scores.items():
        rates = f"{each.recall:>8.3f}{each.precision:>11.3f}{each.f1:>8.3f}"
        lines.append(f"{name:<12}{rates}{each.right:>7}{each.missed:>8}{each.wrong:>7}")
    return "\n".join(lines)


def score(folder: Path) -> str:
    """A table for people; the counts also go to scores.json beside the clips."""
    rows = measured(folder)
    scores = of_faults(rows) | {"duplicate": of_duplicates(rows)} | of_cuts(rows)
    (folder / "scores.json").write_text(json.dumps({"clips": len(rows)} | {name: asdict(each) for name, each in scores.items()}, indent=1))
    return f"{len(rows)} clips\n{table(scores)}"
