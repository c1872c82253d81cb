"""A driving face: what leaves its own calm is what it shows; gaps are bridged; a video without faces is refused."""

from importlib.util import find_spec

import numpy as np
import pytest

from kinema.conditioning.drive import BROWS, CHIN, EYES, FOREHEAD, LIPS, MOUTH_CORNERS, NOSE, filled_in, posed, read_drive, shown
from kinema.conditioning.expression import NAMES
from kinema.errors import InputError
from kinema.media.video import write_video


def a_face(frames=9):
    """Points of a calm face, 100 pixels between the eyes, in the middle of 400 x 400."""
    points = np.zeros((frames, 468, 3))
    for side, eye in zip((-1, 1), EYES, strict=True):
        for point, (x, y) in zip(eye, ((-20, 0), (20, 0), (0, -8), (0, 8)), strict=True):
            points[:, point, :2] = 200 + side * 50 + x, 180 + y
    for side, brow in zip((-1, 1), BROWS, strict=True):
        points[:, brow[0], :2], points[:, brow[1], :2] = (200 + side * 55, 150), (200 + side * 25, 152)
    for side, corner in zip((-1, 1), MOUTH_CORNERS, strict=True):
        points[:, corner, :2] = 200 + side * 30, 260
    points[:, LIPS[0], :2], points[:, LIPS[1], :2] = (200, 258), (200, 262)
    points[:, NOSE, :2], points[:, CHIN, :2], points[:, FOREHEAD, :2] = (200, 215), (200, 300), (200, 100)
    return points


def test_a_calm_face_is_neutral_and_looks_ahead():
    assert shown(a_face())[:, NAMES.index("neutral")].min() == 1
    assert np.abs(posed(a_face(), 400, 400)[:, :4]).max() < 1e-6


def test_raised_corners_are_a_smile_and_raised_brows_a_surprise():
    smile, surprise = a_face(), a_face()
    smile[6:, list(MOUTH_CORNERS), 1] -= 12
    surprise[6:, [point for brow in BROWS for point in brow], 1] -= 12
    assert NAMES[int(shown(smile)[-1, :5].argmax())] == "happy"
    assert NAMES[int(shown(surprise)[-1, :5].argmax())] == "surprised"


def test_shut_lids_are_a_blink():
    face = a_face()
    for eye in EYES:
        face[4, list(eye[2:]), 1] = 180
    assert shown(face)[4, -1] == 1
    assert shown(face)[3, -1] == 0


def test_a_head_that_leans_rolls_and_one_that_turns_yaws():
    face, turned = a_face(), a_face()
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face[5, :, :2] = (face[5, :, :2] - 200) @ turn.T + 200
    turned[5, NOSE, 0] += 20
    assert posed(face, 400, 400)[5, 2] == pytest.approx(20)
    assert posed(turned, 400, 400)[5, 0] > 10


def test_frames_without_a_face_take_over_from_their_neighbours():
    points = np.stack([np.full((468, 3), value) for value in (0.0, 4.0)])
    filled = filled_in(points, np.array([1, 5]), 8)
    assert filled[:, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 4, 4]


@pytest.mark.skipif(find_spec("mediapipe") is None or find_spec("ai_edge_litert") is None, reason="needs the face networks: kinema[avatar]")
def test_a_video_without_faces_is_refused(tmp_path):
    write_video(tmp_path / "grey.mp4", np.full((13, 64, 64, 3), 120, np.uint8), 12)
    with pytest.raises(InputError, match="0 of 13"):
        read_drive(tmp_path / "grey.mp4")
