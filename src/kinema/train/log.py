"""Figures of a run: a JSON line each, TensorBoard where it is installed, and what the person sees who watches."""

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.train import ranks

SHOWN = ("loss", "grad_norm", "lr", "tokens_per_second", "mfu")  # beside a bar, where a line has no room for all


class Log:
    """Collects figures on their device and writes their means now and then, so that no step waits for a number.

    Only the first rank writes. A bar in a terminal, plain lines elsewhere.
    """

    def __init__(self, folder: Path, step: int):
        """step: where the run goes on; lines after it, of a process that was killed, are dropped."""
        self.folder, self.first = folder, ranks.is_first()
        self.pending: dict[str, list[Tensor]] = defaultdict(list)
        self.bar: Any = None
        if self.first:
            folder.mkdir(parents=True, exist_ok=True)
            drop_lines_after(folder / "log.jsonl", step)
            self.file = (folder / "log.jsonl").open("a")
            self.board = tensorboard_writer(folder, step)
            self.bar = bar() if sys.stderr.isatty() else None

    def add(self, figures: dict[str, Tensor]) -> None:
        """Figures of one step; NaN marks one that this step did not measure."""
        for name, value in figures.items():
            self.pending[name].append(value.detach())

    def write(self, step: int, progress: float, extra: dict[str, float]) -> None:
        """Write the means since the last call, over all ranks, and the first rank's `extra`; a figure that no step measured is left out.

        Every rank must call it.
        """
        row = ranks.mean({name: torch.stack(values).nanmean().item() for name, values in self.pending.items()}) | extra
        self.pending.clear()
        if not self.first:
            return
        row = {name: value for name, value in row.items() if not math.isnan(value)}  # JSON knows no NaN
        rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
        self.file.write(json.dumps({"step": step, "progress": round(progress, 6), **rounded}) + "\n")
        self.file.flush()
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(name, value, step)
        self.show(step, progress, row)

    def show(self, step: int, progress: float, row: dict[str, float]) -> None:
        if self.bar:
            shown = "  ".join(f"{name} {row[name]:.4g}" for name in SHOWN if name in row)
            self.bar.update(self.bar.task_ids[0], completed=progress, description=f"step {step}", figures=shown)
        else:
            print(f"step {step:>7}  " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line about what is going on."""
        if self.first:
            (self.bar.console.print if self.bar else lambda line: print(line, file=sys.stderr, flush=True))(text)

    def __enter__(self) -> "Log":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
        if self.first:
            self.file.close()
            if self.board:
                self.board.close()


def drop_lines_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`, which the run that goes on will not write again."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines(keepends=True) if is_before(line, step)]
        draft = path.with_suffix(".part")
        draft.write_text("".join(kept))
        draft.replace(path)


def is_before(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except ValueError:  # cut short by a kill
        return False


def tensorboard_writer(folder: Path, step: int) -> Any:
    """A SummaryWriter, or None where TensorBoard is not installed (`pip install 'kinema[train]'`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard", purge_step=step + 1)


def bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"))
    progress = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=Console(stderr=True))
    progress.add_task("step 0", total=1.0, figures="")
    return progress
