"""Which clips train what: five nested sets, as queries with rising thresholds over the table of measurements.

A clip is in a tier if it is in the one before and passes this one's thresholds; so the sets are nested however thresholds are chosen.
NULL passes nothing. HunyuanVideo (arXiv 2412.03603, §3.1) publishes the shape of the ladder, each set keeping a half to a fifth of the
one before, and no thresholds: ours are priors from the literature, to be calibrated to a retention target or to people's labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np

from kinema.errors import InputError

TIERS = ("256p", "360p", "540p", "720p", "review")
"""What each set is for: training at that size; the last goes to people, for the fine-tuning set."""

Five: TypeAlias = tuple[float, float, float, float, float]
Columns: TypeAlias = Mapping[str, Sequence[Any]]
HALVINGS = 40  # of the interval in which a calibrated quantile is searched


@dataclass(frozen=True)
class Ladder:
    """One value's thresholds, tier by tier; None asks nothing."""

    at_least: Five | None = None
    at_most: Five | None = None

    def __post_init__(self) -> None:
        for name, side, sign in (("at_least", self.at_least, 1), ("at_most", self.at_most, -1)):
            if side is not None and any(sign * a > sign * b for a, b in pairwise(side)):
                raise InputError(f"{name}={list(side)} must {'rise' if sign > 0 else 'fall'} from tier to tier, or stay")

    @property
    def asks(self) -> bool:
        return self.at_least is not None or self.at_most is not None


@dataclass(frozen=True)
class Policy:
    """How thresholds are found.

    absolute: as they stand in the recipe. calibrated: the values named in `calibrate` get, from the second tier on, the quantile at which
    `keep` of the tier before is left, where that is stricter than the tier before; the others stay absolute.
    """

    mode: Literal["absolute", "calibrated"] = "absolute"
    keep: tuple[float, float, float, float] = (0.5, 0.4, 0.35, 0.3)
    calibrate: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in self.keep):
            raise InputError(f"keep={list(self.keep)} must hold shares above 0, up to 1")


@dataclass(frozen=True)
class Miss:
    """A threshold that a clip does not pass: why it is not in a tier."""

    metric: str
    reason: Literal["below_threshold", "above_threshold", "not_measured"]
    value: float | None
    threshold: float


@dataclass(frozen=True)
class Decision:
    """How far each clip came: 0 is none, 5 is for review; and what each misses for the next tier."""

    reached: list[int]
    misses: list[list[Miss]]
    ladders: dict[str, Ladder]  # the thresholds used


def ladders_of(thresholds: Any) -> dict[str, Ladder]:
    """By metric, those that ask something. thresholds: a dataclass of Ladders."""
    every = {field.name: getattr(thresholds, field.name) for field in fields(thresholds)}
    return {name: ladder for name, ladder in every.items() if ladder.asks}


def numbers(columns: Columns, name: str) -> np.ndarray:
    """A column as float64; NaN where it is NULL or missing."""
    count = len(next(iter(columns.values()), ()))
    return np.array([np.nan if value is None else value for value in columns.get(name, (None,) * count)], np.float64)


def passes(values: np.ndarray, ladder: Ladder, tier: int) -> np.ndarray:
    """NaN passes nothing."""
    good = ~np.isnan(values)
    if ladder.at_least is not None:
        good &= values >= ladder.at_least[tier]
    if ladder.at_most is not None:
        good &= values <= ladder.at_most[tier]
    return good


def decide(columns: Columns, ladders: Mapping[str, Ladder], policy: Policy = Policy()) -> Decision:
    """columns: the table of clips, with `state`: only those that are "in" can pass. Pure: the same table gives the same tiers."""
    values = {name: numbers(columns, name) for name in ladders}
    inside = np.array([state == "in" for state in columns["state"]], bool)
    used = dict(ladders) if policy.mode == "absolute" else calibrated(values, inside, ladders, policy)
    reached: np.ndarray = np.zeros(len(inside), int)
    left = inside
    for tier in range(len(TIERS)):
        left = left & all_pass(values, used, tier, left)
        reached += left
    misses = [missed(values, used, index, tier) if inside[index] else [] for index, tier in enumerate(reached.tolist())]
    return Decision(reached.tolist(), misses, used)


def all_pass(values: Mapping[str, np.ndarray], ladders: Mapping[str, Ladder], tier: int, like: np.ndarray) -> np.ndarray:
    return np.logical_and.reduce([passes(values[name], ladder, tier) for name, ladder in ladders.items()] or [np.ones_like(like)])


def missed(values: Mapping[str, np.ndarray], ladders: Mapping[str, Ladder], index: int, tier: int) -> list[Miss]:
    """What keeps a clip out of `tier`; nothing where it has them all."""
    if tier == len(TIERS):
        return []
    found = []
    for name, ladder in ladders.items():
        value = float(values[name][index])
        low, high = (side[tier] if side is not None else None for side in (ladder.at_least, ladder.at_most))
        if np.isnan(value):
            found.append(Miss(name, "not_measured", None, low if low is not None else high or 0.0))
        elif low is not None and value < low:
            found.append(Miss(name, "below_threshold", value, low))
        elif high is not None and value > high:
            found.append(Miss(name, "above_threshold", value, high))
    return found


def calibrated(values: Mapping[str, np.ndarray], inside: np.ndarray, ladders: Mapping[str, Ladder], policy: Policy) -> dict[str, Ladder]:
    """Ladders that keep `policy.keep` of each tier for the next: one quantile for all calibrated values, found by halving."""
    if unknown := [name for name in policy.calibrate if name not in ladders]:
        raise InputError(f"calibrate names {', '.join(unknown)}, which have no thresholds: known are {', '.join(ladders)}")
    used = {name: level(ladder) if name in policy.calibrate else ladder for name, ladder in ladders.items()}
    left = inside & all_pass(values, used, 0, inside)
    for tier, keep in enumerate(policy.keep, start=1):
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            tried = stricter(used, values, left, policy.calibrate, tier, middle)
            enough = (left & all_pass(values, tried, tier, left)).sum() >= keep * left.sum()
            low, high = (middle, high) if enough else (low, middle)
        used = stricter(used, values, left, policy.calibrate, tier, low)
        left = left & all_pass(values, used, tier, left)
    return used


def level(ladder: Ladder) -> Ladder:
    """The first tier's thresholds for all."""
    return Ladder(flat(ladder.at_least), flat(ladder.at_most))


def flat(side: Five | None) -> Five | None:
    return None if side is None else (side[0], side[0], side[0], side[0], side[0])


def stricter(
    ladders: dict[str, Ladder], values: Mapping[str, np.ndarray], left: np.ndarray, names: Sequence[str], tier: int, share: float
) -> dict[str, Ladder]:
    """From `tier` on, the quantile `share` of what is left, where that is stricter."""
    changed = dict(ladders)
    for name in names:
        here, ladder = values[name][left], ladders[name]
        if not len(here):
            continue
        low, high = float(np.quantile(here, share, method="lower")), float(np.quantile(here, 1 - share, method="higher"))
        changed[name] = Ladder(raised(ladder.at_least, tier, low, max), raised(ladder.at_most, tier, high, min))
    return changed


def raised(side: Five | None, tier: int, bound: float, choose: Any) -> Five | None:
    if side is None:
        return None
    first, second, third, fourth, fifth = (value if index < tier else choose(value, bound) for index, value in enumerate(side))
    return first, second, third, fourth, fifth
