"""Raters, what they were shown, and what they said: one SQLite file, written through to the disk before a vote is confirmed."""

import csv
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import InputError

SCHEMA = """
CREATE TABLE IF NOT EXISTS raters (id TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
  id INTEGER PRIMARY KEY, rater TEXT NOT NULL REFERENCES raters, kind TEXT NOT NULL, prompt INTEGER NOT NULL,
  left TEXT NOT NULL, right TEXT NOT NULL, shown REAL NOT NULL, answered REAL);
CREATE TABLE IF NOT EXISTS votes (
  task INTEGER NOT NULL REFERENCES tasks, axis TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (task, axis));
CREATE INDEX IF NOT EXISTS by_rater ON tasks (rater, answered);
"""
PAIR_ANSWERS = ("left", "same", "right")
SINGLE_ANSWERS = ("yes", "no")
COLUMNS = ("task", "rater", "kind", "prompt", "left", "right", "axis", "answer", "seconds")


@dataclass(frozen=True)
class Task:
    """What one rater is shown: two videos of a prompt, or one (then `right` is empty).

    kind: pair, single, repeat (a pair seen before, sides exchanged), check (one side is ruined).
    """

    id: int
    rater: str
    kind: str
    prompt: int
    left: str
    right: str


@dataclass(frozen=True)
class Vote:
    """One answer: about models `left` and `right` of a prompt, on one axis."""

    task: int
    rater: str
    kind: str
    prompt: int
    left: str
    right: str
    axis: str
    answer: str
    seconds: float  # from shown to answered


class Votes:
    """The votes of a study. Every method is one transaction; many processes may call at once."""

    def __init__(self, path: Path):
        self.path = path
        with self.transaction() as db:
            db.execute("PRAGMA journal_mode=WAL")
        with self.transaction() as db:
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits at the end, with the data on the disk; rolls back on an error."""
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            in_wal = db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            if in_wal:
                db.execute("BEGIN IMMEDIATE")
            yield db
            if in_wal:
                db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            db.close()

    def add_rater(self, rater: str, name: str) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO raters VALUES (?, ?, ?)", (rater, name, time.time()))

    def knows(self, rater: str) -> bool:
        with self.transaction() as db:
            return db.execute("SELECT 1 FROM raters WHERE id = ?", (rater,)).fetchone() is not None

    def open_task(self, rater: str) -> Task | None:
        """What the rater was shown and has not answered yet."""
        with self.transaction() as db:
            row = db.execute(f"{TASK} WHERE rater = ? AND answered IS NULL ORDER BY id", (rater,)).fetchone()
            return row and Task(*row)

    def tasks(self) -> list[Task]:
        with self.transaction() as db:
            return [Task(*row) for row in db.execute(f"{TASK} ORDER BY id")]

    def answer(self, task: int, rater: str, answers: dict[str, str]) -> bool:
        """Record all answers to a task at once; False where it was answered before (a repeated request changes nothing).

        Raises InputError for a task that was not shown to this rater.
        """
        with self.transaction() as db:
            row = db.execute("SELECT answered FROM tasks WHERE id = ? AND rater = ?", (task, rater)).fetchone()
            if row is None:
                raise InputError(f"task {task} was not shown to this rater")
            if row[0] is not None:
                return False
            db.executemany("INSERT INTO votes VALUES (?, ?, ?)", [(task, axis, answer) for axis, answer in answers.items()])
            db.execute("UPDATE tasks SET answered = ? WHERE id = ?", (time.time(), task))
            return True

    def all(self) -> list[Vote]:
        with self.transaction() as db:
            return [Vote(*row) for row in db.execute(VOTE)]

    def export(self, path: Path) -> int:
        """All votes as CSV; returns how many."""
        votes = self.all()
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([getattr(vote, name) for name in COLUMNS] for vote in votes)
        return len(votes)


TASK = "SELECT id, rater, kind, prompt, left, right FROM tasks"
VOTE = """SELECT t.id, t.rater, t.kind, t.prompt, t.left, t.right, v.axis, v.answer, t.answered - t.shown
FROM votes v JOIN tasks t ON t.id = v.task ORDER BY t.id, v.axis"""


def read_votes(path: Path) -> list[Vote]:
    """Votes from a CSV with the columns of `Votes.export`, whoever wrote it.

    Raises InputError where a column is missing or an answer is unknown.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        missing = set(COLUMNS) - set(table.fieldnames or ())
        if missing:
            raise InputError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        return [vote_of(row, f"{path}, line {table.line_num}") for row in table]


def vote_of(row: dict[str, str], place: str) -> Vote:
    if row["answer"] not in PAIR_ANSWERS + SINGLE_ANSWERS:
        raise InputError(f"{place}: answer={row['answer']!r} must be one of {', '.join(PAIR_ANSWERS + SINGLE_ANSWERS)}")
    try:
        numbers = {"task": int(row["task"]), "prompt": int(row["prompt"]), "seconds": float(row["seconds"])}
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
    return Vote(**{**{name: row[name] for name in COLUMNS}, **numbers})  # type: ignore[arg-type]
