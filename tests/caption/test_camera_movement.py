"""Camera movement: laws of the flow field, the geometry, and the shipped network on real geometry it has not seen."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from kinema.caption.camera import SURE, by_rules, classify, main, movement
from kinema.caption.flowfield import affine, measure
from kinema.caption.moved import FPS, FRAMES, TURNING, warped
from kinema.errors import InputError
from kinema.media.video import write_video
from kinema.records import CAMERA_MOVEMENTS


def picture(seed=0):
    """Blobs of several sizes: texture everywhere."""
    import cv2

    rng, total = np.random.default_rng(seed), np.zeros((320, 420, 3), np.float32)
    for size in (8, 20, 60):
        grain = rng.normal(size=(320 // size + 2, 420 // size + 2, 3)).astype(np.float32)
        total += cv2.resize(grain, (420, 320), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * total, 0, 255).astype(np.uint8)


def clip(name, amount=1.0, seed=0):
    return warped(np.repeat(picture(seed)[None], FRAMES, axis=0), name, amount, seed)


FIELDS = {name: measure(clip(name), FPS) for name in TURNING}


@pytest.mark.parametrize("name", TURNING)
def test_geometry_alone_names_a_turning_or_zooming_camera(name):
    assert by_rules(FIELDS[name]).name == name


@pytest.mark.parametrize("name", TURNING)
def test_the_network_never_tells_the_opposite(name):
    opposite = {"in": "out", "out": "in", "up": "down", "down": "up", "left": "right", "right": "left"}
    told = classify(FIELDS[name]).told.split()
    assert not told or name.split()[-1] != opposite.get(told[-1])


def test_speeds_are_in_frame_heights_a_second():
    wide = np.repeat(picture()[None], 13, axis=0)
    moved = np.stack([np.roll(frame, 3 * number, axis=1) for number, frame in enumerate(wide)])[:, 40:280, 60:380]
    field = measure(moved, 12.0)
    assert np.median(field.speed[..., 0]) == pytest.approx(3 * 12 / 240, rel=0.05)
    assert abs(np.median(field.speed[..., 1])) < 0.005


def test_a_clip_backwards_moves_the_other_way():
    there, back = measure(clip("tilt left"), FPS), measure(clip("tilt left")[::-1].copy(), FPS)
    assert affine(there)[:, 0, 0].mean() == pytest.approx(-affine(back)[:, 0, 0].mean(), rel=0.1)
    assert by_rules(back).name == "tilt right"


def test_confidence_is_a_share_and_what_is_unsure_is_not_told():
    for field in FIELDS.values():
        for found in (by_rules(field), classify(field)):
            assert 0 <= found.confidence <= 1.0001
            assert found.name in CAMERA_MOVEMENTS
            assert (found.told == "") == (found.confidence < SURE)


def test_fewer_than_three_frames_are_refused():
    with pytest.raises(InputError, match="3 frames"):
        movement(clip("static")[:2], 12.0)


def test_it_runs_alone_on_files(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", clip("zoom in"), FPS)
    (tmp_path / "b.mp4").write_text("no video")
    assert main([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]) == 2
    out = capsys.readouterr()
    assert out.out.count("\n") == 1
    assert "b.mp4" in out.err
    assert main([]) == 2
