"""What people said of clips: kept in SQLite the moment they say it; how far they agree; and what thresholds their word suggests.

Two reviewers judge each clip; where they differ on whether to keep it, a third decides. Criteria are HunyuanVideo's for its fine-tuning
set (arXiv 2412.03603, §3.1): four of the picture, three of the motion.
"""

import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinema.curation.table import MEASUREMENTS, Record, read_table, records_of
from kinema.errors import InputError, MissingExtraError

CRITERIA = {
    "colour": "harmony of colours", "lighting": "light", "emphasis": "the subject stands out", "layout": "layout in space",
    "speed": "speed of motion", "integrity": "actions are whole", "blur": "no motion blur",
}  # fmt: skip
"""Name -> what is asked."""
SCORES = ("bad", "fair", "good")
REVIEWERS = 2
NAME, ADJUDICATED = "labels.sqlite", "adjudicated"
SCHEMA = """
CREATE TABLE IF NOT EXISTS label (
  key TEXT, reviewer TEXT, criterion TEXT, score INTEGER, role TEXT, at REAL, PRIMARY KEY (key, reviewer, criterion)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Judgement:
    """One person's scores of one clip: 0 bad, 1 fair, 2 good. It says keep if nothing is bad."""

    key: str
    reviewer: str
    scores: Mapping[str, int]
    role: str = "reviewer"

    def __post_init__(self) -> None:
        if not self.reviewer.strip() or len(self.reviewer) > 60:
            raise InputError("a reviewer needs a name of 1 to 60 characters")
        if set(self.scores) != set(CRITERIA) or any(score not in range(len(SCORES)) for score in self.scores.values()):
            raise InputError(f"scores {dict(self.scores)} must give 0, 1 or 2 for each of {', '.join(CRITERIA)}")

    @property
    def keep(self) -> bool:
        return min(self.scores.values()) > 0


class Labels:
    """The labels of one dataset. Each call opens the file anew, so that any thread may call."""

    def __init__(self, dataset: Path):
        self.path = dataset / NAME
        with self.opened() as sql:
            sql.executescript(f"PRAGMA journal_mode=WAL; {SCHEMA}")

    def opened(self) -> "Connection":
        return Connection(self.path)

    def add(self, judgement: Judgement) -> None:
        """Written to the disk when this returns; a second word of the same person on the same clip replaces the first."""
        now = time.time()
        rows = [(judgement.key, judgement.reviewer, name, score, judgement.role, now) for name, score in judgement.scores.items()]
        with self.opened() as sql:
            sql.execute("PRAGMA synchronous=FULL")
            sql.execute("BEGIN IMMEDIATE")
            sql.executemany("INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?, ?, ?)", rows)
            sql.execute("COMMIT")

    def by_clip(self) -> dict[str, list[Judgement]]:
        """In the order of time."""
        found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
        with self.opened() as sql:
            for key, reviewer, role, criterion, score in sql.execute("SELECT key, reviewer, role, criterion, score FROM label ORDER BY at"):
                found[key, reviewer, role][criterion] = score
        clips: dict[str, list[Judgement]] = defaultdict(list)
        for (key, reviewer, role), scores in found.items():
            clips[key].append(Judgement(key, reviewer, scores, role))
        return dict(clips)


class Connection:
    """A connection for one block."""

    def __init__(self, path: Path):
        self.sql = sqlite3.connect(path, isolation_level=None, timeout=10)

    def __enter__(self) -> sqlite3.Connection:
        return self.sql

    def __exit__(self, *_: object) -> None:
        self.sql.close()


def verdict(judgements: Sequence[Judgement]) -> bool | None:
    """Whether a clip is kept: the adjudicator's word, else that of reviewers who agree, else None."""
    deciding = [each.keep for each in judgements if each.role == ADJUDICATED]
    if deciding:
        return deciding[-1]
    words = {each.keep for each in judgements}
    return words.pop() if len(judgements) >= REVIEWERS and len(words) == 1 else None


def disputed(judgements: Sequence[Judgement]) -> bool:
    return len(judgements) >= REVIEWERS and verdict(judgements) is None


def verdicts(dataset: Path) -> dict[str, bool]:
    """Clips that people have decided; empty where nobody has looked yet."""
    if not (dataset / NAME).exists():
        return {}
    words = {key: verdict(judgements) for key, judgements in Labels(dataset).by_clip().items()}
    return {key: word for key, word in words.items() if word is not None}


def agreement(labels: Mapping[str, Sequence[Judgement]]) -> dict[str, float | None]:
    """Krippendorff's alpha of each criterion (ordinal) and of keeping (nominal), over reviewers, not adjudicators; None where undefined.

    1 is perfect, 0 is chance; 0.667 is usable, 0.8 good (Krippendorff, Content Analysis).
    """
    reviewed = [[each for each in judgements if each.role != ADJUDICATED] for judgements in labels.values()]
    found = {name: alpha([[each.scores[name] for each in unit] for unit in reviewed], "ordinal") for name in CRITERIA}
    return found | {"keep": alpha([[int(each.keep) for each in unit] for unit in reviewed], "nominal")}


def alpha(units: Sequence[Sequence[int]], scale: Literal["ordinal", "nominal"]) -> float | None:
    """Krippendorff's alpha of values, 0 to 2, given to units by any number of people; None where all are the same or nobody is paired."""
    try:
        import krippendorff
    except ImportError as error:
        raise MissingExtraError("krippendorff", "curate") from error
    counts = np.array([[unit.count(value) for value in range(len(SCORES))] for unit in units if len(unit) > 1])
    if not len(counts) or (counts.sum(0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement=scale))


def wilson(good: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); 0 to 1 where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, slack = good / count, z * z / count
    middle = (share + slack / 2) / (1 + slack)
    half = z * math.sqrt(share * (1 - share) / count + slack / (4 * count)) / (1 + slack)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Suggestion:
    """A threshold at which enough of what passes was kept by people."""

    metric: str
    side: str  # "at least" or "at most"
    threshold: float | None  # None where none reaches the precision
    precision: float
    interval: tuple[float, float]  # Wilson, 95 %
    passed: int  # labelled clips that pass it
    recall: float  # of the clips that people kept

    def line(self) -> str:
        if self.threshold is None:
            return f"{self.metric} {self.side}: no threshold reaches the precision asked for"
        low, high = self.interval
        return (
            f"{self.metric} {self.side} {self.threshold:.5g}: precision {self.precision:.3f} [{low:.3f}, {high:.3f}] "
            f"on {self.passed} clips, recall {self.recall:.3f}"
        )


def suggest(metric: str, side: str, values: np.ndarray, kept: np.ndarray, precision: float) -> Suggestion:
    """The loosest threshold whose passing clips were kept by people at least at `precision`. values: no NaN; kept: bool."""
    signed = values if side == "at least" else -values
    best = Suggestion(metric, side, None, 0.0, (0.0, 1.0), 0, 0.0)
    for bound in sorted(set(signed.tolist())):
        passing = signed >= bound
        good, count = int((passing & kept).sum()), int(passing.sum())
        if good / count >= precision:
            threshold = bound if side == "at least" else -bound
            return Suggestion(metric, side, float(threshold), good / count, wilson(good, count), count, good / max(int(kept.sum()), 1))
    return best


def calibration(dataset: Path, sides: Mapping[str, Sequence[str]], precision: float = 0.95) -> list[Suggestion]:
    """Thresholds from people's verdicts. sides: for each metric, "at least" and/or "at most". Raises InputError without verdicts."""
    decided = verdicts(dataset)
    clips: list[Record] = [clip for clip in records_of(read_table(dataset / MEASUREMENTS)) if clip["key"] in decided]
    if not clips:
        raise InputError(f"{dataset}: nobody has decided on a clip yet: open `kinema curate review {dataset}` with two reviewers first")
    return list(suggestions(clips, decided, sides, precision))


def suggestions(
    clips: Sequence[Record], decided: Mapping[str, bool], sides: Mapping[str, Sequence[str]], precision: float
) -> Iterator[Suggestion]:
    for metric, asked in sides.items():
        known = [clip for clip in clips if clip.get(metric) is not None]
        if known:
            values = np.array([clip[metric] for clip in known], float)
            kept = np.array([decided[clip["key"]] for clip in known], bool)
            for side in asked:
                yield suggest(metric, side, values, kept, precision)


def calibration_lines(dataset: Path, recipe: Any) -> list[str]:
    """For the command line: a line a threshold of the recipe."""
    sides = {
        name: [word for word, side in (("at least", ladder.at_least), ("at most", ladder.at_most)) if side]
        for name, ladder in recipe.ladders().items()
    }
    return [suggestion.line() for suggestion in calibration(dataset, sides)]
