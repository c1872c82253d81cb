"""The training loop, read top to bottom; what it trains is a Task.

A step is a pure function of the weights, the seed and the step's number, and everything else that matters is in the
checkpoint: a run that was killed and started again ends with the same bits as one that was not (on one CPU).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinema.errors import InputError, KinemaError
from kinema.parallel.memory import offload_moments
from kinema.parallel.shard import gather
from kinema.train import ranks
from kinema.train.checkpoint import Checkpoints, KeepConfig
from kinema.train.log import Log
from kinema.train.optim import Ema, Kind, clip_gradients, learning_rate, optimizer_state, optimizers, restore_optimizers
from kinema.train.speed import Meter, Work
from kinema.train.stop import Stop

COMPILING_STEPS = 2  # first steps at each size, which may compile; the clock of `seconds` leaves them out
NEVER = 1 << 62  # steps
Rate = Callable[[float, int], float]
"""(progress in [0, 1], step) -> the learning rate as a share of the peak."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast to train; a run ends after `steps`, or after `seconds` of training where that is given."""

    out: Path
    steps: int = 0  # 0: as many as the stages of the task have
    seconds: float | int | None = None  # overrides steps: the schedule then follows the clock, as on a borrowed machine
    lr: float = 4e-4
    muon_lr: float = 4e-4
    optimizer: Kind = "adamw"
    weight_decay: float = 0.01
    warmup: int = 200  # steps
    lr_floor: float = 0.02  # last rate as a share of the peak
    clip: float = 1.0  # largest gradient norm
    accumulate: int = 1  # batches a step
    offload_optimizer: bool = False  # its moments lie in host memory between steps
    ema: float = 0.999
    seed: int = 0
    log_every: int = 50  # steps
    sample_every: int = 0  # steps; 0: no samples
    save_every: float | int = 120  # seconds
    save_steps: int = 0  # also every so many steps; 0: by the clock alone
    keep: KeepConfig = field(default_factory=KeepConfig)
    bad_steps: int = 20  # end the run after so many non-finite steps in a row
    peak_tflops: float | None = None  # of one device, for MFU; None: measured as the run starts

    def __post_init__(self):
        if self.steps < 0 or (self.seconds is not None and self.seconds <= 0):
            raise InputError(f"steps={self.steps}, seconds={self.seconds} must be above 0; leave them out to take the stages' steps")
        if self.accumulate < 1 or self.log_every < 1 or self.bad_steps < 1:
            raise InputError(
                f"accumulate={self.accumulate}, log_every={self.log_every}, bad_steps={self.bad_steps}: each must be 1 or more"
            )


class Task(ABC):
    """What the loop trains: a model, its loss on a fresh batch, and how its weights are handed on."""

    model: nn.Module
    """Whose parameters are trained, those that ask for a gradient."""

    @abstractmethod
    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch drawn with `generator`, and figures to log; with `accumulate` called several times a step."""

    @abstractmethod
    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write `weights` (the moving average, whole, on the CPU) as a model that users load; called on the first rank."""

    def refresh(self, step: int, progress: float = 0.0) -> None:  # noqa: B027
        """Called before each step: take in new data, go on to the next stage. progress: 0 at the run's start, 1 at its end."""

    def sample(self, weights: dict[str, Tensor], step: int) -> None:  # noqa: B027
        """Show what the averaged weights make; called on the first rank."""

    def work(self) -> Work:
        """How much the last call of `loss` was, for tokens a second and MFU."""
        return Work()

    def state_dict(self) -> dict[str, Any]:
        """What else a checkpoint must hold, such as the position in the data: nested dicts of tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from `state_dict`."""


class Run:
    """Everything of a run that a checkpoint holds."""

    def __init__(self, task: Task, config: LoopConfig, rate: Rate | None = None):
        self.task, self.model, self.config = task, task.model, config
        self.rate = rate or (lambda progress, step: learning_rate(progress, step, config.warmup, config.lr_floor))
        self.optimizers = optimizers(self.model, config.optimizer, config.lr, config.weight_decay, config.muon_lr)
        for optimizer in self.optimizers if config.offload_optimizer else ():
            offload_moments(optimizer)
        self.ema = Ema(self.model, config.ema)
        self.step, self.elapsed, self.skipped = 0, 0.0, 0
        self.bad = 0  # non-finite steps in a row
        self.met: dict[str, int] = {}  # steps of this process at each size

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end."""
        return self.elapsed / self.config.seconds if self.config.seconds else self.step / self.config.steps

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": optimizer_state(self.model, self.optimizers),
            "task": self.task.state_dict(),
            "run": {"step": self.step, "elapsed": self.elapsed, "skipped": self.skipped, "bad": self.bad},
            "random": {str(ranks.rank()): random_state()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        restore_optimizers(self.model, self.optimizers, state["optimizers"])
        self.task.load_state_dict(state["task"])
        for name, value in state["run"].items():
            setattr(self, name, value)
        set_random_state(state["random"].get(str(ranks.rank()), {}))

    def update(self) -> Tensor:
        """One optimiser step; gradients that are not finite change nothing and are counted. Returns their norm.

        Raises KinemaError after `bad_steps` such steps in a row.
        """
        norm = clip_gradients(self.model.parameters(), self.config.clip)
        if torch.isfinite(norm):
            self.bad = 0
            share = self.rate(self.progress, self.step)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * share
                optimizer.step()
            self.ema.update(self.model)
        else:
            self.skipped, self.bad = self.skipped + 1, self.bad + 1
        self.model.zero_grad(set_to_none=True)
        if self.bad >= self.config.bad_steps:
            raise KinemaError(
                f"{self.bad} steps in a row, up to step {self.step + 1}, gave gradients that are not finite: lower loop.lr, or look for "
                f"broken samples; the run goes on from its last checkpoint in {self.config.out}"
            )
        return norm

    def figures(self) -> dict[str, float]:
        """For the log."""
        return {"skipped": float(self.skipped), "lr": self.optimizers[0].param_groups[0]["lr"]}

    def averaged(self) -> dict[str, Tensor]:
        """The whole model on the first rank's CPU, its trained weights averaged; every rank must ask."""
        return gather({name: self.ema.weights.get(name, tensor) for name, tensor in self.model.state_dict().items()})


def fit(task: Task, config: LoopConfig, rate: Rate | None = None, data_rank: int = 0) -> Run:
    """Train `task` to the end of its schedule, from its newest whole checkpoint if there is one, and export the averaged weights.

    rate: the learning-rate schedule; None: warm-up, then a cosine.
    data_rank: which share of the data this process has; it draws its own random numbers.
    A run that is told to stop (SIGTERM, SIGINT) saves and exports nothing: started again, it goes on.
    """
    if not (config.steps or config.seconds):
        raise InputError("loop.steps is not given: a run needs at least one step or some seconds")
    run, checkpoints = Run(task, config, rate), Checkpoints(config.out / "checkpoints", config.keep)
    resumed = checkpoints.restore(run)
    with Stop() as stop, checkpoints, Log(config.out, run.step if resumed else 0) as log:
        log.say(f"resumed {config.out} at step {run.step}" if resumed else f"a new run in {config.out}")
        meter, saved, stopped = Meter(next(task.model.parameters()).device, config.peak_tflops), time.perf_counter(), 0.0
        while run.progress < 1 and not stopped:
            seconds, figures = take_step(task, run, meter, data_rank)
            log.add(figures)
            old = time.perf_counter() - saved > config.save_every or run.step % (config.save_steps or NEVER) == 0
            stopped, save, seconds = ranks.most(stop.asked, old, seconds)
            run.elapsed += seconds
            if run.step % config.log_every == 0:
                log.write(run.step, run.progress, run.figures() | checkpoints.figures() | meter.figures())
            if run.step % (config.sample_every or NEVER) == 0:
                hand_out(run, lambda weights: task.sample(weights, run.step))
            if save and not stopped:
                checkpoints.save(run.step, run.state_dict())
                saved = time.perf_counter()
        checkpoints.save(run.step, run.state_dict(), wait=True)
        if run.progress >= 1:
            hand_out(run, lambda weights: task.export(weights, config.out))
        else:
            log.say(f"stopped at step {run.step} and saved; start it again to go on")
    return run


def take_step(task: Task, run: Run, meter: Meter, data_rank: int) -> tuple[float, dict[str, Tensor]]:
    """One step: new data, the losses of its batches, an update. Returns the seconds that the clock counts, and figures."""
    began = time.perf_counter()
    task.refresh(run.step, run.progress)
    generator, parts = step_generator(task.model, run.config.seed, run.step, data_rank), []
    for _ in range(run.config.accumulate):
        loss, figures = task.loss(run.step, generator)
        (loss / run.config.accumulate).backward()
        parts.append({"loss": loss.detach(), **figures})
        meter.add(task.work())
    norm = run.update()
    run.step += 1
    seconds = time.perf_counter() - began
    meter.step(seconds)
    run.met[task.work().size] = run.met.get(task.work().size, 0) + 1
    known = run.met[task.work().size] > COMPILING_STEPS
    return seconds if known else 0.0, mean_figures(parts) | {"grad_norm": norm}


def mean_figures(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means over the batches of a step; NaN marks what a batch did not measure."""
    return {name: torch.stack([part[name].detach().float() for part in parts]).nanmean() for name in parts[0]}


def hand_out(run: Run, take: Callable[[dict[str, Tensor]], None]) -> None:
    """Give the averaged weights to `take` on the first rank, while the others wait."""
    weights = run.averaged()
    if ranks.is_first():
        take(weights)
    ranks.barrier()


def step_generator(model: nn.Module, seed: int, step: int, data_rank: int = 0) -> torch.Generator:
    """The random numbers of one step, on the model's device: they depend on seed, step and share of the data alone."""
    return torch.Generator(next(model.parameters()).device).manual_seed((seed * 1_000_003 + step) * 1_009 + data_rank)


def random_state() -> dict[str, Tensor]:
    """Of PyTorch's own generators, which a task should not need but may use."""
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state()} | cuda


def set_random_state(state: dict[str, Tensor]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
