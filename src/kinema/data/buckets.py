"""Buckets: clips of one length, height and width make a batch together, and every bucket's batch takes about the same time.

A clip goes to the bucket that keeps most of it: least cropped, least cut in time, never much enlarged.
A bucket's batch B follows from its tokens L and two limits at once: memory, B·L <= M, and compute, B·L^p <= C. Attention makes
p lie between 1 and 2; `calibrate` measures it.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kinema.errors import InputError
from kinema.shapes import SIZE_STEP, TIME_STRIDE, LatentShape, PixelShape

LATENT_CHANNELS = 16  # C, of every preset's VAE
ASPECTS = ((1, 1), (4, 3), (3, 4), (16, 9), (9, 16))  # width to height
MAX_ENLARGEMENT = 1.1  # a clip smaller than this many times its bucket would be blurred
ROUNDING = 0.15  # how far a bucket's side may lie from a nominal one: sides are multiples of 16


@dataclass(frozen=True, order=True)
class Bucket:
    """A size of clip. Raises InputError unless frames = 1 + a multiple of 4 and both sides are multiples of 16."""

    frames: int  # T
    height: int  # H, pixels
    width: int  # W, pixels

    def __post_init__(self):
        PixelShape(self.frames, self.height, self.width)

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> "Bucket":
        """The bucket that `str` wrote."""
        frames, height, width = map(int, text.split("x"))
        return cls(frames, height, width)

    @property
    def latent(self) -> LatentShape:
        return PixelShape(self.frames, self.height, self.width).latent

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """C, t, h, w."""
        return (LATENT_CHANNELS, self.latent.t, self.latent.h, self.latent.w)

    @property
    def tokens(self) -> int:
        """L: what the DiT sees of it, text apart."""
        return self.latent.tokens

    def is_near(self, side: int) -> bool:
        """Whether its area is about side x side."""
        return abs(math.sqrt(self.height * self.width) / side - 1) < ROUNDING


def bucket_grid(sides: Iterable[int], frames: Iterable[int], aspects: Sequence[tuple[int, int]] = ASPECTS) -> list[Bucket]:
    """Every length at every aspect of every side, each of about side x side pixels."""
    sizes = {rounded(side, width / height) for side in sides for width, height in aspects}
    return sorted(Bucket(length, *size) for length in frames for size in sizes)


def rounded(side: int, aspect: float) -> tuple[int, int]:
    """Height and width of this area and aspect, as multiples of 16."""
    height, width = (max(round(each / SIZE_STEP), 1) * SIZE_STEP for each in (side / math.sqrt(aspect), side * math.sqrt(aspect)))
    return height, width


def cost(bucket: Bucket, frames: int, height: int, width: int) -> float:
    """What a clip loses in a bucket, as a sum of logarithms: time cut off, area cropped, detail shrunk; infinite where it does not fit."""
    scale = max(bucket.height / height, bucket.width / width)
    if bucket.frames > frames or scale > MAX_ENLARGEMENT:
        return math.inf
    kept = (bucket.height / height) * (bucket.width / width) / scale**2
    return math.log(frames / bucket.frames) - math.log(kept) + abs(math.log(scale))


def assign(buckets: Iterable[Bucket], frames: int, height: int, width: int) -> Bucket | None:
    """The bucket where a clip of this size loses least; None where it is too short or too small for all."""
    best = min(buckets, key=lambda bucket: (cost(bucket, frames, height, width), bucket), default=None)
    return best if best is not None and math.isfinite(cost(best, frames, height, width)) else None


def batch_sizes(buckets: Iterable[Bucket], *, tokens: int, compute: float | None = None, p: float = 1.0) -> dict[Bucket, int]:
    """The largest batch of each bucket within both limits.

    tokens: M, the memory limit, of B·L. compute: C, of B·L^p; None sets no such limit.
    Raises InputError where one clip of a bucket is already too much.
    """
    sizes = {}
    for bucket in buckets:
        sizes[bucket] = min(tokens // bucket.tokens, math.floor(compute / bucket.tokens**p) if compute else tokens)
        if sizes[bucket] < 1:
            need = f"tokens={bucket.tokens}" + (f" and compute={bucket.tokens**p:.4g}" if compute else "")
            raise InputError(f"one clip of {bucket} is more than tokens={tokens}, compute={compute} allow: give at least {need}")
    return sizes


@dataclass(frozen=True)
class StepCost:
    """A step's time, fitted: seconds = scale · B · L^p."""

    scale: float
    p: float

    def compute(self, seconds: float) -> float:
        """C: the compute limit whose steps take so long."""
        return seconds / self.scale

    def seconds(self, batch: int, tokens: int) -> float:
        return self.scale * batch * tokens**self.p


def calibrate(step: Callable[[int, int], None], lengths: Sequence[int], tokens: int, rounds: int = 3) -> StepCost:
    """Time `step(B, L)` at several lengths, each with B·L near `tokens`, and fit a clip's seconds by a power of L.

    step: does one training step and waits until it is done (a GPU must be synchronised). Its first call at a length is not timed.
    Raises InputError where fewer than two lengths differ.
    """
    if len(set(lengths)) < 2:
        raise InputError(f"lengths={list(lengths)}: a power needs at least two different ones")
    seconds = [shortest_step(step, max(tokens // length, 1), length, rounds) / max(tokens // length, 1) for length in lengths]
    p, offset = np.polyfit(np.log(lengths), np.log(seconds), 1)
    return StepCost(float(np.exp(offset)), float(p))


def shortest_step(step: Callable[[int, int], None], batch: int, length: int, rounds: int) -> float:
    step(batch, length)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        step(batch, length)
        times.append(time.perf_counter() - began)
    return min(times)


def fitting_length(frames: int) -> int:
    """The longest 1 + a multiple of 4 within `frames`."""
    return (frames - 1) // TIME_STRIDE * TIME_STRIDE + 1
