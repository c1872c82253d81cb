"""What a run will do before it does it: stages, buckets, batches, tokens, FLOPs, memory and the time expected.

Where the data are not there yet, the nominal buckets of each row stand in for those of the folders, all equally often.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kinema.data.buckets import ASPECTS, StepCost, batch_sizes, calibrate
from kinema.data.loader import Loader, Planned
from kinema.dit.model import DiT, DiTConfig
from kinema.parallel.mesh import MeshConfig, local_device
from kinema.train.flops import training_flops
from kinema.train.objective import Draws, flow_loss
from kinema.train.recipe import VideoRecipe
from kinema.train.speed import TERA, matmul_peak
from kinema.train.stages import Stage

USUAL_MFU = 0.35  # where nothing was measured
USUAL_TEXT = 64  # tokens, where there are no folders to ask
BYTES_A_WEIGHT = 4 + 4 + 8 + 4  # weight, gradient, AdamW's two moments, average; all float32
BLOCK_WIDTHS = 34  # bytes of a block's activations over tokens x width, in bfloat16 with float32 norms: 17 tensors as wide as D


@dataclass(frozen=True)
class Row:
    """One bucket of one stage."""

    stage: str
    planned: Planned
    steps: float
    tokens: float  # of all its steps, video alone
    flops: float  # of all its steps
    seconds: float  # of all its steps


@dataclass(frozen=True)
class Plan:
    rows: list[Row]
    notes: list[str]

    def total(self, name: str) -> float:
        return sum(getattr(row, name) for row in self.rows)


def plan(recipe: VideoRecipe, measure: bool = False) -> Plan:
    """Every stage's buckets and what they cost; `measure`: time the model's steps here, instead of assuming a usual MFU."""
    recipe = recipe.resolved()
    length = recipe.loop.steps / sum(row.steps for row in recipe.task.rows)
    text, notes = text_length(recipe), []
    device = local_device(recipe.device)
    peak = recipe.loop.peak_tflops * TERA if recipe.loop.peak_tflops else matmul_peak(device.type)
    cost = fit_cost(recipe, text, device) if measure else None
    rows = []
    for stage in recipe.task.rows:
        for each in planned(recipe, stage):
            steps, tokens = each.share * stage.steps * length, each.bucket.tokens
            flops = training_flops(recipe.model, each.batch, tokens, text)
            seconds = cost.seconds(each.batch, tokens) if cost else flops / (peak * USUAL_MFU)
            rows.append(Row(stage.name, each, steps, steps * each.batch * tokens, steps * flops, steps * seconds / recipe.mesh.size))
    speed = f"{peak / TERA:.3g} TFLOP/s a rank, {'as stated' if recipe.loop.peak_tflops else 'measured with bfloat16 matrices'}"
    notes.append(f"time: steps timed here (task.exponent = {cost.p:.2f})" if cost else f"time: at an MFU of {USUAL_MFU:.0%} of {speed}")
    if recipe.loop.seconds:
        notes.append(f"loop.seconds={recipe.loop.seconds} ends the run by the clock: steps are proportions")
    notes.append(memory_note(recipe, rows, text))
    return Plan(rows, notes)


def memory_note(recipe: VideoRecipe, rows: Sequence[Row], text: int) -> str:
    """What the largest batch takes of a rank, its texts counted."""
    ranks = recipe.mesh.data * recipe.mesh.shard
    sizes = [(-(-row.planned.batch // ranks), row.planned.bucket) for row in rows]
    samples, bucket = max(sizes, key=lambda size: size[0] * (size[1].tokens + text))
    gigabytes = memory_per_rank(recipe, bucket.tokens + text, samples) / 1e9
    return f"memory: about {gigabytes:.3g} GB a rank, at {samples} samples of {bucket} with texts of {text} tokens"


def planned(recipe: VideoRecipe, stage: Stage) -> list[Planned]:
    """The buckets of a row, as its folders have them, or nominal ones."""
    config = recipe.task.loader(stage)
    if all(folder.exists() for folder in config.folders) and not config.follow:
        loader = Loader(config, recipe.loop.seed)
        loader.close()
        return loader.plan()
    buckets = stage.buckets(ASPECTS)
    sizes = batch_sizes(buckets, tokens=stage.tokens, compute=recipe.task.compute, p=recipe.task.exponent)
    share = nominal_shares(stage, [bucket.frames == 1 for bucket in buckets])
    return [Planned(bucket, sizes[bucket], 0, part) for bucket, part in zip(buckets, share, strict=True)]


def nominal_shares(stage: Stage, images: list[bool]) -> list[float]:
    """Images and videos as the row says, each kind's buckets alike."""
    count = sum(images)
    wanted = count / len(images) if stage.image_share is None or count in (0, len(images)) else stage.image_share
    return [wanted / count if image else (1 - wanted) / (len(images) - count) for image in images]


def text_length(recipe: VideoRecipe) -> int:
    return recipe.task.text_len if recipe.task.folders[0].exists() else USUAL_TEXT


def memory_per_rank(recipe: VideoRecipe, tokens: int, samples: int = 1) -> float:
    """Bytes, an estimate: weights and what belongs to them, and the activations of `samples` samples at a time."""
    return weight_bytes(recipe.model, recipe.mesh) + activation_bytes(recipe, tokens * samples)


def weight_bytes(config: DiTConfig, mesh: MeshConfig) -> float:
    return parameters(config) * BYTES_A_WEIGHT / (mesh.shard * mesh.sequence * mesh.tensor)


def activation_bytes(recipe: VideoRecipe, tokens: int) -> float:
    """With full checkpointing a block keeps its input, and one block at a time all of its activations."""
    config, mesh = recipe.model, recipe.mesh
    blocks = config.double_blocks + config.single_blocks
    inputs, inside = 2, BLOCK_WIDTHS
    kept = inputs * blocks + inside if recipe.memory.checkpointing == "full" else inside * blocks
    return kept * config.width * tokens / (mesh.sequence * mesh.tensor)


def parameters(config: DiTConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in DiT(config).parameters())


def fit_cost(recipe: VideoRecipe, text: int, device: torch.device) -> StepCost:
    """Time real steps of the model at the rows' lengths, short of the longest."""
    lengths = sorted({bucket.tokens for row in recipe.task.rows for bucket in row.buckets(((1, 1),))})
    lengths = lengths if len(lengths) > 1 else [lengths[0], 4 * lengths[0]]
    model = DiT(recipe.model).to(device)
    model.init_weights()

    def step(batch: int, length: int) -> None:
        train_once(model, batch, length, text, device)

    return calibrate(step, lengths, max(lengths), rounds=2)


def train_once(model: DiT, batch: int, tokens: int, text: int, device: torch.device) -> float:
    """One forward and backward pass on noise; returns the seconds it took."""
    config, began = model.config, time.perf_counter()
    latents = torch.randn(batch, config.in_channels, 1, 2, 2 * tokens, device=device)
    draws = Draws(
        torch.rand(batch, device=device),
        torch.zeros(batch, dtype=torch.bool, device=device),
        torch.zeros(batch, 1, dtype=torch.bool, device=device),
        torch.randn_like(latents),
    )
    states = torch.randn(batch, text, config.text_width, device=device)
    flow_loss(model, latents, states, None, torch.randn(batch, config.pooled_width, device=device), draws).mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def table_of(found: Plan) -> Any:
    from rich.table import Table

    table = Table("stage", "bucket", "clips", "batch", "share", "steps", "Mtokens", "PFLOP", "hours")
    for row in found.rows:
        each = row.planned
        figures = (row.tokens / 1e6, row.flops / 1e15, row.seconds / 3600)
        counts = (str(each.clips or "-"), str(each.batch), f"{each.share:.1%}", f"{row.steps:.0f}")
        table.add_row(row.stage, str(each.bucket), *counts, *(f"{figure:.4g}" for figure in figures))
    totals = (found.total("tokens") / 1e6, found.total("flops") / 1e15, found.total("seconds") / 3600)
    table.add_row("all", "", "", "", "", f"{found.total('steps'):.0f}", *(f"{figure:.4g}" for figure in totals), style="bold")
    return table
