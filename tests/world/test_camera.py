"""Laws of the camera: what each movement does to near and far things."""

import numpy as np
import pytest

from kinema.records import CAMERA_MOVEMENTS
from kinema.world.camera import CameraPath, ground_to_screen, move_camera, plane_to_screen, project, view_matrices

FRAMES, SUBJECT, HORIZON = 17, 1.4, -0.06
MIRRORED = [(a, b) for a, b in zip(CAMERA_MOVEMENTS[:-2:2], CAMERA_MOVEMENTS[1:-2:2], strict=True) if "left" in a]


def wall(camera: CameraPath, depth: float) -> np.ndarray:
    """World (x, y) on the upright plane at a depth to the screen."""
    vectors = (np.broadcast_to(vector, (FRAMES, 3)) for vector in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, depth)))
    return plane_to_screen(view_matrices(camera, HORIZON), camera, *vectors)


def seen(movement: str, depth: float, x: float = 0.0, y: float = 0.0, amount: float = 1.0) -> np.ndarray:
    """Screen track [T, 2] of a world point at `depth`."""
    camera = move_camera(movement, FRAMES, SUBJECT, amount, seed=3)
    return project(wall(camera, depth), np.array([[x, y]]))[:, 0]


def travel(track: np.ndarray) -> np.ndarray:
    return track[-1] - track[0]


def test_at_rest_a_point_is_seen_by_the_pinhole_law():
    assert seen("static", 2.0, x=0.5, y=0.3) == pytest.approx(np.broadcast_to([0.25, 0.15 + HORIZON], (FRAMES, 2)))


def test_a_static_camera_never_moves():
    assert move_camera("static", FRAMES, SUBJECT, 1.0, 0).to_json() == CameraPath.at_rest(FRAMES).to_json()


@pytest.mark.parametrize(("movement", "axis", "sign"), [("pan left", 0, 1), ("pan right", 0, -1), ("pan up", 1, 1), ("pan down", 1, -1)])
def test_a_pan_shows_parallax_against_its_direction(movement, axis, sign):
    near, far = (travel(seen(movement, depth))[axis] * sign for depth in (1.0, 5.0))
    assert near > 3 * far > 0


@pytest.mark.parametrize(
    ("movement", "axis", "sign"), [("tilt left", 0, 1), ("tilt right", 0, -1), ("tilt up", 1, 1), ("tilt down", 1, -1)]
)
def test_a_tilt_shifts_near_and_far_alike(movement, axis, sign):
    near, far = (travel(seen(movement, depth))[axis] * sign for depth in (1.0, 5.0))
    assert near == pytest.approx(far)
    assert near > 0.1


def test_a_zoom_scales_near_and_far_alike():
    for movement, grows in (("zoom in", True), ("zoom out", False)):
        sizes = np.stack([np.linalg.norm(seen(movement, d, x=0.3 * d, y=-HORIZON * d), axis=1) for d in (1.0, 5.0)])
        assert sizes[0] == pytest.approx(sizes[1])
        assert (np.diff(sizes[0]) > 0).all() == grows


@pytest.mark.parametrize("movement", ["around left", "around right"])
def test_around_keeps_the_subject_and_moves_far_against_near(movement):
    assert np.abs(seen(movement, SUBJECT)[:, 0]).max() < 1e-9
    near, far = travel(seen(movement, 0.9))[0], travel(seen(movement, 6.0))[0]
    assert near * far < 0
    assert far * (1 if "right" in movement else -1) > 0.2


def test_around_foreshortens_the_subject():
    width = np.abs(seen("around left", SUBJECT, x=0.2)[:, 0] - seen("around left", SUBJECT, x=-0.2)[:, 0])
    assert width[0] < width[FRAMES // 2] > width[-1]


@pytest.mark.parametrize(("left", "right"), MIRRORED)
def test_opposite_directions_mirror(left, right):
    a, b = seen(left, 2.0, x=0.3, y=0.1), seen(right, 2.0, x=-0.3, y=0.1)
    assert a == pytest.approx(b * [-1, 1])


def test_handheld_is_small_smooth_and_seeded():
    track = seen("handheld", SUBJECT)
    assert np.array_equal(track, seen("handheld", SUBJECT))
    assert 0.01 < np.ptp(track, axis=0).max() < 0.15
    assert np.abs(np.diff(track, axis=0)).max() < 0.05


@pytest.mark.parametrize("movement", CAMERA_MOVEMENTS)
def test_ground_and_upright_planes_agree_where_they_meet(movement):
    camera = move_camera(movement, FRAMES, SUBJECT, 1.0, 3)
    on_ground = project(ground_to_screen(view_matrices(camera, HORIZON), camera), np.array([[0.2, 2.0]]))
    on_wall = project(wall(camera, 2.0), np.array([[0.2, 0.5]]))
    assert on_ground == pytest.approx(on_wall)
