"""The training loop, read top to bottom; what it trains is a Task.

A step is a pure function of the weights, the seed and the step's number, and everything else that matters is in the
checkpoint: a run that was killed and started again ends with the same bits as one that was not (on one CPU).
"""

import json
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kinema.errors import InputError
from kinema.train.log import Log
from kinema.train.optim import Ema, Kind, learning_rate, optimizers

COMPILING_STEPS = 2  # a process's first steps, which may compile; the clock of `seconds` leaves them out


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast to train; a run ends after `steps`, or after `seconds` of training where that is given."""

    out: Path
    steps: int = 10_000
    seconds: float | int | None = None  # overrides steps: the schedule then follows the clock, as on a borrowed machine
    lr: float = 4e-4
    muon_lr: float = 4e-4
    optimizer: Kind = "adamw"
    weight_decay: float = 0.01
    warmup: int = 200  # steps
    lr_floor: float = 0.02  # last rate as a share of the peak
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.999
    seed: int = 0
    log_every: int = 50  # steps
    save_every: float | int = 120  # seconds

    def __post_init__(self):
        if self.steps < 1 or (self.seconds is not None and self.seconds <= 0):
            raise InputError(f"steps={self.steps}, seconds={self.seconds}: a run needs at least one step or some seconds")


@runtime_checkable
class Task(Protocol):
    """What the loop trains: a model, its loss on a fresh batch, and how its weights are handed on."""

    @property
    def model(self) -> nn.Module:
        """Whose parameters are trained."""

    def refresh(self, step: int) -> None:
        """Take in new data, if there is any."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch drawn with `generator`, and figures to log."""

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write `weights` (the moving average) as a model that users load."""


class Run:
    """Everything of a run that a checkpoint holds."""

    def __init__(self, model: nn.Module, config: LoopConfig):
        self.model, self.config = model, config
        self.optimizers = optimizers(model, config.optimizer, config.lr, config.weight_decay, config.muon_lr)
        self.ema = Ema(model.state_dict(), config.ema)
        self.step, self.elapsed, self.skipped = 0, 0.0, 0
        self.taken = 0  # steps of this process

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end."""
        return self.elapsed / self.config.seconds if self.config.seconds else self.step / self.config.steps

    @property
    def path(self) -> Path:
        return self.config.out / "state.pt"

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "step": self.step,
            "elapsed": self.elapsed,
            "skipped": self.skipped,
        }
        partial = self.path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.path)

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        if not self.path.exists():
            return False
        state = torch.load(self.path, map_location=next(self.model.parameters()).device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.elapsed, self.skipped = state["step"], state["elapsed"], state["skipped"]
        return True

    def update(self, loss: Tensor) -> Tensor:
        """One optimiser step; a gradient that is not finite changes nothing and is counted. Returns the gradient's norm."""
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if torch.isfinite(norm):
            share = learning_rate(self.progress, self.step, self.config.warmup, self.config.lr_floor)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * share
                optimizer.step()
            self.ema.update(self.model.state_dict())
        else:
            self.skipped += 1
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return norm


def fit(task: Task, config: LoopConfig) -> Run:
    """Train `task` to the end of its schedule, from its checkpoint if there is one, and export the averaged weights."""
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "loop.json").write_text(json.dumps(asdict(config), default=str, indent=1))
    run, stop, saved = Run(task.model, config), Stop(), time.perf_counter()
    if run.resume():
        print(f"resumed {config.out} at step {run.step}", flush=True)
    with Log(config.out) as log:
        while run.progress < 1 and not stop.asked:
            log.add(take_step(task, run))
            if run.step % config.log_every == 0:
                log.write(run.step, progress=run.progress, skipped=run.skipped, lr=run.optimizers[0].param_groups[0]["lr"])
            if time.perf_counter() - saved > config.save_every:
                run.save()
                saved = time.perf_counter()
    run.save()
    task.export(run.ema.weights, config.out)
    return run


def take_step(task: Task, run: Run) -> dict[str, Tensor]:
    """One step: new data, the loss of a batch, an update; returns its figures."""
    began = time.perf_counter()
    task.refresh(run.step)
    loss, figures = task.loss(run.step, step_generator(task.model, run.config.seed, run.step))
    norm = run.update(loss)
    run.step += 1
    run.taken += 1
    if run.taken > COMPILING_STEPS:
        run.elapsed += time.perf_counter() - began
    return {"loss": loss, "grad_norm": norm, **figures}


def step_generator(model: nn.Module, seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, on the model's device: they depend on seed and step alone."""
    return torch.Generator(next(model.parameters()).device).manual_seed(seed * 1_000_003 + step)


class Stop:
    """Set by SIGTERM: the loop ends after the step in hand, with everything saved."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_: object) -> None:
        self.asked = True
