"""Planted faults are what they say they are."""

from pathlib import Path

import numpy as np
import pytest

from kinema.curation.planted import CLEAN_EVERY, FAULTS, Studio, fault_of, known, make, plant, studio_of
from kinema.errors import InputError
from kinema.world.sprites import SpritePack


@pytest.fixture(scope="module")
def studio() -> Studio:
    try:
        return studio_of(SpritePack.open())
    except InputError as error:
        pytest.skip(f"the world needs its sprites: {error}")


def test_every_fault_comes_up_and_every_second_clip_is_clean():
    assert {fault_of(seed) for seed in range(2 * len(FAULTS))} == {"clean", *FAULTS}
    assert all(fault_of(seed) == "clean" for seed in range(0, 20, CLEAN_EVERY))


def test_a_clip_comes_from_its_seed_and_says_what_was_done(studio: Studio):
    still = next(seed for seed in range(40) if fault_of(seed) == "still")
    one, again = plant(still, studio), plant(still, studio)
    assert (one.frames == again.frames).all()
    assert one.truth == again.truth
    assert one.truth["fault"] == "still"
    assert (one.frames == one.frames[0]).all()


def test_a_border_is_black_and_as_wide_as_said(studio: Studio):
    planted = plant(next(seed for seed in range(40) if fault_of(seed) == "border"), studio)
    top, bottom, left, right = planted.truth["borders"]
    height, width = planted.frames.shape[1:3]
    inside = planted.frames[:, top : height - bottom, left : width - right]
    assert planted.frames.sum(dtype=np.int64) == inside.sum(dtype=np.int64)
    assert top + left > 0


def test_making_goes_on_where_it_stopped(studio: Studio, tmp_path: Path):
    assert len(list(make(tmp_path, range(1), studio))) == 1
    assert [row["name"] for row in make(tmp_path, range(2), studio)] == ["planted-000001.mp4"]
    assert len(known(tmp_path)) == 2
    assert list(make(tmp_path, range(2), studio)) == []
