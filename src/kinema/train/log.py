"""Figures of a run: a JSON line each, TensorBoard where it is installed, and a line for the person who watches."""

import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor


class Log:
    """Collects figures on their device and writes their means now and then, so that no step waits for a number."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "log.jsonl").open("a")
        self.board = tensorboard_writer(folder)
        self.pending: dict[str, list[Tensor]] = defaultdict(list)
        self.started, self.steps = time.perf_counter(), 0

    def add(self, figures: dict[str, Tensor]) -> None:
        """Figures of one step; NaN marks one that this step did not measure."""
        self.steps += 1
        for name, value in figures.items():
            self.pending[name].append(value.detach())

    def write(self, step: int, **extra: float | int) -> dict[str, float]:
        """Write the means since the last call, the steps a second, and `extra`."""
        seconds = time.perf_counter() - self.started
        row = {name: torch.stack(values).nanmean().item() for name, values in self.pending.items()}
        row |= {"steps_per_second": self.steps / seconds, **extra}
        self.pending.clear()
        self.started, self.steps = time.perf_counter(), 0
        self.file.write(json.dumps({"step": step, **{name: round(value, 6) for name, value in row.items()}}) + "\n")
        self.file.flush()
        for name, value in row.items():
            if self.board:
                self.board.add_scalar(name, value, step)
        print(f"step {step:>7}  " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        return row

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board:
            self.board.close()


def tensorboard_writer(folder: Path):
    """A SummaryWriter, or None where TensorBoard is not installed (`pip install 'kinema[train]'`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard")
