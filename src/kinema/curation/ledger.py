"""What has been done, in one SQLite file: a row an item and operator, written as soon as it is known.

A finished row is never computed again while the operator's version stays; a changed operator has another version and so other rows. The
tables of a dataset are assembled from these rows alone, so that a run that was killed and taken up ends in the same tables.
Commits are gathered for a tenth of a second: what a kill loses is done again, with the same result.
"""

import base64
import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from kinema.curation.operator import Measurement, Rejection, Row, Rows, Span, Vector
from kinema.errors import InputError

State: TypeAlias = Literal["running", "retry", "done", "failed"]
COMMIT_EVERY = 0.1  # seconds
NAME = "ledger.sqlite"
VERSION = 1  # of the layout below
SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
  root BLOB, path BLOB, key TEXT, bytes INTEGER, reason TEXT, detail TEXT, PRIMARY KEY (root, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS task (
  key TEXT, op TEXT, version TEXT, state TEXT, attempts INTEGER DEFAULT 0, interrupted INTEGER DEFAULT 0,
  reason TEXT, detail TEXT, seconds REAL, at REAL, rows TEXT, PRIMARY KEY (key, op, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run (
  id INTEGER PRIMARY KEY, began REAL, ended REAL, done INTEGER DEFAULT 0, skipped INTEGER DEFAULT 0, peak_mb REAL DEFAULT 0, about TEXT);
"""


@dataclass(frozen=True)
class Failure:
    """Why an operator gave no rows; `reason` is one of REASONS."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class File:
    """A raw file: `key` is None where it cannot be read, or holds the same bytes as another one; `reason` says which."""

    root: Path
    path: Path  # below root
    key: str | None
    bytes: int
    reason: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Task:
    """What the ledger says of one item and operator."""

    state: State
    attempts: int
    interrupted: int  # times that the whole run died while this was at work
    outcome: Rows | Failure | None


class Ledger:
    """Opened for writing by one run at a time; any number may read. Raises InputError while another run writes."""

    def __init__(self, folder: Path, write: bool = True):
        self.path, self.write = folder / NAME, write
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = open(folder / ".lock", "w")  # noqa: SIM115  # held until close
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.lock.close()
                raise InputError(f"{folder}: another run is writing here: wait for it, or choose another --out") from error
        elif not self.path.exists():
            raise InputError(f"{folder} holds no {NAME}: it is no dataset that `kinema curate` wrote")
        known = self.path.exists()
        self.sql = sqlite3.connect(self.path, isolation_level=None)
        self.check_version(known)
        if write:
            self.sql.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA user_version={VERSION}; {SCHEMA}")
            self.sql.execute("UPDATE task SET state = 'retry', interrupted = interrupted + 1 WHERE state = 'running'")
        self.committed, self.run_id = time.monotonic(), 0

    def check_version(self, known: bool) -> None:
        found = self.sql.execute("PRAGMA user_version").fetchone()[0]
        if known and found != VERSION:
            self.sql.close()
            if self.write:
                self.lock.close()
            raise InputError(f"{self.path} has layout {found} and this version of Kinema reads {VERSION}: choose another --out")

    def close(self) -> None:
        """Forget what was begun and not finished, without blame, and let others write."""
        if self.write:
            self.sql.execute("UPDATE task SET state = 'retry' WHERE state = 'running'")
            self.commit()
            self.lock.close()
        self.sql.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def change(self, statement: str, values: Sequence[Any]) -> None:
        if not self.sql.in_transaction:
            self.sql.execute("BEGIN")
        self.sql.execute(statement, values)
        self.commit_if_due()

    def commit_if_due(self) -> None:
        if time.monotonic() - self.committed > COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        if self.sql.in_transaction:
            self.sql.execute("COMMIT")
        self.committed = time.monotonic()

    def tasks(self, key: str) -> dict[tuple[str, str], Task]:
        """All that is known of an item, by operator and version."""
        found = self.sql.execute("SELECT op, version, state, attempts, interrupted, reason, detail, rows FROM task WHERE key = ?", (key,))
        return {(op, version): task_of(*rest) for op, version, *rest in found}

    def begin(self, key: str, op: str, version: str) -> None:
        self.change(
            "INSERT INTO task (key, op, version, state) VALUES (?, ?, ?, 'running') ON CONFLICT DO UPDATE SET state = 'running'",
            (key, op, version),
        )

    def finish(self, key: str, op: str, version: str, outcome: Rows | Failure, seconds: float) -> None:
        """The operator's last word on this item."""
        if isinstance(outcome, Failure):
            said: tuple[Any, ...] = ("failed", outcome.reason, outcome.detail, None)
        else:
            said = ("done", None, None, pack_rows(outcome))
        self.change(
            "UPDATE task SET attempts = attempts + 1, state = ?, reason = ?, detail = ?, rows = ?, seconds = ?, at = ? "
            "WHERE key = ? AND op = ? AND version = ?",
            (*said, seconds, time.time(), key, op, version),
        )

    def retry(self, key: str, op: str, version: str, failure: Failure) -> None:
        """A try that ended in a crash or at its deadline, to be repeated; what went wrong stays on record."""
        self.change(
            "UPDATE task SET state = 'retry', attempts = attempts + 1, reason = ?, detail = ? WHERE key = ? AND op = ? AND version = ?",
            (failure.reason, failure.detail, key, op, version),
        )

    def forget_failures(self) -> int:
        """Give every failed operator another chance; returns how many there were."""
        return self.sql.execute("DELETE FROM task WHERE state = 'failed'").rowcount

    def set_files(self, files: Sequence[File]) -> None:
        self.sql.execute("BEGIN")
        self.sql.execute("DELETE FROM file")
        rows = [(as_bytes(f.root), as_bytes(f.path), f.key, f.bytes, f.reason, f.detail) for f in files]
        self.sql.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.commit()

    def files(self) -> list[File]:
        """By path."""
        rows = self.sql.execute("SELECT root, path, key, bytes, reason, detail FROM file ORDER BY path, root")
        return [File(as_path(root), as_path(path), *rest) for root, path, *rest in rows]

    def begin_run(self, about: dict[str, Any]) -> None:
        self.run_id = self.sql.execute("INSERT INTO run (began, about) VALUES (?, ?)", (time.time(), json.dumps(about))).lastrowid or 0

    def note_run(self, done: int, skipped: int, peak_mb: float) -> None:
        """What the run has done up to now, added to what it said before; peak_mb: memory of the largest worker."""
        self.change(
            "UPDATE run SET ended = ?, done = done + ?, skipped = skipped + ?, peak_mb = max(peak_mb, ?) WHERE id = ?",
            (time.time(), done, skipped, peak_mb, self.run_id),
        )

    def runs(self) -> list[dict[str, Any]]:
        names = ("began", "ended", "done", "skipped", "peak_mb")
        rows = self.sql.execute(f"SELECT {', '.join(names)}, about FROM run ORDER BY id")
        return [dict(zip(names, row, strict=True)) | json.loads(about) for *row, about in rows]

    def counts(self) -> Iterator[tuple[str, str, str | None, int, float]]:
        """Operator, state, reason, how many, seconds in all."""
        yield from self.sql.execute(
            "SELECT op, state, iif(state = 'failed', reason, NULL), count(*), total(seconds) FROM task GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )

    def take_in(self, other: Path) -> None:
        """Add all rows of another ledger; where both know an item and operator, the finished row stays."""
        self.sql.execute("ATTACH ? AS other", (str(other),))
        self.sql.execute("INSERT OR IGNORE INTO file SELECT * FROM other.file")
        self.sql.execute("INSERT OR IGNORE INTO task SELECT * FROM other.task WHERE state IN ('done', 'failed')")
        self.sql.execute("DETACH other")


def as_bytes(path: Path) -> bytes:
    return str(path).encode(errors="surrogateescape")


def as_path(raw: bytes) -> Path:
    return Path(raw.decode(errors="surrogateescape"))


def task_of(state: State, attempts: int, interrupted: int, reason: str | None, detail: str | None, rows: str | None) -> Task:
    if state == "failed":
        return Task(state, attempts, interrupted, Failure(reason or "operator_error", detail or ""))
    return Task(state, attempts, interrupted, unpack_rows(rows) if rows is not None else None)


KINDS: dict[str, type[Row]] = {"m": Measurement, "v": Vector, "s": Span, "r": Rejection}


def pack_rows(rows: Rows) -> str:
    """Rows as JSON: a letter for the kind, then its fields; a vector as base64 of float32."""
    return json.dumps([pack_row(row) for row in rows], ensure_ascii=True, separators=(",", ":"))


def pack_row(row: Row) -> list[Any]:
    if isinstance(row, Vector):
        return ["v", row.name, base64.b64encode(np.asarray(row.values, "<f4").tobytes()).decode()]
    letter = next(letter for letter, kind in KINDS.items() if isinstance(row, kind))
    return [letter, *(getattr(row, name) for name in row.__dataclass_fields__)]


def unpack_rows(text: str) -> Rows:
    return [unpack_row(letter, fields) for letter, *fields in json.loads(text)]


def unpack_row(letter: str, fields: list[Any]) -> Row:
    if letter == "v":
        return Vector(fields[0], tuple(np.frombuffer(base64.b64decode(fields[1]), "<f4").tolist()))
    if letter == "s":
        start, end, start_s, end_s, crop = fields
        return Span(start, end, start_s, end_s, tuple(crop) if crop else None)
    return KINDS[letter](*fields)
