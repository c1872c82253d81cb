"""Checkpoints of a run: written beside training by torch's DCP, whole or not there at all, for any number of ranks.

checkpoints/step-00001200/     .metadata and *.distcp (DCP's own), and complete.json: sizes and checksums, written last
checkpoints/.step-00001260.part/    one that is being written, or was when its process was killed; never read

A checkpoint that is damaged is told and passed over for the one before.
"""

import json
import logging
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from kinema.errors import InputError, OutputError, WeightsError
from kinema.train import ranks

LOG = logging.getLogger(__name__)
warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # DCP, of a single process
COMPLETE = "complete.json"
BLOCK = 1 << 24  # bytes read at once for a checksum
MAY_BE_MISSING = "random."  # of a rank that the run did not have


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Which checkpoints stay: the newest ones, and one for every so many steps."""

    last: int = 2
    every: int = 0  # steps; 0: the newest ones alone

    def __post_init__(self):
        if self.last < 1:
            raise InputError(f"keep.last={self.last} must be 1 or more: a run goes on from its newest checkpoint")


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint is of: nested dicts of tensors and plain values, whose keys do not depend on the step."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Checkpoints:
    """The checkpoints in a folder. On leaving it waits for the one being written."""

    def __init__(self, folder: Path, keep: KeepConfig):
        self.folder, self.keep = folder, keep
        self.pending: Future[None] | None = None
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        on_gpu = torch.cuda.is_available()
        self.stager = DefaultStager(StagingOptions(on_gpu, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=on_gpu))
        self.blocked = 0.0  # seconds that training waited for the last one

    def save(self, step: int, state: dict[str, Any], wait: bool = False) -> None:
        """Copy `state`, and write it while training goes on; `wait`: return when it is there.

        Raises OutputError where this checkpoint or the one before could not be written.
        """
        began = time.perf_counter()
        self.finish()
        (there,) = ranks.most(ranks.is_first() and (self.folder / name_of(step) / COMPLETE).exists())  # the others may not see it yet
        if not there:
            draft, copied = self.draft(step), self.stager.stage(state)
            self.pending = self.writer.submit(self.write, copied, draft, step, ranks.group("checkpoints"))
        if wait:
            self.finish()
            ranks.barrier()
        self.blocked = time.perf_counter() - began

    def draft(self, step: int) -> Path:
        """An empty folder to write into."""
        draft = self.folder / f".{name_of(step)}.part"
        if ranks.is_first():
            try:
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
            except OSError as error:
                raise OutputError(f"cannot write checkpoints into {self.folder}: {error.strerror or error}") from error
        ranks.barrier()
        return draft

    def write(self, state: Any, draft: Path, step: int, group: dist.ProcessGroup | None) -> None:
        """Beside training: when every rank has written its part, the first marks the checkpoint as whole, and old ones go."""
        dcp.save(state, checkpoint_id=draft, process_group=group, no_dist=group is None)
        if not ranks.is_first():
            return
        sums = {path.name: [path.stat().st_size, checksum(path)] for path in sorted(draft.iterdir())}
        (draft / COMPLETE).write_text(json.dumps({"step": step, "ranks": ranks.size(), "files": sums}))
        shutil.rmtree(self.folder / name_of(step), ignore_errors=True)  # a damaged one of the same step
        draft.replace(self.folder / name_of(step))
        self.forget()

    def finish(self) -> None:
        """Wait for the checkpoint being written. Raises OutputError where it could not be."""
        pending, self.pending = self.pending, None
        try:
            if pending:
                pending.result()
        except (OSError, RuntimeError, CheckpointException) as error:
            for part in self.folder.glob(".*.part"):
                shutil.rmtree(part, ignore_errors=True)
            raise OutputError(
                f"a checkpoint could not be written into {self.folder}: {reason(error)}; free some space or mend the disk, then start "
                f"the run again: it goes on from its last checkpoint"
            ) from error

    def forget(self) -> None:
        """Remove what the rule does not keep."""
        steps = sorted(map(step_of, complete_ones(self.folder)))
        kept, last = set(steps[-self.keep.last :]), -1
        for step in steps:
            if self.keep.every and step // self.keep.every > last:
                kept.add(step)
                last = step // self.keep.every
        for step in set(steps) - kept:
            (self.folder / name_of(step) / COMPLETE).unlink()
            shutil.rmtree(self.folder / name_of(step), ignore_errors=True)

    def restore(self, run: Stateful) -> bool:
        """Load the newest checkpoint that is whole, and tell of those that are not; False where there is none.

        Raises WeightsError where there are checkpoints but none can be used.
        """
        found = sorted(complete_ones(self.folder), reverse=True)
        for path in found:
            try:
                check(path)
                run.load_state_dict(load(path, run.state_dict()))
                return True
            except WeightsError as error:
                LOG.warning("%s; going back to the checkpoint before", error)
        if found:
            raise WeightsError(f"none of the {len(found)} checkpoints in {self.folder} can be used: remove the folder to begin anew")
        return False

    def figures(self) -> dict[str, float]:
        """For the log."""
        return {"save_seconds": self.blocked} if self.blocked else {}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self.finish()
        except OutputError as late:
            if error is None:
                raise
            LOG.warning("%s", late)
        finally:
            self.writer.shutdown()
            self.stager.close()


def name_of(step: int) -> str:
    return f"step-{step:08}"


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def complete_ones(folder: Path) -> Iterator[Path]:
    return (path.parent for path in folder.glob(f"step-*/{COMPLETE}"))


def newest(folder: Path) -> Path:
    """The newest whole checkpoint of a run's folder. Raises WeightsError where there is none."""
    found = sorted(complete_ones(folder / "checkpoints"))
    if not found:
        raise WeightsError(f"{folder} holds no whole checkpoint: let its run go on, or name another folder")
    return found[-1]


def checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total = zlib.crc32(block, total)
    return total


def check(path: Path) -> None:
    """Every file has its size and checksum; the ranks share the work. Raises WeightsError on all of them where one does not."""
    wrong = ""
    try:
        files = json.loads((path / COMPLETE).read_text())["files"]
        for name, (size, crc) in list(files.items())[ranks.rank() :: ranks.size()]:
            if (path / name).stat().st_size != size or checksum(path / name) != crc:
                wrong = f"{name} is not as it was written"
    except (OSError, ValueError, KeyError) as error:
        wrong = reason(error)
    (damaged,) = ranks.most(bool(wrong))
    if damaged:
        raise WeightsError(f"checkpoint {path} is damaged ({wrong or 'as another rank found'})")


def load(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Fill `state`, whose tensors are overwritten where they lie; they may be sharded otherwise than when they were saved.

    Raises WeightsError where the checkpoint lacks something or holds other shapes.
    """
    reader = dcp.FileSystemReader(path)
    try:
        known = reader.read_metadata().state_dict_metadata
        flat, _ = flatten(state)
        absent = [name for name in flat if name not in known]
        if any(not name.startswith(MAY_BE_MISSING) for name in absent):
            raise WeightsError(f"checkpoint {path} is of another model or task: it lacks {absent[0]!r}")
        state = {**state, "random": {}} if absent else state
        dcp.load(state, storage_reader=reader, process_group=ranks.group("checkpoints"), no_dist=not ranks.together())
    except (OSError, RuntimeError, ValueError, CheckpointException) as error:
        raise error if isinstance(error, WeightsError) else WeightsError(f"checkpoint {path} cannot be loaded: {reason(error)}") from error
    return state


def averaged_weights(run: Path) -> dict[str, Tensor]:
    """The model of a run's newest whole checkpoint, its trained weights averaged, on the CPU; any number of ranks may have written it.

    Raises WeightsError where there is none, or it is damaged.
    """
    path = newest(run)
    check(path)
    model, means = read(path, "model."), read(path, "ema.weights.")
    return model | means


def read(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint whose dotted names begin so, by the rest of their names."""
    reader = dcp.FileSystemReader(path)
    stored = reader.read_metadata().state_dict_metadata
    found = {
        name: torch.empty(facts.size, dtype=facts.properties.dtype)
        for name, facts in stored.items()
        if name.startswith(prefix) and isinstance(facts, TensorStorageMetadata)
    }
    dcp.load(found, storage_reader=reader, no_dist=True)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def flatten(state: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Dotted names, as DCP stores them."""
    from torch.distributed.checkpoint._nested_dict import flatten_state_dict

    return flatten_state_dict(state)


def reason(error: BaseException) -> str:
    """The first cause of an error, in its own words."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:300] or type(error).__name__
