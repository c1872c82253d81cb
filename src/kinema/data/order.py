"""Which samples each step sees: a pure function of the seed, the data and the step's number.

A step draws a bucket, then takes the bucket's next global batch; nothing here knows of ranks or workers. A bucket's epoch is a
shuffled permutation of its clips (a source of weight 2 comes twice an epoch, of weight 0.5 every other), each with one of its
texts, cut into batches of texts of equal or nearly equal length, so that there is little padding, and the batches shuffled.
"""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from kinema.data.buckets import Bucket

BLOCK = 4096  # steps scheduled at a time


@dataclass(frozen=True)
class Source:
    """The clips of one folder in one bucket."""

    rows: Int[np.ndarray, " n"]  # numbers of the clips
    texts: Int[np.ndarray, " n"]  # how many each has
    first_text: Int[np.ndarray, " n"]  # where its texts begin in text_lengths
    text_lengths: Int[np.ndarray, " _"]  # tokens, of all texts
    weight: float  # how often each clip comes in an epoch

    def turns(self, rounds: int) -> tuple[int, int]:
        """How often every clip comes in so many rounds, and how many clips come once more."""
        whole, part = divmod(self.weight * rounds, 1)
        return int(whole), math.ceil(part * len(self.rows))


@dataclass(frozen=True)
class Stream:
    """A bucket, its clips, and its batch."""

    bucket: Bucket
    sources: tuple[Source, ...]
    batch: int  # B, of all ranks together

    @property
    def clips(self) -> int:
        return sum(len(source.rows) for source in self.sources)

    @property
    def epoch_samples(self) -> float:
        return sum(len(source.rows) * source.weight for source in self.sources)

    @property
    def rounds(self) -> int:
        """Passes over the clips in an epoch: more than one where a pass fills no batch."""
        return max(1, math.ceil(self.batch / self.epoch_samples))

    @property
    def epoch_batches(self) -> int:
        """How many batches every epoch has."""
        turns = [(len(source.rows), *source.turns(self.rounds)) for source in self.sources]
        return sum(n * whole + part for n, whole, part in turns) // self.batch


@dataclass(frozen=True)
class Pick:
    """One step's global batch."""

    step: int
    bucket: Bucket
    rows: Int[np.ndarray, " B"]
    texts: Int[np.ndarray, " B"]  # which text of each clip
    lengths: Int[np.ndarray, " B"]  # of these texts, tokens


def generator(*key: int) -> np.random.Generator:
    """Random numbers that depend on `key` alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def places_of(source: Source, rng: np.random.Generator, rounds: int) -> Int[np.ndarray, " _"]:
    """Places of a source's clips in one epoch of so many rounds: each clip `weight` times a round."""
    whole, part = source.turns(rounds)
    n = len(source.rows)
    return np.concatenate([*(rng.permutation(n) for _ in range(whole)), rng.permutation(n)[:part]])


def epoch_of(stream: Stream, seed: int, epoch: int) -> tuple[Int[np.ndarray, "m B"], Int[np.ndarray, "m B"], Int[np.ndarray, "m B"]]:
    """Rows, texts and text lengths of every batch of an epoch; what does not fill a batch is left for other epochs."""
    rng = generator(seed, zlib.crc32(str(stream.bucket).encode()), epoch)
    picked = []
    for source in stream.sources:
        places = places_of(source, rng, stream.rounds)
        texts = rng.integers(0, source.texts[places])
        picked.append(np.stack([source.rows[places], texts, source.text_lengths[source.first_text[places] + texts]]))
    every = rng.permutation(np.concatenate(picked, 1), axis=1)
    every = every[:, : stream.epoch_batches * stream.batch]
    batches = every[:, every[2].argsort(kind="stable")].reshape(3, -1, stream.batch)
    rows, texts, lengths = rng.permutation(batches, axis=1)
    return rows, texts, lengths


class Order:
    """Steps to batches, over given streams."""

    def __init__(self, streams: list[Stream], shares: Float[np.ndarray, " s"], seed: int):
        """shares: how often each stream's turn comes; they sum to 1."""
        self.streams, self.shares, self.seed = streams, shares, seed
        self.before = [np.zeros(len(streams), np.int64)]  # turns that each stream had before a block
        self.epoch = lru_cache(2 * len(streams))(lambda place, epoch: epoch_of(streams[place], seed, epoch))
        self.schedule = lru_cache(2)(self.draw_block)

    def draw_block(self, block: int) -> Int[np.ndarray, " steps"]:
        return generator(self.seed, block).choice(len(self.streams), BLOCK, p=self.shares)

    def turn(self, step: int) -> tuple[int, int]:
        """Which stream a step takes, and how many batches it took from it before."""
        block, place = divmod(step, BLOCK)
        while len(self.before) <= block:
            turns = np.bincount(self.schedule(len(self.before) - 1), minlength=len(self.streams))
            self.before.append(self.before[-1] + turns)
        chosen = self.schedule(block)
        stream = int(chosen[place])
        return stream, int(self.before[block][stream] + (chosen[:place] == stream).sum())

    def pick(self, step: int) -> Pick:
        place, turn = self.turn(step)
        epoch, batch = divmod(turn, self.streams[place].epoch_batches)
        rows, texts, lengths = self.epoch(place, epoch)
        return Pick(step, self.streams[place].bucket, rows[batch], texts[batch], lengths[batch])
