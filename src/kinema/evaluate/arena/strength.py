"""Strengths from pairwise answers: Bradley-Terry with ties.

Model: P(i beats j) = s_i / (s_i + s_j + v sqrt(s_i s_j)), P(tie) = v sqrt(s_i s_j) / the same (Davidson 1970, JASA 65:317).
A maximum-likelihood fit, unlike online Elo, does not depend on the order of the votes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

ELO = 400 / np.log(10)  # one unit of log-strength in Elo points
NEWTON_STEPS = 25
RIDGE = 0.01  # keeps a model that won or lost everything at a finite place

Outcome = tuple[int, str, str, float]  # prompt, first model, second model, 1 if the first won, 0.5 for a tie, 0


@dataclass(frozen=True)
class Strengths:
    """Elo-like points, mean 1000, with 95 % intervals from resampled prompts."""

    points: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    tie: float  # v: how readily raters call it a tie

    @property
    def ranking(self) -> list[str]:
        return sorted(self.points, key=lambda model: -self.points[model])


def fit_strengths(outcomes: Sequence[Outcome], models: Sequence[str], samples: int = 1000, seed: int = 0) -> Strengths:
    """Fit all outcomes, and `samples` times those of prompts drawn with replacement: votes on one prompt are not independent."""
    counts = tally(outcomes, models)
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=samples)
    fits = davidson(np.concatenate([counts.sum(0)[None], np.einsum("sp,pck->sck", drawn, counts)]), len(models))
    points = 1000 + ELO * (fits[:, :-1] - fits[:, :-1].mean(1, keepdims=True))
    best, low, high = (
        dict(zip(models, each.tolist(), strict=True)) for each in (points[0], *np.quantile(points[1:], [0.025, 0.975], axis=0))
    )
    return Strengths(best, low, high, tie=float(np.exp(fits[0, -1])))


def tally(outcomes: Sequence[Outcome], models: Sequence[str]) -> np.ndarray:
    """Counts [prompts, pairs of models in order, (first won, second won, tie)]."""
    index = {pair: place for place, pair in enumerate(combinations(models, 2))}
    prompts = {prompt: place for place, prompt in enumerate(sorted({outcome[0] for outcome in outcomes}))}
    counts = np.zeros((len(prompts), len(index), 3))
    for prompt, first, second, score in outcomes:
        straight = (first, second) in index
        kind = 2 if score == 0.5 else int((score == 1) != straight)
        counts[prompts[prompt], index[first, second] if straight else index[second, first], kind] += 1
    return counts


def davidson(counts: np.ndarray, size: int) -> np.ndarray:
    """The maximum penalised likelihood of every sample: log-strengths and log v, [samples, size + 1], by Newton's method.

    counts: [samples, pairs, 3] as in `tally`. The log-likelihood is that of a multinomial logit, so it is concave.
    """
    design = np.zeros((counts.shape[1], 3, size + 1))  # scores of the three outcomes as linear functions of the parameters
    for place, (first, second) in enumerate(combinations(range(size), 2)):
        design[place, [0, 1], [first, second]] = 1
        design[place, 2, [first, second, size]] = 0.5, 0.5, 1
    found, every = np.zeros((len(counts), size + 1)), counts.sum(2, keepdims=True)
    for _ in range(NEWTON_STEPS):
        scores = found @ design.reshape(-1, size + 1).T
        share = np.exp(scores - scores.max(1, keepdims=True)).reshape(counts.shape)
        share /= share.sum(2, keepdims=True)
        slope = np.einsum("spk,pkm->sm", every * share - counts, design) + RIDGE * found
        middle = np.einsum("spk,pkm->spm", share, design)
        curvature = np.einsum("spk,pkm,pkn->smn", every * share, design, design, optimize=True)
        curvature -= np.einsum("spm,spn->smn", every * middle, middle, optimize=True)
        found -= np.clip(np.linalg.solve(curvature + RIDGE * np.eye(size + 1), slope[..., None])[..., 0], -2, 2)
    return found
