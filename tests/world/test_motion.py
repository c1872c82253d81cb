"""Paths do what their names say, large enough to be seen."""

import numpy as np
import pytest

from kinema.world.motion import PATHS, Pose, Stage, allowed_paths, loop_frames, mirrored, move_subject, natural_verb
from kinema.world.sprites import labelled_subjects

FRAMES = 33
TRAVELS = sorted({subject.travel for subject in labelled_subjects()})


def stage(**changes) -> Stage:
    plain = {"width": 1.0, "size": (0.5, 0.5), "home": (0.0, 0.1), "seconds": FRAMES / 12, "pace": 1.0, "grounded": True}
    return Stage(**(plain | changes))


def pose(path: str, travel: str = "walk", **changes) -> Pose:
    return move_subject(path, travel, FRAMES, stage(**changes))


def extent(values: np.ndarray) -> float:
    return float(np.ptp(values))


@pytest.mark.parametrize("path", [name for name, path in PATHS.items() if path.heading in ("left", "right")])
@pytest.mark.parametrize("pace", [0.7, 1.0, 1.45])
@pytest.mark.parametrize("width", [0.6, 1.0, 1.8])
def test_a_sideways_path_crosses_the_frame_to_its_side(path, pace, width):
    x = pose(path, pace=pace, width=width).x
    assert np.sign(x[-1] - x[0]) == {"left": -1, "right": 1}[PATHS[path].heading]
    assert extent(x) >= 0.45 * width


@pytest.mark.parametrize("grounded", [True, False])
def test_upwards_and_downwards(grounded):
    rising, falling = pose("rises", grounded=grounded).lift, pose("falls", grounded=grounded).lift
    assert rising[-1] - rising[0] > 0.45
    assert falling[0] - falling.min() > 0.45


def test_what_falls_on_ground_lands_on_it():
    lift = pose("falls").lift
    assert lift[-1] == pytest.approx(0, abs=1e-9)
    assert lift.min() > -1e-9


def test_nearer_and_farther():
    assert pose("approaches").near[-1] / pose("approaches").near[0] > 2
    assert pose("recedes").near[-1] / pose("recedes").near[0] < 0.5


@pytest.mark.parametrize("path", [name for name in PATHS if name != "stays"])
@pytest.mark.parametrize("pace", [0.7, 1.45])
def test_every_path_is_seen(path, pace):
    way = pose(path, travel="none", pace=pace)
    seen = max(extent(way.x), extent(way.lift), extent(np.log(way.near)), extent(way.turn), extent(way.stretch_x))
    assert seen > 0.12


def test_staying_is_still():
    assert extent(pose("stays").x) == extent(pose("stays").lift) == 0


@pytest.mark.parametrize("path", ["circles", "spins", "twirls", "sways", "bounces", "jumps"])
@pytest.mark.parametrize("seconds", [1.4, 2.75, 5.0])
def test_what_comes_round_comes_round_at_least_once(path, seconds):
    way = pose(path, travel="none", seconds=seconds)
    tracks = {"circles": way.x, "spins": np.cos(way.turn), "twirls": way.stretch_x, "sways": way.x, "bounces": way.lift, "jumps": way.lift}
    track = tracks[path] - tracks[path].mean()
    assert (np.diff(np.sign(track)) != 0).sum() >= 2


@pytest.mark.parametrize("path", [name for name, path in PATHS.items() if path.paced and path.heading in ("left", "right")])
def test_quick_is_faster_than_slow(path):
    speed = [np.abs(np.diff(pose(path, pace=pace).x)).max() for pace in (0.7, 1.0, 1.45)]
    assert speed[0] < speed[1] < speed[2]


def test_walkers_bob_and_nobody_sinks():
    for travel in TRAVELS:
        assert pose("moves left", travel).lift.min() > -0.08
    assert extent(pose("moves left", "walk").lift) > 0.01


def test_a_picture_looks_where_it_goes():
    assert mirrored("moves right", "left", prefer=False)
    assert not mirrored("moves left", "left", prefer=True)
    assert mirrored("enters right", "right", prefer=False)
    assert mirrored("stays", "left", prefer=True)
    assert not any(mirrored(path, "front", prefer=True) for path in PATHS)


def test_side_views_never_come_nearer():
    assert "approaches" not in allowed_paths("walk", "left")
    assert "approaches" in allowed_paths("walk", "front")
    assert "rolls left" not in allowed_paths("walk", "front")
    assert "rolls left" in allowed_paths("float", "front")


def test_a_sprite_loops_at_its_own_rate():
    assert loop_frames(5, 3, 2).tolist() == [2, 0, 1, 2, 0]


@pytest.mark.parametrize("medium", ["land", "water", "air"])
def test_every_way_of_travelling_has_a_verb(medium):
    assert all(natural_verb(travel, medium) for travel in TRAVELS)
    assert natural_verb("walk", medium) == {"land": "walk", "water": "swim", "air": "drift"}[medium]
