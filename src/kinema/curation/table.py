"""All that was measured, as tables: one row a source in `sources.parquet`, one a clip in `measurements.parquet`.

Rows are assembled from the ledger alone, in the order of their keys, so that how a run went leaves no trace in them. What to keep is
decided later, from these tables alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kinema.curation.job import Job
from kinema.curation.ledger import Failure, File
from kinema.curation.operator import Item, Operator, Rejection, Rows, SetOperator, Table, Value, Vector
from kinema.errors import InputError
from kinema.media.files import whole_file

SOURCES, MEASUREMENTS, TIERS, REJECTIONS = "sources.parquet", "measurements.parquet", "tiers.parquet", "rejections.parquet"
Record = dict[str, Any]


@dataclass(frozen=True)
class Clip:
    """One clip and what became of it before any tier was asked."""

    item: Item
    path: Path  # of the source, below its root
    values: Mapping[str, Value]
    vectors: Mapping[str, tuple[float, ...]]
    state: str  # in, rejected, failed, pending
    stage: str = ""
    reason: str = ""
    detail: str = ""
    failures: Mapping[str, Failure] | None = None  # by operator

    @property
    def seconds(self) -> float:
        return self.item.end_s - self.item.start_s

    def record(self, metrics: Sequence[str]) -> Record:
        item, failures = self.item, self.failures or {}
        fixed = {
            "key": item.key, "file": self.values.get("file"), "source": item.source, "path": printable(self.path),
            "start": item.start, "end": item.end, "start_s": item.start_s, "end_s": item.end_s, "seconds": self.seconds,
            "crop": json.dumps(item.crop) if item.crop else None, "state": self.state, "stage": self.stage, "reason": self.reason,
            "detail": self.detail, "failures": json.dumps({op: [f.reason, f.detail] for op, f in failures.items()}),
        }  # fmt: skip
        return fixed | {name: self.values.get(name) for name in metrics if name not in fixed}


def printable(path: Path) -> str:
    """A path as text, whatever bytes it has."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


def verdict(job: Job) -> tuple[str, str, str, str]:
    """State, stage, reason and detail of a job as far as it went."""
    if step := job.step():
        return "pending", step.op.name, "", ""
    if job.end is None:
        return "in", "", "", ""
    stage, why = job.end
    return "rejected" if isinstance(why, Rejection) else "failed", stage, why.reason, why.detail


def clip_of(job: Job, path: Path) -> Clip:
    return Clip(job.item, path, dict(job.values), dict(job.vectors), *verdict(job), failures=dict(job.failures))


def source_record(file: File, job: Job | None, clips: int) -> Record:
    """job: None for a file that could not be read or equals another."""
    if job is None:
        state = "rejected" if file.reason == "duplicate_file" else "failed"
        stage, reason, detail = "scan", file.reason or "", file.detail
    else:
        state, stage, reason, detail = verdict(job) if not clips else ("in", "", "", "")
        if state == "in" and not clips:  # no operator looks for shots
            state, stage, reason = "rejected", "shots", "too_short"
    values = job.values if job else {}
    facts = {name: values.get(name) for name in ("seconds", "width", "height", "fps", "frames", "codec")}
    return {"path": printable(file.path), "key": file.key, "bytes": file.bytes, "state": state, "stage": stage, "reason": reason,
            "detail": detail, "clips": clips} | facts  # fmt: skip


def apply_set(operator: SetOperator, clips: Sequence[Clip]) -> list[Clip]:
    """Let an operator see all clips that are still in, and take up what it says of each."""
    inside = [clip for clip in clips if clip.state == "in"]
    if not inside:
        return list(clips)
    said = operator.run_set(table_of(inside))
    blank: dict[str, Value] = {metric.name: None for metric in operator.gives}
    return [taken(clip, operator.name, blank, said.get(clip.item.key, ())) if clip.state == "in" else clip for clip in clips]


def taken(clip: Clip, stage: str, blank: Mapping[str, Value], rows: Rows) -> Clip:
    values, vectors = dict(clip.values) | dict(blank), dict(clip.vectors)
    for row in rows:
        if isinstance(row, Rejection):
            clip = replace(clip, state="rejected", stage=stage, reason=row.reason, detail=row.detail)
        elif isinstance(row, Vector):
            vectors[row.name] = row.values
        else:
            values[row.name] = row.value  # type: ignore[union-attr]  # a set has no spans
    return replace(clip, values=values, vectors=vectors)


def extended(clip: Clip, job: Job) -> Clip:
    """A clip with what later operators said of it."""
    state, stage, reason, detail = verdict(job)
    failures = {**(clip.failures or {}), **job.failures}
    clip = replace(clip, values={**clip.values, **job.values}, vectors={**clip.vectors, **job.vectors}, failures=failures)
    return clip if state == "in" else replace(clip, state=state, stage=stage, reason=reason, detail=detail)


def table_of(clips: Sequence[Clip]) -> Table:
    names = sorted({name for clip in clips for name in clip.values})
    columns = {name: [clip.values.get(name) for clip in clips] for name in names}
    return Table(tuple(clip.item for clip in clips), columns, {name: stacked(clips, name) for name in vector_names(clips)})


def vector_names(clips: Sequence[Clip]) -> list[str]:
    return sorted({name for clip in clips for name in clip.vectors})


def stacked(clips: Sequence[Clip], name: str) -> np.ndarray:
    width = max(len(clip.vectors.get(name, ())) for clip in clips)
    missing = (float("nan"),) * width
    return np.array([clip.vectors.get(name, missing) for clip in clips], np.float32)


def metric_names(operators: Iterable[Operator | SetOperator]) -> list[str]:
    """Columns of the table of clips: what operators over clips, kept clips and sets give."""
    return list(dict.fromkeys(metric.name for op in operators if op.over != "source" for metric in op.gives))


def write_table(path: Path, records: Sequence[Record]) -> None:
    """A Parquet file, whole or not at all."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: arrow.array([record.get(name) for record in records]) for name in names}
    with whole_file(path) as draft:
        parquet.write_table(arrow.table(columns), draft, compression="zstd")


def read_table(path: Path) -> dict[str, list[Any]]:
    """Columns by name. Raises InputError where there is no such table."""
    import pyarrow.parquet as parquet

    if not path.exists():
        raise InputError(f"{path} is missing: run `kinema curate RAW_DIR --out {path.parent}` to its end first")
    return parquet.read_table(path).to_pydict()


def records_of(columns: Mapping[str, Sequence[Any]]) -> list[Record]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def content_hash(*tables: Sequence[Record]) -> str:
    """One hash of what a run found: equal for equal input, however many workers or interruptions there were.

    Details of failures are left out: they quote addresses and times.
    """
    whole = hashlib.sha256()
    for table in tables:
        for record in table:
            said = {name: value for name, value in record.items() if name not in ("detail", "failures")}
            said["failures"] = [[op, why[0]] for op, why in json.loads(record.get("failures") or "{}").items()]
            whole.update(json.dumps(said, sort_keys=True).encode())
    return whole.hexdigest()
