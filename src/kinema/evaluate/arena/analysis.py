"""What the votes say, and how sure that is.

Intervals are clustered by prompt: a few prompts judged by many raters are few observations, however many votes they are.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import NormalDist

import numpy as np

from kinema.errors import InputError, MissingExtraError
from kinema.evaluate.arena.strength import Outcome, Strengths, fit_strengths
from kinema.evaluate.arena.study import CHECK
from kinema.evaluate.arena.votes import Vote

SCORES = {"left": 1.0, "same": 0.5, "right": 0.0}
Z = NormalDist().inv_cdf(0.975)
CHECKS_PASSED = 0.75  # a rater below it is set aside
Interval = tuple[float, float]


@dataclass(frozen=True)
class Duel:
    """Two models on one axis, over all their pairs."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    net: float  # (wins - losses) / all: the net of good, same, bad
    interval: Interval  # 95 %, of net

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Rater:
    """How far one rater can be relied on."""

    name: str
    votes: int
    checks: float  # share of planted checks answered right; NaN before the first
    repeats: float  # share of repeated pairs answered the same; NaN before the first
    seconds: float  # median time an answer took

    @property
    def kept(self) -> bool:
        return not self.checks < CHECKS_PASSED


def outcomes(votes: Iterable[Vote], axis: str) -> list[Outcome]:
    """The pairs' answers on one axis; repeats and checks are left out."""
    return [(v.prompt, v.left, v.right, SCORES[v.answer]) for v in votes if v.axis == axis and v.kind == "pair"]


def duels(votes: Sequence[Vote], axis: str, models: Sequence[str]) -> list[Duel]:
    """Win, tie and loss of every pair of models."""
    found = outcomes(votes, axis)
    return [duel(found, first, second) for first, second in combinations(models, 2)]


def duel(found: Sequence[Outcome], first: str, second: str) -> Duel:
    signs: dict[int, list[float]] = defaultdict(list)
    for prompt, left, right, score in found:
        if {left, right} == {first, second}:
            signs[prompt].append((2 * score - 1) * (1 if left == first else -1))
    flat = [sign for group in signs.values() for sign in group]
    wins, losses = sum(sign > 0 for sign in flat), sum(sign < 0 for sign in flat)
    net = (wins - losses) / len(flat) if flat else float("nan")
    return Duel(first, second, wins, len(flat) - wins - losses, losses, net, clustered(list(signs.values())))


def clustered(groups: Sequence[Sequence[float]], samples: int = 2000, seed: int = 0) -> Interval:
    """95 % interval of the overall mean, by drawing whole groups with replacement."""
    if not groups:
        return float("nan"), float("nan")
    sums, sizes = np.array([sum(group) for group in groups]), np.array([len(group) for group in groups])
    drawn = np.random.default_rng(seed).integers(len(groups), size=(samples, len(groups)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def strengths(votes: Sequence[Vote], axis: str, models: Sequence[str]) -> Strengths:
    """Bradley-Terry strengths on one axis. Raises InputError before the first vote."""
    found = outcomes(votes, axis)
    if not found:
        raise InputError(f"no votes on {axis!r} yet: let somebody rate first")
    return fit_strengths(found, models)


def raters(votes: Sequence[Vote]) -> list[Rater]:
    """Every rater's attention and steadiness."""
    groups: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        groups[vote.rater].append(vote)
    return [rater_of(name, group) for name, group in groups.items()]


def rater_of(name: str, votes: Sequence[Vote]) -> Rater:
    checks = [vote.answer == ("right" if vote.left == CHECK else "left") for vote in votes if vote.kind == "check"]
    before = {(v.prompt, v.left, v.right, v.axis): v.answer for v in votes if v.kind == "pair"}
    exchanged = {"left": "right", "right": "left", "same": "same"}
    repeats = [
        before[key] == exchanged[v.answer] for v in votes if v.kind == "repeat" and (key := (v.prompt, v.right, v.left, v.axis)) in before
    ]
    return Rater(name, len(votes), mean(checks), mean(repeats), float(np.median([vote.seconds for vote in votes])))


def mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


def attentive(votes: Sequence[Vote]) -> list[Vote]:
    """The votes of raters who see the planted ruins."""
    kept = {rater.name for rater in raters(votes) if rater.kept}
    return [vote for vote in votes if vote.rater in kept]


def agreement(votes: Sequence[Vote], axis: str) -> float:
    """Krippendorff's alpha (ordinal) between raters; 1 is full agreement, 0 chance; NaN where nothing was seen by two raters.

    From 0.67 it is usable, from 0.8 good (Krippendorff 2004).
    """
    try:
        from krippendorff import alpha
    except ImportError as error:
        raise MissingExtraError("krippendorff", "evaluate") from error

    names = sorted({vote.rater for vote in votes})
    units: dict[tuple, dict[str, float]] = defaultdict(dict)
    for vote in votes:
        if vote.axis == axis and vote.kind in ("pair", "single"):
            first, second = sorted((vote.left, vote.right))
            score = SCORES.get(vote.answer, float(vote.answer == "yes"))
            units[vote.prompt, first, second][vote.rater] = score if vote.left == first or vote.kind == "single" else 1 - score
    shared = [unit for unit in units.values() if len(unit) > 1]
    if not shared or len({score for unit in shared for score in unit.values()}) < 2:
        return float("nan")
    table = [[unit.get(name, np.nan) for unit in shared] for name in names]
    return float(alpha(reliability_data=table, level_of_measurement="ordinal"))


def wilson(successes: int, count: int) -> Interval:
    """95 % interval of a share (Wilson 1927)."""
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    middle, half = share + Z**2 / (2 * count), Z * sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    low, high = (middle - half) / (1 + Z**2 / count), (middle + half) / (1 + Z**2 / count)
    return max(low, 0.0), min(high, 1.0)


def power(prompts: int, net: float, ties: float = 0.2) -> float:
    """The chance that a study of so many prompts, one vote each, decides a true net difference.

    net: wins minus losses, as a share of all; ties: share of ties.
    Source: normal approximation of the sign test; 5 %, two-sided.
    """
    if prompts < 1 or not 0 <= ties < 1 or abs(net) > 1 - ties:
        raise InputError(f"prompts={prompts}, net={net}, ties={ties}: need prompts >= 1, 0 <= ties < 1 and |net| <= 1 - ties")
    error = sqrt(max(1 - ties - net**2, 1e-12) / prompts)
    return NormalDist().cdf(abs(net) / error - Z) + NormalDist().cdf(-abs(net) / error - Z)


def prompts_for(net: float, ties: float = 0.2, wanted: float = 0.8) -> int:
    """The fewest prompts whose study decides `net` with the power wanted (by bisection)."""
    return bisect(lambda count: power(count, net, ties) >= wanted)


def bisect(holds: Callable[[int], bool], largest: int = 10**7) -> int:
    low, high = 1, largest
    if not holds(high):
        raise InputError(f"not even {largest} prompts would do: the difference is too small to find")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
