"""Configs survive TOML, and mistakes in them are named."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.config import override, parse_config, read_config, to_toml
from kinema.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Optim:
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    kind: Literal["adamw", "muon"] = "adamw"


@dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    steps: int = 100
    ema: bool = True
    sizes: tuple[int, ...] = (64, 128)
    start: Path | None = None
    optim: Optim = field(default_factory=Optim)


@given(
    name=st.text(st.characters(exclude_categories=("Cs",))),
    steps=st.integers(-(2**40), 2**40),
    rate=st.floats(allow_nan=False),
    ema=st.booleans(),
    sizes=st.lists(st.integers(0, 999)).map(tuple),
    start=st.none() | st.just(Path("a/b c.toml")),
)
def test_a_config_comes_back_from_toml_as_it_was(name, steps, rate, ema, sizes, start):
    run = Run(name=name, steps=steps, ema=ema, sizes=sizes, start=start, optim=Optim(rate=rate, kind="muon"))
    assert parse_config(Run, to_toml(run)) == run


def test_what_toml_leaves_out_keeps_its_default():
    assert parse_config(Run, 'name = "x"\n[optim]\nrate = 1') == Run(name="x", optim=Optim(rate=1.0))


def test_overrides_reach_into_tables():
    changes = ["steps=7", "optim.rate=1e-3", "optim.betas=[0.8, 0.9]", "start=weights/a.safetensors", "name=a b", "ema=false"]
    expected = Run(name="a b", steps=7, ema=False, start=Path("weights/a.safetensors"), optim=Optim(rate=1e-3, betas=(0.8, 0.9)))
    assert override(Run(name="x"), changes) == expected
    assert override(expected, ["start=none"]).start is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nstpes = 3', ["'stpes'", "'steps'"]),
        ('name = "x"\n[optim]\nrat = 3', ["'optim.rat'", "'optim.rate'"]),
        ('name = "x"\nsteps = "many"', ["steps='many'", "int"]),
        ('name = "x"\nsteps = 1.5', ["steps=1.5", "int"]),
        ('name = "x"\nema = 1', ["ema=1", "true or false"]),
        ('name = "x"\n[optim]\nkind = "sgd"', ["optim.kind='sgd'", "'adamw'", "'muon'"]),
        ('name = "x"\n[optim]\nbetas = [1.0]', ["optim.betas", "2 values"]),
        ("steps = 3", ["missing", "'name'"]),
        ("steps = = 3", ["TOML"]),
    ],
)
def test_a_mistake_is_named_with_the_way_out(text: str, words: list[str]):
    with pytest.raises(InputError) as error:
        parse_config(Run, text)
    assert all(word in str(error.value) for word in words), error.value


@dataclass(frozen=True)
class Heads:
    width: int = 4
    heads: int = 2

    def __post_init__(self):
        if self.width % self.heads:
            raise InputError(f"width={self.width} does not divide by heads={self.heads}")


def test_values_that_must_fit_each_other_change_together():
    assert override(Heads(), ["width=9", "heads=3"]) == override(Heads(), ["heads=3", "width=9"]) == Heads(9, 3)
    with pytest.raises(InputError, match="width=9 does not divide"):
        override(Heads(), ["width=9"])


def test_a_part_and_its_whole_cannot_both_be_set():
    for changes in (["optim.rate=1.0", "optim=x"], ["optim=x", "optim.rate=1.0"]):
        with pytest.raises(InputError, match="give one of the two"):
            override(Run(name="x"), changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.rte=1", ["'optim.rte'", "'optim.rate'"]),
        ("steps", ["key=value"]),
        ("steps=few", ["steps='few'"]),
        ("name.first=a", ["no fields"]),
    ],
)
def test_a_mistaken_override_is_named(change: str, words: list[str]):
    with pytest.raises(InputError) as error:
        override(Run(name="x"), [change])
    assert all(word in str(error.value) for word in words), error.value


def test_a_file_is_named_in_its_errors(tmp_path: Path):
    with pytest.raises(InputError, match=r"absent\.toml"):
        read_config(Run, tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("nme = 1")
    with pytest.raises(InputError, match=r"bad\.toml.*'nme'.*'name'"):
        read_config(Run, tmp_path / "bad.toml")
