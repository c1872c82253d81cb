"""Clips that show the same: exact, by perceptual hash, or by the angle between their embeddings.

Candidates are neighbours in the embedding (faiss), so that no two of a million clips need be compared by hand. Of each group the
largest picture stays, then the longest clip. Thresholds: docs/filters.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import gray, spread
from kinema.curation.operator import Level, Measurement, Metric, Rejection, Rows, Table, Value
from kinema.errors import MissingExtraError

FRAMES = 8  # hashed, evenly spread
SIDE, KEPT = 32, 8  # pixels, and frequencies of each axis, of a hash
SLICE = 4096  # clips whose neighbours are asked for at a time


def small_luma(luma: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "32 32"]:
    return cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def perceptual_hash(small: Float[np.ndarray, "32 32"]) -> str:
    """64 bits as 16 hex digits: which of a small picture's 64 lowest cosine terms (without the mean) exceed their median."""
    terms = cv2.dct(small)[: KEPT + 1, : KEPT + 1].ravel()[1 : KEPT * KEPT + 1]
    return np.packbits(terms > np.median(terms)).tobytes().hex()


def fingerprint(frames: UInt8[np.ndarray, "T h w 3"]) -> str:
    """Hashes of 8 frames, and after a bar those of what changes from each to the next, with a space between."""
    small = [small_luma(luma) for luma in gray(spread(frames, FRAMES))]
    changes = [after - before for before, after in pairwise(small)]
    return " | ".join(" ".join(map(perceptual_hash, each)) for each in (small, changes))


def agreeing(one: str, other: str, bits: int) -> tuple[int, int]:
    """How many hashes of frames, and of changes, differ by at most `bits`."""
    sides = [zip(a.split(), b.split(), strict=False) for a, b in zip(one.split("|"), other.split("|"), strict=True)]
    frames, changes = (sum((int(a, 16) ^ int(b, 16)).bit_count() <= bits for a, b in pairs) for pairs in sides)
    return frames, changes


def neighbours(vectors: Float[np.ndarray, "n D"], least: float, count: int) -> Iterator[tuple[int, int, float]]:
    """Pairs (a, b), a < b, among each vector's `count` nearest whose cosine is at least `least`. Vectors have length 1."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "curate") from error
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    for start in range(0, len(vectors), SLICE):
        cosines, places = index.search(vectors[start : start + SLICE], min(count + 1, len(vectors)))
        for a, (row, near) in enumerate(zip(cosines.tolist(), places.tolist(), strict=True), start=start):
            yield from ((a, b, cosine) for b, cosine in zip(near, row, strict=True) if a < b and cosine >= least)


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Throws away all but one of the clips that show the same."""

    name: ClassVar[str] = "duplicates"
    version: ClassVar[str] = "2"
    over: ClassVar[Level] = "set"
    needs: ClassVar[tuple[str, ...]] = ("geometry", "fingerprint", "embedding")
    gives: ClassVar[tuple[Metric, ...]] = (Metric("duplicate_of"), Metric("nearest_cosine", "cosine"))
    cosine: float = 0.985  # above: the same
    likely_cosine: float = 0.75  # above: the same if the hashes agree
    bits: int = 6  # in which two hashes may differ
    hashes: int = 6  # of 8 that must agree
    rough_cosine: float = 0.93  # above: the same if frames agree roughly and change alike
    rough_bits: int = 16  # in which two hashes may then differ
    rough_frames: int = 5  # of 8 frames
    rough_changes: int = 4  # of the 7 changes between them
    nearest: int = 32  # neighbours looked at

    def run_set(self, table: Table) -> Mapping[str, Rows]:
        vectors = table.vectors.get("embedding", np.full((len(table.items), 1), np.nan, np.float32))
        there = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        order = there[np.argsort([place_in_line(table, index) for index in there.tolist()], kind="stable")] if len(there) else there
        twin, nearest = self.matches(table, order, vectors)
        rows: dict[str, Rows] = {}
        for place, index in enumerate(order.tolist()):
            rows[table.items[index].key] = self.rows_of(table, twin.get(place), order, nearest.get(place))
        return rows

    def matches(self, table: Table, order: np.ndarray, vectors: np.ndarray) -> tuple[dict[int, int], dict[int, float]]:
        """By place in line: the earlier clip that each repeats, and the cosine of its nearest."""
        files, hashes = table.column("file"), table.column("fingerprint")
        nearest: dict[int, float] = {}
        same: dict[int, list[int]] = {}
        if len(order):
            for a, b, cosine in neighbours(np.ascontiguousarray(vectors[order], np.float32), self.likely_cosine, self.nearest):
                nearest[a], nearest[b] = max(nearest.get(a, -1.0), cosine), max(nearest.get(b, -1.0), cosine)
                if cosine >= self.cosine or self.looks_alike(hashes[order[a]], hashes[order[b]], cosine):
                    same.setdefault(b, []).append(a)
        for group in exact_groups(files, order):
            for later in group[1:]:
                same.setdefault(later, []).append(group[0])
        twin: dict[int, int] = {}
        for place in sorted(same):
            if kept := [earlier for earlier in sorted(same[place]) if earlier not in twin]:
                twin[place] = kept[0]
        return twin, nearest

    def looks_alike(self, one: Value, other: Value, cosine: float) -> bool:
        """By their frames; or, where the embeddings agree well, by frames that agree roughly and change alike: one fixed camera shows the
        same room again and again, but not the same movement in it."""
        if not (isinstance(one, str) and isinstance(other, str)):
            return False
        if agreeing(one, other, self.bits)[0] >= self.hashes:
            return True
        frames, changes = agreeing(one, other, self.rough_bits)
        return cosine >= self.rough_cosine and frames >= self.rough_frames and changes >= self.rough_changes

    def rows_of(self, table: Table, twin: int | None, order: np.ndarray, cosine: float | None) -> Rows:
        first = None if twin is None else table.items[order[twin]].key
        rows: list[Any] = [Measurement("duplicate_of", first), Measurement("nearest_cosine", cosine)]
        return rows if first is None else [*rows, Rejection("duplicate", f"of {first}")]


def place_in_line(table: Table, index: int) -> float:
    """Less for a larger and longer clip, which is kept before the others."""
    width, height, seconds = (float(table.column(name)[index] or 0) for name in ("width", "height", "seconds"))
    return -(width * height + seconds / 1e3)


def exact_groups(files: Sequence[Value], order: np.ndarray) -> list[list[int]]:
    """Places in line of clips whose files are the same."""
    groups: dict[Value, list[int]] = {}
    for place, index in enumerate(order.tolist()):
        if files[index] is not None:
            groups.setdefault(files[index], []).append(place)
    return [group for group in groups.values() if len(group) > 1]
