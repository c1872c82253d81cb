"""The scaling law: how large a model, on how many tokens, makes the best of a budget of compute.

Each budget's runs give a valley of loss over size; a parabola in the logarithm of the size finds its floor; two power laws are laid
through the floors: N_opt = a1 C^b1 and D_opt = a2 C^b2. Intervals come from drawing the residuals of the parabolas anew.
Units, as in the paper: N in billions of parameters, D in billions of tokens, C in PetaFLOPs (10^15 operations).
Source: Hoffmann et al. 2022 (arXiv 2203.15556, approach 2); HunyuanVideo (arXiv 2412.03603, §4.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float

from kinema.errors import InputError

BILLION, PETA = 1e9, 1e15
LEAST_SIZES = 4  # a budget: a parabola has three unknowns
LEAST_BUDGETS = 2
RESAMPLES = 1000
LEVEL = (2.5, 97.5)  # per cent: a 95 % interval
TRUSTED = 0.5  # of the resamples must give a law, else there is none


Number = float | Float[np.ndarray, " k"]
"""One value, or one for each resample."""


@dataclass(frozen=True)
class PowerLaw:
    """y = a x^b."""

    a: Number
    b: Number

    def __call__(self, x: float) -> Number:
        return self.a * x**self.b


@dataclass(frozen=True)
class ScalingLaw:
    """The best size and number of tokens for a budget."""

    size: PowerLaw  # C in PetaFLOPs -> N in billions
    tokens: PowerLaw  # C in PetaFLOPs -> D in billions

    @property
    def coefficients(self) -> dict[str, Number]:
        return {"a1": self.size.a, "b1": self.size.b, "a2": self.tokens.a, "b2": self.tokens.b}


PAPER = {
    "image": ScalingLaw(PowerLaw(5.48e-4, 0.5634), PowerLaw(0.324, 0.4325)),
    "video": ScalingLaw(PowerLaw(0.0189, 0.3618), PowerLaw(0.0108, 0.6289)),
}
"""As HunyuanVideo prints them, for its first stage at 256 pixels: 92 M to 6.6 B parameters of a cross-attention DiT with T5."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One finished run."""

    size: str  # name
    budget: float  # C, PetaFLOPs
    params: float  # N, billions
    tokens: float  # D, billions
    loss: float  # on held-out clips


@dataclass(frozen=True)
class Valley:
    """One budget's parabola: loss = curve[0] x^2 + curve[1] x + curve[2] with x = ln N, and its floor."""

    budget: float
    curve: tuple[float, float, float]
    params: float  # N at the floor
    tokens: float  # D at the floor
    loss: float
    within: bool  # whether the floor lies between the smallest and the largest size that were run


@dataclass(frozen=True)
class Fit:
    """A law, its valleys, and the same law from every resample."""

    law: ScalingLaw
    valleys: tuple[Valley, ...]
    resampled: ScalingLaw

    def interval(self, name: str) -> tuple[float, float]:
        """95 % of a coefficient: a1, b1, a2 or b2."""
        return spread(self.resampled.coefficients[name])

    def size_interval(self, budget: float) -> tuple[float, float]:
        return spread(self.resampled.size(budget))

    def tokens_interval(self, budget: float) -> tuple[float, float]:
        return spread(self.resampled.tokens(budget))


def spread(values: Number) -> tuple[float, float]:
    low, high = np.percentile(values, LEVEL)
    return float(low), float(high)


def fit_law(points: Sequence[Point], resamples: int = RESAMPLES, seed: int = 0) -> Fit:
    """Valleys, the law through those whose floor lies within the sizes run, and its resamples.

    Raises InputError where fewer than two budgets have such a valley, or the losses are too noisy for intervals.
    """
    groups = by_budget(points)
    curves = [parabolas(group, np.array([[point.loss] for point in group])) for group in groups]
    laws = laws_through(groups, curves)
    valleys = tuple(valley(group, curve[:, 0]) for group, curve in zip(groups, curves, strict=True) if curve[0, 0] > 0)
    if not np.size(laws.size.b):
        raise InputError(
            f"{sum(each.within for each in valleys)} of {len(groups)} budgets have a best size between the smallest and the largest "
            f"that were run; a law needs {LEAST_BUDGETS}: add sizes beyond the edge that won, or budgets"
        )
    law = ScalingLaw(*(PowerLaw(np.asarray(each.a).item(), np.asarray(each.b).item()) for each in (laws.size, laws.tokens)))
    redrawn = [parabolas(group, losses) for group, losses in zip(groups, redraw(groups, curves, resamples, seed), strict=True)]
    resampled = laws_through(groups, redrawn)
    if np.size(resampled.size.b) < TRUSTED * resamples:
        raise InputError(f"only {np.size(resampled.size.b)} of {resamples} redraws of the residuals give a law: run more sizes, or longer")
    return Fit(law, valleys, resampled)


def by_budget(points: Sequence[Point]) -> list[list[Point]]:
    """Runs of each budget by size. Raises InputError where a budget has too few."""
    ordered = sorted(points, key=lambda point: (point.budget, point.params))
    groups = [list(group) for _, group in groupby(ordered, key=lambda point: point.budget)]
    for group in groups:
        if len(group) < LEAST_SIZES:
            raise InputError(f"budget {group[0].budget} PF has {len(group)} runs: a valley needs {LEAST_SIZES} sizes or more")
    return groups


def log_sizes(group: Sequence[Point]) -> Float[np.ndarray, " n"]:
    return np.log([point.params for point in group])


def parabolas(group: Sequence[Point], losses: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "3 k"]:
    """Least squares in ln N, for k sets of losses."""
    return np.polyfit(log_sizes(group), losses, 2)


def floors(group: Sequence[Point], curves: Float[np.ndarray, "3 k"]) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """ln N and ln D where each parabola is least; NaN for N where it is a hill or the floor lies beyond the sizes run."""
    x = log_sizes(group)
    low = -curves[1] / (2 * np.where(curves[0] > 0, curves[0], np.nan))
    tokens = np.polyval(np.polyfit(x, np.log([point.tokens for point in group]), 1), low)  # they fall with size, nearly as a power
    return np.where((low >= x.min()) & (low <= x.max()), low, np.nan), tokens


def valley(group: Sequence[Point], curve: Float[np.ndarray, " 3"]) -> Valley:
    """What is told of a budget whose parabola is no hill."""
    x = -curve[1] / (2 * curve[0])
    within, tokens = (float(each[0]) for each in floors(group, curve[:, None]))
    a, b, c = map(float, curve)
    return Valley(group[0].budget, (a, b, c), float(np.exp(x)), float(np.exp(tokens)), float(np.polyval(curve, x)), not np.isnan(within))


def laws_through(groups: Sequence[Sequence[Point]], curves: Sequence[Float[np.ndarray, "3 _"]]) -> ScalingLaw:
    """Straight lines in the logarithms through the floors, one for each set of parabolas that has enough of them."""
    sizes, tokens = (np.stack(each) for each in zip(*map(floors, groups, curves), strict=True))
    enough = (~np.isnan(sizes)).sum(0) >= LEAST_BUDGETS
    sizes, tokens = sizes[:, enough], tokens[:, enough]
    x = np.log([group[0].budget for group in groups])[:, None]
    return ScalingLaw(line(x, sizes), line(x, np.where(np.isnan(sizes), np.nan, tokens)))


def line(x: Float[np.ndarray, "n 1"], y: Float[np.ndarray, "n k"]) -> PowerLaw:
    """Least squares of each column's numbers, NaN left out; x and y are logarithms."""
    x = np.where(np.isnan(y), np.nan, x)
    across, up = x - np.nanmean(x, 0), y - np.nanmean(y, 0)
    b = np.nansum(across * up, 0) / np.nansum(across**2, 0)
    return PowerLaw(np.exp(np.nanmean(y, 0) - b * np.nanmean(x, 0)), b)


def redraw(
    groups: Sequence[Sequence[Point]], curves: Sequence[Float[np.ndarray, "3 1"]], count: int, seed: int
) -> list[Float[np.ndarray, "_ k"]]:
    """Losses of `count` sweeps: the parabolas plus residuals drawn from all of them, enlarged for the unknowns that were fitted."""
    fitted = [np.polyval(curve[:, 0], log_sizes(group)) for group, curve in zip(groups, curves, strict=True)]
    pool = np.concatenate([[point.loss for point in group] - fit for group, fit in zip(groups, fitted, strict=True)])
    pool = pool * np.sqrt(len(pool) / (len(pool) - 3 * len(groups)))
    rng = np.random.default_rng(seed)
    return [fit[:, None] + rng.choice(pool, (len(fit), count)) for fit in fitted]
