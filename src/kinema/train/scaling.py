"""Measure a scaling law: train a family of small DiTs at several budgets, one row each, and fit (`scaling_fit.py`).

A row that is there is not run again, and a run that was cut goes on from its checkpoint; so a sweep may be stopped and started, or
given more sizes and budgets. All runs of a sweep share data, batch, objective and schedule; the rate falls with the width.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinema.data.index import Index
from kinema.data.loader import Loader, LoaderConfig
from kinema.dit.model import DiT, DiTConfig
from kinema.errors import InputError
from kinema.media.files import whole_file
from kinema.train.flops import training_flops
from kinema.train.loop import LoopConfig
from kinema.train.objective import FlowConfig, draw, flow_loss, hashed
from kinema.train.recipe import VideoRecipe, train_video
from kinema.train.scaling_fit import BILLION, PETA, Point
from kinema.train.stages import Stage
from kinema.train.video import VideoTask

ROWS, SETTINGS, RUNS = "rows.jsonl", "settings.json", "runs"
MAY_CHANGE = ("out", "sizes", "budgets", "device")  # from one call to the next
LR_WIDTH = 64  # D at which `lr` holds
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Size:
    """A member of the family."""

    width: int  # D, a multiple of the model's head width
    double_blocks: int = 1
    single_blocks: int

    @property
    def name(self) -> str:
        return f"{self.width}-{self.double_blocks}+{self.single_blocks}"


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """A sweep. Raises InputError where it is empty or names a size or budget twice."""

    out: Path
    train: tuple[Path, ...]  # folders as `kinema encode` writes them
    heldout: tuple[Path, ...]  # likewise, of clips that no run sees
    model: DiTConfig  # what the sizes share; its own width and blocks are not used
    sizes: tuple[Size, ...]
    budgets: tuple[float, ...]  # C, PetaFLOPs of forward and backward passes
    side: int = 128  # pixels: clips of about side x side
    frames: int = 33  # T; a longer clip serves by its beginning
    tokens: int = 4608  # of a batch
    shift: float = 2.0
    text_dropout: float = 0.1
    lr: float = 2e-3  # at width 64; others have lr (64 / width)^lr_power
    lr_power: float = 0.5
    ema: float = 0.98
    least_steps: int = 30  # a size that a budget pays fewer steps for is left out
    heldout_batches: int = 8
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        if not self.sizes or not self.budgets or min(self.budgets) <= 0:
            raise InputError(f"sizes={self.sizes}, budgets={self.budgets}: a sweep needs some of each, budgets above 0")
        for what, given in (("sizes", [size.name for size in self.sizes]), ("budgets", list(self.budgets))):
            if len(set(given)) < len(given):
                raise InputError(f"{what}={given} names one twice")

    def model_of(self, size: Size) -> DiTConfig:
        """Raises InputError where the width is no multiple of the head width."""
        head = sum(self.model.rope_axes)
        if size.width % head:
            raise InputError(f"width={size.width} must be a multiple of the head width {head}, which is the sum of model.rope_axes")
        return replace(
            self.model,
            width=size.width,
            heads=size.width // head,
            double_blocks=size.double_blocks,
            single_blocks=size.single_blocks,
        )

    def rate_of(self, size: Size) -> float:
        return self.lr * (LR_WIDTH / size.width) ** self.lr_power

    @property
    def stage(self) -> Stage:
        return Stage(
            name="scaling",
            sides=(self.side,),
            frames=(self.frames,),
            steps=1,
            tokens=self.tokens,
            shift=self.shift,
            lr_end=0.02,
            text_dropout=self.text_dropout,
        )


@dataclass(frozen=True)
class Planned:
    """A run to be made: how many steps its budget pays."""

    size: Size
    budget: float
    params: int
    tokens_a_step: int
    flops_a_step: float

    @property
    def name(self) -> str:
        return f"{self.size.name}@{self.budget:g}"

    @property
    def steps(self) -> int:
        return round(self.budget * PETA / self.flops_a_step)


def sweep(config: ScalingConfig, say: Say = print) -> list[Point] | None:
    """Run every size at every budget that has no row yet; returns all rows, or None where a run was told to stop.

    Raises InputError where `out` holds a sweep of other settings.
    """
    claim(config)
    have = {row["run"] for row in read_rows(config.out)}
    for run in plan(config, say):
        if run.name not in have:
            row = measure(config, run)
            if row is None:
                return None
            add_row(config.out, row)
            say(f"{run.name} PF: {run.params / 1e6:.3g} M parameters, {run.steps} steps, held-out loss {row['loss']:.4f}")
    return points(config)


def plan(config: ScalingConfig, say: Say = print) -> list[Planned]:
    """What the sweep consists of, cheapest budget first; what a budget pays too few steps for is told and left out."""
    text, planned = mean_text(config.train), []
    loader = Loader(loader_config(config, config.train), config.seed)
    bucket, batch = loader.plan()[0].bucket, loader.plan()[0].batch
    loader.close()
    for budget in sorted(config.budgets):
        for size in config.sizes:
            model = config.model_of(size)
            with torch.device("meta"):
                params = sum(weight.numel() for weight in DiT(model).parameters())
            run = Planned(size, budget, params, batch * bucket.tokens, training_flops(model, batch, bucket.tokens, text))
            if run.steps < config.least_steps:
                say(f"left out: {run.name} PF pays {run.steps} steps, fewer than least_steps={config.least_steps}")
            else:
                planned.append(run)
    return planned


def measure(config: ScalingConfig, run: Planned) -> dict[str, Any] | None:
    """Train one model and score it; its row, or None where it was told to stop before its end."""
    began = time.monotonic()
    finished = train_video(recipe_of(config, run))
    if finished.progress < 1:
        return None
    model = DiT(config.model_of(run.size))
    model.load_state_dict(finished.averaged())
    return {
        "run": run.name,
        "size": run.size.name,
        "budget": run.budget,
        "params": run.params / BILLION,
        "tokens": run.steps * run.tokens_a_step / BILLION,
        "steps": run.steps,
        "loss": heldout_loss(model, loader_config(config, config.heldout), config.shift, config.heldout_batches, config.seed),
        "seconds": round(time.monotonic() - began, 1),
    }


def recipe_of(config: ScalingConfig, run: Planned) -> VideoRecipe:
    rate = config.rate_of(run.size)
    return VideoRecipe(
        model=config.model_of(run.size),
        task=VideoTask(folders=config.train, stages=(config.stage,)),
        loop=LoopConfig(
            out=config.out / RUNS / run.name,
            steps=run.steps,
            optimizer="muon",
            lr=rate,
            muon_lr=rate,
            warmup=max(run.steps // 20, 1),
            ema=config.ema,
            seed=config.seed,
            log_every=max(run.steps // 10, 1),
            peak_tflops=1.0,
        ),
        device=config.device,
    )


@torch.no_grad()
def heldout_loss(model: DiT, reads: LoaderConfig, shift: float, batches: int, seed: int) -> float:
    """The objective on held-out clips: the same clips, noise and times for every model."""
    loader = Loader(replace(reads, sample=False), seed)
    flow, losses = FlowConfig(shift=shift, text_dropout=0.0), []
    for number in range(batches):
        batch = loader.next()
        draws = draw(batch.latents.shape, batch.bucket.tokens, batch.total, 0, hashed(seed, number), flow, torch.device("cpu"))
        losses.append(flow_loss(model.eval(), batch.latents, batch.text, batch.text_mask, batch.pooled, draws))
    loader.close()
    return float(torch.cat(losses).mean())


def loader_config(config: ScalingConfig, folders: tuple[Path, ...]) -> LoaderConfig:
    return LoaderConfig(folders=folders, tokens=config.tokens, sides=(config.side,), frames=(config.frames,))


def mean_text(folders: tuple[Path, ...]) -> int:
    """Tokens of a text on average."""
    parts = Index(LoaderConfig(folders=folders, tokens=2**40)).length_parts
    return round(float(np.concatenate(parts).mean()))


def claim(config: ScalingConfig) -> None:
    """Leave the sweep's settings in `out`, or hold them against those that are there; what may change, sizes and budgets, is left out.

    Raises InputError where they differ.
    """
    facts = json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}, default=str))
    path = config.out / SETTINGS
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as draft:
            draft.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    there = json.loads(path.read_text(encoding="utf-8"))
    differ = [f"{name}={there.get(name)!r} there, {value!r} here" for name, value in facts.items() if there.get(name) != value]
    if differ:
        raise InputError(f"{config.out} holds rows of another sweep ({'; '.join(differ)}): give another `out`")


def read_rows(out: Path) -> Iterator[dict[str, Any]]:
    path = out / ROWS
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def add_row(out: Path, row: dict[str, Any]) -> None:
    rows = [*read_rows(out), row]
    with whole_file(out / ROWS) as draft:
        draft.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


def points(config: ScalingConfig) -> list[Point]:
    """The rows of the sizes and budgets that the sweep names."""
    wanted = {(size.name, budget) for size in config.sizes for budget in config.budgets}
    names = ("size", "budget", "params", "tokens", "loss")
    return [Point(**{name: row[name] for name in names}) for row in read_rows(config.out) if (row["size"], row["budget"]) in wanted]
