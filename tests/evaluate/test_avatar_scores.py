"""The measure of avatars: a mouth that is late is told by how much; one that follows another sentence does not score."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from kinema.evaluate.avatar import best_lag, summary
from kinema.evaluate.tracker import SIDE, FaceTracker, babble, correlation, sized
from kinema.world.faces import EXPRESSIONS, Performance, draw_faces, draw_look
from kinema.world.speech import perform, sample_speech
from kinema.world.voice import mouth_track


def a_mouth(seed):
    return torch.rand(40, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("late", [-2, 0, 1, 3])
def test_a_late_mouth_is_told_by_how_many_frames(late):
    assert best_lag(a_mouth(1).roll(late), a_mouth(1)) == late


def test_correlation_is_one_for_itself_about_zero_for_another_and_zero_for_a_still_mouth():
    assert correlation(a_mouth(1) * 0.2 + 3, a_mouth(1)) == pytest.approx(1, abs=1e-5)
    assert abs(correlation(a_mouth(1), a_mouth(2))) < 0.4
    assert correlation(torch.zeros(40), a_mouth(1)) == 0


def test_silent_clips_count_for_expression_but_not_for_the_mouth():
    row = {f"{kind}_{name}": 1.0 for kind in ("avatar", "real", "given_back") for name in ("correlation", "shuffled", "lag", "shows")}
    row |= {"identity": 1.0, "silent_opening": 0.0}
    quiet = dict.fromkeys(row, 0.0)
    found = summary([row | {"text": "Hello."}, quiet | {"text": ""}])
    assert found["avatar_correlation"] == 1
    assert found["avatar_expression"] == 0.5
    assert found["silence_closed"] == 1


def test_the_shipped_tracker_sees_a_mouth_open():
    zeros, look = np.zeros(9), draw_look(np.random.default_rng(11))
    opening = np.linspace(0, 1, 9)
    acted = Performance(
        opening=opening, width=zeros, blink=zeros, expression=np.eye(len(EXPRESSIONS))[:1].repeat(9, 0), yaw=zeros, pitch=zeros, roll=zeros,
        center=np.zeros((9, 2)), radius=0.9,
    )  # fmt: skip
    reading = FaceTracker.load().read(torch.from_numpy(draw_faces(look, acted, SIDE, SIDE)))
    assert correlation(reading.opening, torch.from_numpy(opening)) > 0.9


def test_the_shipped_tracker_names_every_expression_of_held_out_characters_that_babble():
    tracker, names, right = FaceTracker.load(), list(EXPRESSIONS), []
    for number in range(15):
        spec = replace(sample_speech(4_000_000 + number, "heldout", 25, SIDE, SIDE), expression=names[number % len(names)])
        acted = perform(spec, babble(np.random.default_rng(number), spec.seconds))
        reading = tracker.read(torch.from_numpy(draw_faces(spec.look, acted, SIDE, SIDE)))
        right.append(names[int(reading.expression[-6:].mean(0).argmax())] == spec.expression)
    assert sum(right) >= 14


def test_a_babble_fills_its_time_and_moves_the_mouth():
    said = babble(np.random.default_rng(1), 3.0)
    assert said[0].start == 0
    assert said[-1].end >= 3.0
    assert all(before.end == after.start for before, after in pairwise(said))
    opening, width = mouth_track(said, 3.0, 12)
    assert opening.std() > 0.1
    assert width.std() > 0.1


def test_any_size_of_frame_is_read():
    assert sized(torch.zeros(2, 96, 96, 3, dtype=torch.uint8)).shape == (2, 3, SIDE, SIDE)
