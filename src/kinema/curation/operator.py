"""What an operator is: a pure function from an item to rows, and the records that pass between operators.

An operator is a frozen dataclass. Its fields are its parameters, which the recipe may change; what is fixed stands as ClassVar:

    @dataclass(frozen=True, kw_only=True)
    class Blur:
        name: ClassVar[str] = "blur"
        version: ClassVar[str] = "1"  # raise it when the code gives other rows for the same item
        over: ClassVar[Level] = "clip"
        needs: ClassVar[tuple[str, ...]] = ()
        gives: ClassVar[tuple[Metric, ...]] = (Metric("blur", "variance of the Laplacian", "at least"),)
        device: ClassVar[Device] = "cpu"
        batch: ClassVar[int] = 1
        samples: int = 8
        deadline_s: float = 30.0

        def run(self, item: Item, values: Values) -> Rows:
            return [Measurement("blur", ...)]

Its module must be quick to import (numpy, cv2 and av may stand at the top; torch, onnxruntime, faiss and the like only inside `run`),
and must touch no file but `item.path`. A worker runs all operators of one item one after another in one process, so that frames kept by a
cache of one entry, keyed by `item.key` and `item.path`, are decoded once for all of them. Weights are kept by `functools.cache`.

A value that cannot be measured is None: NULL in the table, which never passes a threshold. What cannot be read raises `ItemError`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from kinema.errors import KinemaError

Value: TypeAlias = float | str | None
Values: TypeAlias = Mapping[str, Value]
Level: TypeAlias = Literal["source", "clip", "set", "kept"]
Device: TypeAlias = Literal["cpu", "cuda"]
Crop: TypeAlias = tuple[int, int, int, int]  # top, left, height, width in pixels of the upright frame

REASONS: dict[str, str] = {
    "open_failed": "the file cannot be opened, or is no video",
    "no_video_stream": "the file holds no moving picture",
    "no_frames": "no frame could be decoded",
    "partial_decode": "fewer frames could be decoded than the file promises",
    "duplicate_file": "another file holds the same bytes",
    "too_short": "no stretch is long enough to be a clip",
    "crop_too_small": "too little of the picture is left once borders and subtitles are cut off",
    "duplicate": "another clip that is kept shows the same",
    "worker_crash": "the operator's process died",
    "timeout": "the operator was still at work at its deadline",
    "out_of_memory": "the operator needed more memory than a worker may have",
    "operator_error": "the operator raised an error",
    "missing_input": "an operator that this one needs has failed",
    "below_threshold": "a value lies below what the tier asks for",
    "above_threshold": "a value lies above what the tier allows",
    "not_measured": "a value that the tier asks for is NULL",
    "review": "a person said no",
}
"""The closed vocabulary: why an item was thrown away, or could not be judged."""


class ItemError(KinemaError):
    """An item cannot be read or judged; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str = ""):
        assert reason in REASONS, f"{reason!r} is not in REASONS"
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return ItemError, (self.reason, self.detail)


@dataclass(frozen=True)
class Item:
    """A source file, or a clip of one.

    A source: `path` is the raw file, `start` 0 and `end` -1, times 0. A clip before it is cut: `path` is still the raw file and the frames
    [start, end) of it are meant, which are shown from `start_s` to `end_s` seconds. A clip once it is cut: `path` is its own mp4 and all of
    its frames are meant; `start` and `end` still say where in the source they were.
    """

    key: str  # 32 hex digits, of the source's content, and of the span and crop for a clip
    path: Path
    over: Level
    source: str = ""  # the source's key, for a clip
    start: int = 0
    end: int = -1
    start_s: float = 0.0
    end_s: float = 0.0
    crop: Crop | None = None
    raw: Path = Path()  # the source's file, for a clip
    clips: Path = Path()  # the folder that cut clips go to
    is_cut: bool = False
    made_by: tuple[str, ...] = ()  # the operators whose spans led here; they do not see it again

    @property
    def frames(self) -> int:
        """How many frames a clip has."""
        return self.end - self.start


@dataclass(frozen=True)
class Metric:
    """A value that an operator gives: its name in the table, its unit, and which side of a threshold is good, if any."""

    name: str
    unit: str = ""
    good: Literal["at least", "at most", "between", ""] = ""


@dataclass(frozen=True)
class Measurement:
    """One value of the item; None where it cannot be measured. Text is for tags, such as a codec's name."""

    name: str
    value: Value


@dataclass(frozen=True)
class Vector:
    """An embedding of the item."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Span:
    """A new item: frames [start, end) of the source, shown from `start_s` to `end_s`, perhaps cropped.

    From a source: each span becomes a clip. From a clip: it takes the clip's place, and is measured again.
    Times are the presentation times of frame `start` and of frame `end` (the end of the last frame), so that it can be cut exactly.
    """

    start: int
    end: int
    start_s: float
    end_s: float
    crop: Crop | None = None


@dataclass(frozen=True)
class Rejection:
    """The item is thrown away here, and no later operator sees it; `reason` is one of REASONS."""

    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.reason in REASONS, f"{self.reason!r} is not in REASONS"


Row: TypeAlias = Measurement | Vector | Span | Rejection
Rows: TypeAlias = Sequence[Row]


@dataclass(frozen=True)
class Table:
    """All items that are still in, in the order of their keys; what an operator over the whole set sees."""

    items: tuple[Item, ...]
    columns: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)  # float32 [n D]; a row of NaN where there is none

    def column(self, name: str) -> Sequence[Value]:
        """One value an item; all None where nobody measured it."""
        return self.columns.get(name, (None,) * len(self.items))


@runtime_checkable
class Operator(Protocol):
    """A function from one item to rows.

    over: "source" (a raw file), "clip" (every clip), "kept" (clips of the first tier, once it is known).
    needs: names of the operators whose values it reads; where one of them failed, this one is not run.
    gives: the values it measures; all are NULL where it fails.
    deadline_s: seconds allowed for each minute of video begun; then its process is killed.
    batch: items handed to `run_batch` at a time; 1 for an operator that has only `run`.
    values: all that is known of the item so far; a clip sees its source's values as `source.NAME`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    over: ClassVar[Level]
    needs: ClassVar[tuple[str, ...]]
    gives: ClassVar[tuple[Metric, ...]]
    device: ClassVar[Device]
    batch: ClassVar[int]

    @property
    def deadline_s(self) -> float: ...

    def run(self, item: Item, values: Values) -> Rows: ...


@runtime_checkable
class SetOperator(Protocol):
    """A function from the whole table to rows of its items, by key: near-duplicates, clusters, weights. `over` is "set"."""

    name: ClassVar[str]
    version: ClassVar[str]
    over: ClassVar[Level]
    needs: ClassVar[tuple[str, ...]]
    gives: ClassVar[tuple[Metric, ...]]

    def run_set(self, table: Table) -> Mapping[str, Rows]: ...
