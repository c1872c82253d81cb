"""The durable queue. Whatever is killed at whatever moment: no job is lost, none is published twice, none stays stuck.

A job belongs to a worker for as long as its lease is renewed. A worker that lost its lease cannot report any more, so that what it still
does has no effect. A job whose worker died is queued again: once if the worker crashed by itself (the job may have been the reason), a few
times if the whole service went down. SQLite in WAL mode by default; any URL that SQLAlchemy reads will do.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from kinema.errors import InputError, MissingExtraError

try:
    import sqlalchemy as sql
except ImportError as error:
    raise MissingExtraError("sqlalchemy", "serve") from error

Status = Literal["queued", "running", "done", "failed", "cancelled"]
OVER = ("done", "failed", "cancelled")
CRASHES = 2  # a job that saw so many workers die is given up
URL_VARIABLE = "KINEMA_QUEUE"  # the environment variable through which a worker is told the URL
READS = "kinema_reads"  # marks a connection that only looks
WRITERS = 0x6B696E65  # the number of Postgres' lock that writers take turns by
NAME = re.compile(r"video_[0-9a-f]{24}")  # of a job: whatever else is asked for is not sent to the database, which may not take it
STARTS = 5  # and so is one that was begun so often, for whatever reason

TABLES = sql.MetaData()
JOBS = sql.Table(
    "jobs",
    TABLES,
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("id", sql.String(32), unique=True, nullable=False),
    sql.Column("user", sql.String(64), nullable=False),
    sql.Column("key", sql.String(255)),
    sql.Column("request", sql.Text, nullable=False),
    sql.Column("priority", sql.Integer, nullable=False),
    sql.Column("status", sql.String(16), nullable=False, index=True),
    sql.Column("cancel", sql.Float),
    sql.Column("starts", sql.Integer, nullable=False),
    sql.Column("crashes", sql.Integer, nullable=False),
    sql.Column("worker", sql.String(64)),
    sql.Column("lease", sql.Float),
    sql.Column("limit_s", sql.Float, nullable=False),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("started", sql.Float),
    sql.Column("finished", sql.Float),
    sql.Column("stage", sql.String(32), nullable=False),
    sql.Column("progress", sql.Float, nullable=False),
    sql.Column("error", sql.Text),
    sql.Column("file", sql.Text),
    sql.UniqueConstraint("user", "key"),
)


@dataclass(frozen=True)
class Job:
    """One row of the queue. Times are seconds since 1970."""

    number: int
    id: str
    user: str
    key: str | None  # idempotency key: the same user and key give the same job
    request: dict[str, Any]
    priority: int  # higher goes first
    status: Status
    cancel: float | None  # when somebody asked a running job to stop
    starts: int
    crashes: int
    worker: str | None
    lease: float | None
    limit_s: float  # seconds it may run
    created: float
    started: float | None
    finished: float | None
    stage: str
    progress: float  # 0 to 1
    error: str | None
    file: str | None  # name of the result within the job's folder

    @property
    def over(self) -> bool:
        return self.status in OVER

    def place(self, root: Path) -> Path:
        """Where this attempt's files lie; a worker that lost the job cannot touch those of its successor."""
        return root / "videos" / self.id / str(self.starts)


def over_time(job: Job) -> str:
    """Why a job was stopped at its limit."""
    return f"it ran for {job.limit_s:.0f} s, the most this server allows: ask for fewer frames, steps or a smaller size"


class QueueFullError(InputError):
    """No more jobs are taken for now."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What keeps one user from taking everything, and all of them from filling the disk."""

    waiting: int = 2000  # jobs in the queue
    waiting_per_user: int = 100
    seconds: float = 3600.0  # a job may run
    lease: float = 60.0  # seconds without a sign of life before a job is given to somebody else


class Queue:
    """All jobs, behind a URL such as sqlite:///outputs/queue.sqlite. Safe to use from many threads and processes."""

    def __init__(self, url: str, limits: Limits | None = None):
        self.url, self.limits = url, limits or Limits()
        self.engine = sql.create_engine(url)
        self.reader = self.engine.execution_options(**{READS: True})
        if self.engine.dialect.name == "sqlite":
            sql.event.listen(self.engine, "connect", prepare_sqlite)
            sql.event.listen(self.engine, "begin", begin_sqlite)
        with self.change() as db:
            TABLES.create_all(db)

    @contextmanager
    def change(self) -> Iterator[sql.Connection]:
        """A transaction that no other writer runs beside; committed at the end of the block."""
        with self.engine.begin() as db:
            if self.engine.dialect.name == "postgresql":  # SQLite has its lock by BEGIN IMMEDIATE
                db.execute(sql.text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})
            yield db

    def submit(self, user: str, request: dict[str, Any], key: str | None = None, priority: int = 0) -> Job:
        """Queue a request; with a key that this user gave before, the job that it made then.

        Raises QueueFullError where the user, or everybody together, has too many jobs waiting; InputError where the key came with
        another request before.
        """
        with self.change() as db:
            known = None if key is None else self.find(db, JOBS.c.user == user, JOBS.c.key == key)
            if known:
                if known.request != json.loads(json.dumps(request)):  # as it comes back: tuples are lists by then
                    raise InputError(f"idempotency key {key!r} was used for another request: choose a new one")
                return known
            self.check_room(db, user)
            name = f"video_{secrets.token_hex(12)}"
            row = {
                "id": name, "user": user, "key": key, "request": json.dumps(request), "priority": priority,
                "status": "queued", "starts": 0, "crashes": 0, "limit_s": self.limits.seconds, "created": time.time(),
                "stage": "", "progress": 0.0,
            }  # fmt: skip
            db.execute(JOBS.insert().values(**row))
            return self.one(db, name)

    def check_room(self, db: sql.Connection, user: str) -> None:
        counting = sql.select(sql.func.count(), sql.func.sum(sql.case((JOBS.c.user == user, 1), else_=0)))
        everybody, mine = db.execute(counting.where(JOBS.c.status == "queued")).one()
        if everybody >= self.limits.waiting:
            raise QueueFullError(f"{everybody} jobs wait already, the most this server takes: try again later")
        if (mine or 0) >= self.limits.waiting_per_user:
            raise QueueFullError(f"{mine} jobs of yours wait already, the most for one user: wait for some, or cancel them")

    def claim(self, worker: str) -> Job | None:
        """The next job for this worker, if there is one: of the highest priority, the user served longest ago, the oldest."""
        with self.change() as db:
            self.return_expired(db)
            served = sql.select(JOBS.c.user, sql.func.max(JOBS.c.started).label("last")).group_by(JOBS.c.user).subquery()
            order = (JOBS.c.priority.desc(), sql.func.coalesce(served.c.last, 0), JOBS.c.number)
            waiting = sql.select(JOBS.c.id).join(served, served.c.user == JOBS.c.user).where(JOBS.c.status == "queued")
            chosen = db.execute(waiting.order_by(*order).limit(1)).scalar()
            if chosen is None:
                return None
            now = time.time()
            values = {"status": "running", "worker": worker, "lease": now + self.limits.lease, "started": now, "starts": JOBS.c.starts + 1}
            taken = db.execute(JOBS.update().where(JOBS.c.id == chosen, JOBS.c.status == "queued").values(**values))
            return self.one(db, chosen) if taken.rowcount else None

    def report(self, job: Job, stage: str, progress: float) -> bool:
        """A sign of life. False: stop, the job was cancelled or is no longer this worker's."""
        with self.change() as db:
            values = {"stage": stage, "progress": progress, "lease": time.time() + self.limits.lease}
            mine = db.execute(JOBS.update().where(self.owned(job), JOBS.c.cancel.is_(None)).values(**values))
            return bool(mine.rowcount)

    def finish(self, job: Job, file: str) -> bool:
        """The result is on the disk. False where the job is no longer this worker's: the result then counts for nothing."""
        return self.end(job, status="done", file=file, progress=1.0, stage="done")

    def fail(self, job: Job, reason: str) -> bool:
        """The job itself is at fault; it is not tried again."""
        return self.end(job, status="failed", error=reason)

    def stopped(self, job: Job) -> bool:
        """The worker has stopped at the user's wish."""
        return self.end(job, status="cancelled", error="cancelled")

    def end(self, job: Job, **values: Any) -> bool:
        with self.change() as db:
            return bool(db.execute(JOBS.update().where(self.owned(job)).values(finished=time.time(), lease=None, **values)).rowcount)

    @staticmethod
    def owned(job: Job) -> Any:
        return sql.and_(JOBS.c.id == job.id, JOBS.c.status == "running", JOBS.c.worker == job.worker, JOBS.c.starts == job.starts)

    def worker_died(self, worker: str, reason: str, crashed: bool = True) -> None:
        """Give back what this worker had: its crash counts against the job, a shutdown does not."""
        with self.change() as db:
            self.give_back(db, JOBS.c.worker == worker, reason, crashed)

    def return_expired(self, db: sql.Connection) -> None:
        self.give_back(db, JOBS.c.lease < time.time(), "its worker gave no sign of life", crashed=False)

    def give_back(self, db: sql.Connection, which: Any, reason: str, crashed: bool) -> None:
        running = sql.and_(JOBS.c.status == "running", which)
        if crashed:
            db.execute(JOBS.update().where(running).values(crashes=JOBS.c.crashes + 1))
        over = {"finished": time.time(), "lease": None, "worker": None}
        db.execute(JOBS.update().where(running, JOBS.c.cancel.is_not(None)).values(status="cancelled", error="cancelled", **over))
        hopeless = sql.or_(JOBS.c.crashes >= CRASHES, JOBS.c.starts >= STARTS)
        db.execute(JOBS.update().where(running, hopeless).values(status="failed", error=reason, **over))
        db.execute(JOBS.update().where(running).values(status="queued", lease=None, worker=None, stage="", progress=0.0, error=reason))

    def cancel(self, name: str) -> Job | None:
        """Stop a job, waiting or running; one that is over stays as it is. None where there is no such job."""
        with self.change() as db:
            waiting = sql.and_(JOBS.c.id == name, JOBS.c.status == "queued")
            db.execute(JOBS.update().where(waiting).values(status="cancelled", error="cancelled", finished=time.time()))
            db.execute(JOBS.update().where(JOBS.c.id == name, JOBS.c.status == "running").values(cancel=time.time()))
            return self.find(db, JOBS.c.id == name)

    def delete(self, name: str) -> bool:
        """Forget a job that is over. False where there is none, or it is not over."""
        with self.change() as db:
            return bool(db.execute(JOBS.delete().where(JOBS.c.id == name, JOBS.c.status.in_(OVER))).rowcount)

    def get(self, name: str) -> Job | None:
        if not NAME.fullmatch(name):
            return None
        with self.reader.connect() as db:
            return self.find(db, JOBS.c.id == name)

    def by_key(self, user: str, key: str) -> Job | None:
        """The job that this user made with this idempotency key."""
        with self.reader.connect() as db:
            return self.find(db, JOBS.c.user == user, JOBS.c.key == key)

    def jobs(self, user: str | None = None, limit: int = 20, after: str | None = None, newest_first: bool = True) -> list[Job]:
        """Jobs of a user (None: of everybody), beginning behind the job `after`."""
        if after is not None and not NAME.fullmatch(after):
            return []
        query = sql.select(JOBS).order_by(JOBS.c.number.desc() if newest_first else JOBS.c.number).limit(limit)
        if user is not None:
            query = query.where(JOBS.c.user == user)
        if after is not None:
            edge = sql.select(JOBS.c.number).where(JOBS.c.id == after).scalar_subquery()
            query = query.where(JOBS.c.number < edge if newest_first else JOBS.c.number > edge)
        with self.reader.connect() as db:
            return [job_of(row) for row in db.execute(query)]

    def running(self, worker: str) -> list[Job]:
        """What a worker has in hand."""
        with self.reader.connect() as db:
            return [job_of(row) for row in db.execute(sql.select(JOBS).where(JOBS.c.status == "running", JOBS.c.worker == worker))]

    def unfinished(self, user: str) -> list[Job]:
        """What a user waits for, oldest first."""
        query = sql.select(JOBS).where(JOBS.c.user == user, JOBS.c.status.in_(("queued", "running"))).order_by(JOBS.c.number)
        with self.reader.connect() as db:
            return [job_of(row) for row in db.execute(query)]

    def finished(self, user: str, limit: int) -> list[Job]:
        """A user's videos, newest first."""
        query = sql.select(JOBS).where(JOBS.c.user == user, JOBS.c.status == "done").order_by(JOBS.c.number.desc()).limit(limit)
        with self.reader.connect() as db:
            return [job_of(row) for row in db.execute(query)]

    def ahead(self, job: Job) -> int:
        """How many jobs wait that came before this one, or have priority: an upper bound of its place in the queue."""
        first = sql.or_(JOBS.c.priority > job.priority, sql.and_(JOBS.c.priority == job.priority, JOBS.c.number < job.number))
        with self.reader.connect() as db:
            return int(db.execute(sql.select(sql.func.count()).where(JOBS.c.status == "queued", first)).scalar_one())

    def counts(self) -> dict[str, int]:
        """Jobs in each status."""
        with self.reader.connect() as db:
            rows = db.execute(sql.select(JOBS.c.status, sql.func.count()).group_by(JOBS.c.status))
            return {row[0]: row[1] for row in rows}

    @staticmethod
    def find(db: sql.Connection, *which: Any) -> Job | None:
        row = db.execute(sql.select(JOBS).where(*which)).first()
        return None if row is None else job_of(row)

    def one(self, db: sql.Connection, name: str) -> Job:
        found = self.find(db, JOBS.c.id == name)
        assert found is not None
        return found


def job_of(row: Any) -> Job:
    values = row._asdict()
    return Job(**{field.name: values[field.name] for field in fields(Job)} | {"request": json.loads(values["request"])})


def prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by hand
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=30000")


def begin_sqlite(connection: Any) -> None:
    """Writers take the lock at once: a transaction that begins by reading could not get it later without a conflict. Readers need none."""
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(READS) else "BEGIN IMMEDIATE")
