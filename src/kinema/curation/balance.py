"""Concepts: clusters of what clips show, and how often each clip should be drawn so that rare concepts are not drowned.

HunyuanVideo clusters its clips into about 10,000 concepts by k-means and balances them (arXiv 2412.03603 §3.1); it publishes no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from kinema.curation.operator import Level, Measurement, Metric, Rows, Table
from kinema.errors import MissingExtraError

MOST_CLUSTERS = 10_000


def cluster(vectors: Float[np.ndarray, "n D"], count: int, rounds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Spherical k-means; the same vectors give the same clusters. Vectors have length 1."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "curate") from error
    faiss.omp_set_num_threads(1)
    means = faiss.Kmeans(vectors.shape[1], count, niter=rounds, seed=seed, spherical=True, min_points_per_centroid=1)
    means.train(vectors)
    return means.index.search(vectors, 1)[1][:, 0]


def weights_of(labels: Int[np.ndarray, " n"], flatten: float, cap: float) -> Float[np.ndarray, " n"]:
    """How often to draw each clip, mean 1: a cluster of n counts as min(n, cap)^(1 - flatten).

    flatten: 0 leaves the sizes as they are, 1 makes all clusters equal. cap: quantile of the sizes above which a cluster grows no more.
    """
    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    mass = np.minimum(sizes, max(1.0, float(np.quantile(sizes, cap)))) ** (1 - flatten)
    weights = (mass / sizes)[place]
    return weights / weights.mean()


def gini(masses: Float[np.ndarray, " k"] | Int[np.ndarray, " k"]) -> float:
    """Inequality of cluster sizes, 0 (all equal) to 1 (one has all)."""
    ordered = np.sort(np.asarray(masses, float))
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """Gives each clip its cluster and its weight."""

    name: ClassVar[str] = "concepts"
    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "set"
    needs: ClassVar[tuple[str, ...]] = ("embedding",)
    gives: ClassVar[tuple[Metric, ...]] = (Metric("cluster"), Metric("weight", "mean 1"))
    clips_each: int = 50  # aimed at, in the mean
    rounds: int = 20
    flatten: float = 0.5
    cap: float = 0.95
    seed: int = 0

    def run_set(self, table: Table) -> Mapping[str, Rows]:
        vectors = table.vectors.get("embedding", np.full((len(table.items), 1), np.nan, np.float32))
        there = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        if not len(there):
            return {}
        count = max(1, min(MOST_CLUSTERS, round(len(there) / self.clips_each)))
        labels = cluster(np.ascontiguousarray(vectors[there], np.float32), count, self.rounds, self.seed)
        weights = weights_of(labels, self.flatten, self.cap)
        rows = zip(there.tolist(), labels.tolist(), weights.tolist(), strict=True)
        return {
            table.items[index].key: [Measurement("cluster", float(label)), Measurement("weight", weight)] for index, label, weight in rows
        }
