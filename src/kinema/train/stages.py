"""The progressive schedule: what a run sees at which time, as rows of a table.

From small pictures to long videos: 256-pixel pictures; 256 and 512 together, since large pictures alone unlearn small ones; pictures
and short small videos; long small ones; long large ones; at last the clips that people have approved.
Source of the order: HunyuanVideo (arXiv 2412.03603, §4.5; in the text of its two image stages and its joint training). It prints no
steps, batches, rates or shifts: those of PUBLISHED_13B are ours, set so that the first rows meet the tokens of the scaling law.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from kinema.data.buckets import ASPECTS, Bucket, bucket_grid
from kinema.errors import InputError

SQUARE = ((1, 1),)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row. Raises InputError where a number does not fit."""

    name: str
    sides: tuple[int, ...]  # buckets of about side x side pixels
    frames: tuple[int, ...]  # T, 1 is a picture
    steps: int  # of loop.steps; where that differs from the rows' sum, rows keep their proportions
    tokens: int  # the most that B·L may be, of all ranks together
    image_share: float | None = None  # of the steps; None: as many as there are clips
    shift: float = 1.0  # of the training times, at the row's largest bucket; smaller ones have less
    lr: float = 1.0  # first rate, as a share of loop.lr
    lr_end: float = 1.0  # last rate; a cosine lies between
    text_dropout: float = 0.1
    given_share: float = 0.0  # of samples whose first, last or other latent frames are given: the image condition
    reviewed: bool = False  # only the clips that people have approved

    def __post_init__(self):
        if not (self.sides and self.frames) or min(self.sides) < 16:
            raise InputError(f"stage {self.name}: sides={self.sides} and frames={self.frames} need one number each, a side 16 or more")
        if self.steps < 1 or self.tokens < 1 or self.lr < 0 or self.lr_end < 0:
            raise InputError(f"stage {self.name}: steps={self.steps}, tokens={self.tokens} must be 1 or more, lr 0 or more")
        if self.image_share is not None and not 0 <= self.image_share <= 1:
            raise InputError(f"stage {self.name}: image_share={self.image_share} must lie between 0 and 1")

    def buckets(self, aspects: tuple[tuple[int, int], ...] = ASPECTS) -> list[Bucket]:
        return bucket_grid(self.sides, self.frames, aspects)

    @property
    def largest(self) -> Bucket:
        """The square bucket with most tokens, which memory must hold."""
        return max(self.buckets(SQUARE), key=lambda bucket: bucket.tokens)


MINI: tuple[Stage, ...] = (
    Stage(name="pictures 64", sides=(64,), frames=(1,), steps=1500, tokens=8192, image_share=1.0, shift=1.0),
    Stage(name="pictures 64+128", sides=(64, 128), frames=(1,), steps=1000, tokens=16_384, image_share=1.0, shift=1.2),
    Stage(name="short 64", sides=(64,), frames=(1, 9), steps=1500, tokens=18_432, image_share=0.2, shift=1.2, given_share=0.1),
    Stage(name="long 64", sides=(64,), frames=(1, 33), steps=4000, tokens=36_864, image_share=0.1, shift=1.5, given_share=0.1),
    Stage(
        name="long 128", sides=(128,), frames=(1, 33), steps=5000, tokens=73_728, image_share=0.1, shift=2.0, lr_end=0.05, given_share=0.1
    ),
    Stage(name="approved 128", sides=(128,), frames=(33,), steps=500, tokens=36_864, shift=2.0, lr=0.1, lr_end=0.01, reviewed=True),
)
"""For mini: sides and lengths are about a quarter of the published ones. A third of an hour on one H100."""

PUBLISHED_13B: tuple[Stage, ...] = (
    Stage(name="pictures 256", sides=(256,), frames=(1,), steps=275_000, tokens=2_097_152, image_share=1.0, shift=1.0),
    Stage(name="pictures 256+512", sides=(256, 512), frames=(1,), steps=75_000, tokens=2_097_152, image_share=1.0, shift=2.0),
    Stage(name="short 256", sides=(256,), frames=(1, 33), steps=150_000, tokens=4_194_304, image_share=0.2, shift=3.0, lr=0.5, lr_end=0.5),
    Stage(
        name="long 256", sides=(256,), frames=(1, 65, 129), steps=75_000, tokens=4_194_304, image_share=0.1, shift=4.0, lr=0.5, lr_end=0.5
    ),
    Stage(
        name="long 544", sides=(544,), frames=(1, 65, 129), steps=40_000, tokens=4_194_304, image_share=0.1, shift=5.5, lr=0.25, lr_end=0.25
    ),
    Stage(
        name="long 960",
        sides=(960,),
        frames=(1, 65, 129),
        steps=20_000,
        tokens=8_388_608,
        image_share=0.1,
        shift=7.0,
        lr=0.25,
        lr_end=0.1,
        given_share=0.1,
    ),
    Stage(
        name="approved 960",
        sides=(960,),
        frames=(65, 129),
        steps=5_000,
        tokens=4_194_304,
        shift=7.0,
        lr=0.1,
        lr_end=0.01,
        given_share=0.1,
        reviewed=True,
    ),
)
"""For t2v_13b: 960 pixels square are 720 x 1280 in area. 275,000 x 2.1 M and 75,000 x 2.1 M tokens are the 734 billion of the image
scaling law; 150,000 and 75,000 steps of 4.2 M the 944 billion of the video one."""

StageName = Literal["mini", "mini_pretraining", "published_13b"]
STAGES: dict[StageName, tuple[Stage, ...]] = {"mini": MINI, "mini_pretraining": MINI[:-1], "published_13b": PUBLISHED_13B}


class Walk:
    """Where in its rows a run is. With `seconds` in place of steps, a row's share of the time is its share of the tokens."""

    def __init__(self, rows: tuple[Stage, ...], by_clock: bool):
        if not rows:
            raise InputError("stages=[] has no row: give a table's name or at least one [[task.stages]]")
        self.rows = rows
        sizes = [row.steps * (row.tokens if by_clock else 1) for row in rows]
        self.ends = [end / sum(sizes) for end in accumulate(sizes)]  # progress at which each row ends
        self.ends[-1] = 1.0

    def place(self, progress: float) -> tuple[int, float]:
        """The row's number, and how much of it is done, in [0, 1]."""
        row = min(bisect_right(self.ends, progress), len(self.rows) - 1)
        start = self.ends[row - 1] if row else 0.0
        return row, min((progress - start) / (self.ends[row] - start), 1.0)

    def rate(self, progress: float, step: int, warmup: int) -> float:
        """The learning rate as a share of its peak: a linear warm-up of the run, and a cosine within each row."""
        row, done = self.place(progress)
        first, last = self.rows[row].lr, self.rows[row].lr_end
        return min(1.0, (step + 1) / max(warmup, 1)) * (last + (first - last) * 0.5 * (1 + math.cos(math.pi * done)))
