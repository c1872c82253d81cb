"""Tiers are nested whatever the thresholds, NULL passes nothing, and a retention target is met."""

from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.config import override, parse_config, to_toml
from kinema.curation.recipe import OPERATORS, Recipe, Thresholds
from kinema.curation.tiers import TIERS, Ladder, Policy, decide
from kinema.errors import InputError

VALUES = st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=40)
RUNGS = st.lists(st.floats(-4, 4), min_size=5, max_size=5).map(sorted)


def columns(**values: list) -> dict[str, list]:
    return {"state": ["in"] * len(next(iter(values.values()))), **values}


def members(reached: list[int]) -> list[set[int]]:
    return [{index for index, level in enumerate(reached) if level > tier} for tier in range(len(TIERS))]


@settings(deadline=None)
@given(VALUES, RUNGS, st.sampled_from(["absolute", "calibrated"]))
def test_each_tier_lies_within_the_one_before(values: list, rungs: list, mode: str):
    policy = Policy(mode=mode, calibrate=("x",))  # type: ignore[arg-type]
    sets = members(decide(columns(x=values), {"x": Ladder(at_least=tuple(rungs))}, policy).reached)
    assert all(later <= earlier for earlier, later in pairwise(sets))
    assert all(values[index] is not None and values[index] >= rungs[0] for index in sets[0])


@settings(deadline=None)
@given(VALUES, RUNGS)
def test_what_misses_a_tier_says_why_and_what_is_at_the_top_misses_nothing(values: list, rungs: list):
    decision = decide(columns(x=values), {"x": Ladder(at_least=tuple(rungs))})
    assert all(bool(misses) == (level < 5) for level, misses in zip(decision.reached, decision.misses, strict=True))


def test_null_never_passes_and_is_named_as_such():
    decision = decide(columns(x=[None, 1.0]), {"x": Ladder(at_most=(2.0,) * 5)})
    assert decision.reached == [0, 5]
    assert decision.misses[0][0].reason == "not_measured"


def test_a_value_that_nobody_measured_passes_nobody():
    assert decide(columns(x=[1.0]), {"y": Ladder(at_least=(0.0,) * 5)}).reached == [0]


def test_what_was_rejected_before_cannot_come_back():
    table = {"state": ["rejected", "in", "failed"], "x": [9.0, 9.0, 9.0]}
    assert decide(table, {"x": Ladder(at_least=(1.0,) * 5)}).reached == [0, 5, 0]


def test_calibration_meets_its_target():
    values = [float(index) for index in range(1000)]
    policy = Policy(mode="calibrated", keep=(0.5, 0.4, 0.25, 0.2), calibrate=("x", "y"))
    ladders = {"x": Ladder(at_least=(0.0,) * 5), "y": Ladder(at_most=(2000.0,) * 5)}
    decision = decide(columns(x=values, y=[value * 7 % 1000 for value in values]), ladders, policy)
    sizes = [len(tier) for tier in members(decision.reached)]
    assert sizes[0] == 1000
    for (earlier, later), keep in zip(pairwise(sizes), policy.keep, strict=True):
        assert keep * earlier <= later <= keep * earlier + 3
    used = decision.ladders["x"].at_least
    assert used is not None
    assert list(used) == sorted(used)


def test_thresholds_must_not_loosen_from_tier_to_tier():
    with pytest.raises(InputError, match="must rise"):
        Ladder(at_least=(3.0, 2.0, 4.0, 5.0, 6.0))
    with pytest.raises(InputError, match="must fall"):
        Ladder(at_most=(1.0, 2.0, 2.0, 2.0, 2.0))


def test_the_recipe_survives_its_own_toml():
    recipe = override(Recipe(), ["thresholds.motion.at_most=none", "operators.shots.trim=2", "tiers.mode=calibrated"])
    assert parse_config(Recipe, to_toml(recipe)) == recipe


def test_an_operator_cannot_be_skipped_while_its_values_are_asked_for():
    with pytest.raises(InputError, match="text_area"):
        Recipe(skip=("text",))
    assert "text" not in {op.name for op in override(Recipe(), ["thresholds.text_area.at_most=none"]).chosen()} - {"text"}


def test_the_table_of_operators_is_in_order_and_complete():
    """Every operator stands after those it needs, under its own name, and gives each value once."""
    seen: set[str] = set()
    given_before: set[str] = set()
    for part in fields(OPERATORS):
        operator = getattr(OPERATORS, part.name)
        assert operator.name == part.name
        assert set(operator.needs) <= seen, f"{operator.name} needs {set(operator.needs) - seen} before it"
        names = {metric.name for metric in operator.gives}
        assert operator.over == "source" or not names & given_before
        seen.add(operator.name)
        given_before |= names if operator.over != "source" else set()
    assert {each.name for each in fields(Thresholds)} <= given_before
