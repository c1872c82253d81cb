"""How a model's videos as a whole differ from real ones: distances between two sets of feature vectors.

The Fréchet distance of few samples is too large, by about 1/N; `frechet_unbiased` extrapolates it to infinitely many (Chong & Forsyth
2020, arXiv 1911.07023), and every result carries N. The kernel distance has no such bias (Bińkowski et al. 2018, arXiv 1801.01401).
"""

import numpy as np
from jaxtyping import Float

from kinema.errors import InputError

FEWEST = 8  # vectors of a set; fewer say nothing
FEWEST_FRECHET = 64  # below, the covariances say nothing and the line through 1/N less
FEWEST_FVD = 256  # videos below which nothing is called FVD
DRAWS, SHARES = 5, (0.4, 0.55, 0.7, 0.85, 1.0)  # subsets of each size, for the extrapolation
NEIGHBOURS = 3  # of precision and recall
Vectors = Float[np.ndarray, "_ d"]


def checked(ours: Vectors, theirs: Vectors, fewest: int = FEWEST) -> tuple[Vectors, Vectors]:
    """In float64. Raises InputError for too few."""
    if min(len(ours), len(theirs)) < fewest:
        raise InputError(f"{len(ours)} and {len(theirs)} videos: this distance between sets needs {fewest} of each")
    return ours.astype(np.float64), theirs.astype(np.float64)


def frechet(ours: Vectors, theirs: Vectors) -> float:
    """|mean difference|² + trace of what their covariances differ by (Dowson & Landau 1982; Heusel et al. 2017); 0 for equal sets."""
    ours, theirs = checked(ours, theirs)
    means = ours.mean(axis=0) - theirs.mean(axis=0)
    a, b = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    cross = np.linalg.svd(
        a @ b.T / np.sqrt((len(a) - 1.0) * (len(b) - 1.0)), compute_uv=False
    ).sum()  # trace of the covariances' joint root
    return float(max(0.0, means @ means + (a**2).sum() / (len(a) - 1) + (b**2).sum() / (len(b) - 1) - 2 * cross))


def frechet_unbiased(ours: Vectors, theirs: Vectors, seed: int = 0) -> float:
    """The Fréchet distance at infinitely many samples: a line through it over 1/N, N from 40 % of the samples to all. May be below 0."""
    ours, theirs = checked(ours, theirs, FEWEST_FRECHET)
    rng, points = np.random.default_rng(seed), []
    for share in SHARES:
        for _ in range(DRAWS if share < 1 else 1):
            some = [rows[rng.permutation(len(rows))[: max(FEWEST, round(share * len(rows)))]] for rows in (ours, theirs)]
            points.append((1 / len(some[0]), frechet(*some)))
    inverse, values = np.array(points).T
    return float(np.polyfit(inverse, values, 1)[1])


def kernel(ours: Vectors, theirs: Vectors) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / d + 1)³, unbiased; about 0 for sets of one distribution."""
    ours, theirs = checked(ours, theirs)
    alike = [(rows @ rows.T / rows.shape[1] + 1) ** 3 for rows in (ours, theirs)]
    within = sum((some.sum() - np.trace(some)) / (len(some) * (len(some) - 1)) for some in alike)
    return float(within - 2 * ((ours @ theirs.T / ours.shape[1] + 1) ** 3).mean())


def precision(ours: Vectors, theirs: Vectors) -> float:
    """Share of ours that lie among theirs: within a real sample's distance to its third neighbour (Kynkäänniemi et al. 2019)."""
    return covered(*checked(ours, theirs))


def recall(ours: Vectors, theirs: Vectors) -> float:
    """Share of theirs that lie among ours."""
    return covered(*checked(theirs, ours))


def covered(points: Vectors, by: Vectors) -> float:
    radii = np.sort(distances(by, by), axis=1)[:, min(NEIGHBOURS, len(by) - 1)]  # the nearest is the sample itself
    return float((distances(points, by) <= radii + 1e-9).any(axis=1).mean())


def distances(a: Vectors, b: Vectors) -> Float[np.ndarray, "_ _"]:
    return np.sqrt(np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0))


def fvd(ours: Vectors, theirs: Vectors) -> float:
    """Fréchet video distance on I3D's 400 logits, as published: with its bias of few samples. Raises InputError below 256 videos."""
    if min(len(ours), len(theirs)) < FEWEST_FVD:
        raise InputError(f"{len(ours)} and {len(theirs)} videos: below {FEWEST_FVD} of each the bias is larger than the distance")
    return frechet(ours, theirs)
