"""What is measured of a clip, on pictures of which the answer is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.curation.decode import footage, gray, spread
from kinema.curation.filters.aesthetic import colour_contrast, colourfulness
from kinema.curation.filters.borders import Borders, borders
from kinema.curation.filters.clarity import blur, clear_start, edge_blur, laplacian_variance
from kinema.curation.filters.light import brightness, contrast
from kinema.curation.filters.motion import motion
from kinema.curation.filters.quality import asymmetric_fit, brisque_score
from kinema.curation.filters.watermark import boxes_of, maps, overlap, static_overlay
from kinema.curation.marks import Mark, draw_mark
from kinema.curation.operator import Item, ItemError
from kinema.media.video import write_video

SIDE = 256


def scene(height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    """Discs of many greys and colours on a soft ground: edges in every direction, nothing repeats."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(60, 200, (5, 7, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(height * width // 900):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.circle(picture, centre, int(rng.integers(4, 20)), rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    return picture


def pan(per_frame: float, frames: int = 17, height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    """A window sliding over a scene, a whole number of pixels from frame to frame."""
    wide = scene(height, width + round(per_frame * frames) + 8, seed)
    return np.stack([wide[:, round(per_frame * t) : round(per_frame * t) + width] for t in range(frames)])


def cut_clip(path: Path, frames: np.ndarray, fps: int = 24) -> Item:
    write_video(path, frames, fps)
    return Item(path.stem, path, "clip", is_cut=True)


def test_one_decoding_gives_small_frames_full_frames_and_their_times(tmp_path: Path):
    clip = footage(cut_clip(tmp_path / "clip.mp4", pan(1, 48, 360, 640)))
    assert clip.full.shape == (8, 360, 640, 3)
    assert clip.small.shape[1:3] == (256, 456)
    assert (clip.height, clip.width, clip.fps, clip.seconds) == (360, 640, 24, 2)
    assert 12 <= len(clip.times) <= 17
    assert (np.diff(clip.times) > 0).all()


def test_a_part_of_a_film_is_decoded_from_its_first_frame_on(tmp_path: Path):
    frames = np.repeat(np.arange(0, 250, 5, dtype=np.uint8), 64 * 64 * 3).reshape(50, 64, 64, 3)
    film = cut_clip(tmp_path / "film.mp4", frames, 10).path
    part = footage(Item("part", film, "clip", start=20, end=40, start_s=2.0, end_s=4.0))
    assert part.small[0].mean() == pytest.approx(100, abs=2)
    assert part.small[-1].mean() == pytest.approx(195, abs=6)
    assert part.seconds == pytest.approx(2)


def test_a_crop_is_cut_out_of_every_frame(tmp_path: Path):
    film = cut_clip(tmp_path / "film.mp4", pan(0, 12, 128, 192)).path
    part = footage(Item("part", film, "clip", start=0, end=12, start_s=0.0, end_s=0.5, crop=(16, 32, 64, 96)))
    assert part.full.shape[1:3] == (64, 96)
    assert (part.height, part.width) == (64, 96)
    whole = footage(Item("whole", film, "clip", is_cut=True))
    assert np.abs(part.full[0].astype(int) - whole.full[0][16:80, 32:128]).max() == 0


def test_a_file_that_is_no_video_says_so(tmp_path: Path):
    (tmp_path / "x.mp4").write_text("not a video")
    with pytest.raises(ItemError, match="open_failed"):
        footage(Item("x", tmp_path / "x.mp4", "clip", is_cut=True))


def test_luma_and_its_spread_have_the_units_they_state():
    grey = np.full((3, 32, 32, 3), 77, np.uint8)
    assert (brightness(grey), contrast(grey)) == (77, 0)
    half = grey.copy()
    half[:, :16], half[:, 16:] = 0, 200
    assert (brightness(half), contrast(half)) == (100, 100)


def test_the_laplacian_falls_with_every_step_of_blur():
    luma = gray(scene())
    ladder = [laplacian_variance(cv2.GaussianBlur(luma, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert laplacian_variance(luma) > ladder[0] > ladder[1] > ladder[2] > ladder[3]


@pytest.mark.parametrize("sigma", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_blur_of_edges_is_recovered_whatever_is_shown(sigma: float, seed: int):
    found = edge_blur(cv2.GaussianBlur(gray(scene(seed=seed)), (0, 0), sigma))
    assert found == pytest.approx(sigma, rel=0.25)


def test_blur_does_not_depend_on_contrast():
    soft = cv2.GaussianBlur(scene(), (0, 0), 2)
    pale = (soft.astype(np.float32) * 0.5 + 60).astype(np.uint8)
    assert blur(soft[None]) == pytest.approx(blur(pale[None]), rel=0.1)


def test_without_edges_blur_is_not_measured():
    assert blur(np.full((4, 64, 64, 3), 90, np.uint8)) is None


def test_a_clip_starts_at_its_first_clear_frame():
    variances = np.array([10.0] * 5 + [100.0] * 43)
    assert clear_start(variances, 24.0) == 5
    assert clear_start(np.full(30, 50.0), 24.0) == 0
    assert clear_start(np.zeros(3), 24.0) == 0


@pytest.mark.parametrize(("height", "width"), [(256, 256), (256, 456)])
@pytest.mark.parametrize("pixels", [2.0, 4.0])
def test_a_pan_has_its_speed_and_no_motion_of_its_own(pixels: float, height: int, width: int):
    frames = pan(pixels, 17, height, width)
    found = motion(frames, np.arange(17) / 8)
    assert found is not None
    assert found.mean == pytest.approx(4 * pixels / np.hypot(height, width), rel=0.08)
    assert found.own < 0.25 * found.mean
    assert found.frozen == 0


def test_what_moves_against_the_camera_is_own_motion():
    frames = pan(0)
    rng = np.random.default_rng(0)
    thing = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    thing = cv2.GaussianBlur(thing, (0, 0), 2)
    for t, frame in enumerate(frames):
        frame[100:160, 20 + 4 * t : 80 + 4 * t] = thing
    found = motion(frames, np.arange(17) / 8)
    assert found is not None
    assert found.own == pytest.approx(found.mean, rel=0.1)
    assert found.mean > 0.0005


def test_a_still_picture_is_frozen_and_a_shaken_one_jitters():
    times = np.arange(17) / 8
    still, smooth = motion(pan(0), times), motion(pan(2), times)
    shakes = np.random.default_rng(1).integers(-4, 5, 17)
    wide = scene(SIDE, SIDE + 16)
    shaken = motion(np.stack([wide[:, 8 + s : 8 + s + SIDE] for s in shakes]), times)
    assert still is not None
    assert smooth is not None
    assert shaken is not None
    assert (still.frozen, still.mean) == (1, pytest.approx(0, abs=1e-5))
    assert shaken.jitter > 5 * smooth.jitter


def test_motion_needs_three_frames():
    assert motion(pan(1, 2), np.arange(2) / 8) is None


@pytest.mark.parametrize("edges", [(20, 20, 0, 0), (0, 0, 31, 17), (6, 0, 0, 40), (1, 2, 3, 4)])
def test_borders_are_found_to_the_pixel(edges: tuple[int, int, int, int]):
    framed = pan(2, 8)
    height, width = framed.shape[1:3]
    top, bottom, left, right = edges
    framed[:, :top], framed[:, height - bottom :] = 0, 0
    framed[:, :, :left], framed[:, :, width - right :] = 0, 0
    assert borders(framed) == Borders(*edges)
    assert borders(framed).area(height, width) == pytest.approx(1 - (height - top - bottom) * (width - left - right) / height / width)


def test_neither_a_night_sky_nor_a_black_clip_has_borders():
    dusk = (pan(2, 8) * np.linspace(0, 0.4, SIDE)[:, None, None]).astype(np.uint8)
    assert borders(dusk) == Borders(0, 0, 0, 0)
    assert borders(np.zeros((8, 64, 64, 3), np.uint8)) == Borders(0, 0, 0, 0)
    street = np.full((8, 64, 64, 3), 120, np.uint8)
    street[:, 50:, 20:40] = 12  # all black at the bottom, but not alike
    street[:, 50:, :20], street[:, 50:, 40:] = 4, 8
    assert borders(street) == Borders(0, 0, 0, 0)


def test_brisque_rises_with_blur_and_with_noise():
    luma = gray(scene(360, 480))
    worse = [brisque_score(cv2.GaussianBlur(luma, (0, 0), sigma)) for sigma in (1.5, 3)]
    noisy = np.clip(luma + np.random.default_rng(0).normal(0, 40, luma.shape), 0, 255).astype(np.uint8)
    assert brisque_score(luma) < worse[0] < worse[1]
    assert brisque_score(noisy) > brisque_score(luma)


def test_a_normal_distribution_has_shape_two():
    shape, mean, left, right = asymmetric_fit(np.random.default_rng(0).normal(0, 3, (400, 400)).astype(np.float32))
    assert shape == pytest.approx(2, abs=0.05)
    assert (left, right, mean) == (pytest.approx(9, rel=0.02), pytest.approx(9, rel=0.02), pytest.approx(0, abs=0.05))


def test_brisque_agrees_with_the_package_it_takes_its_weights_from():
    published = pytest.importorskip(
        "brisque.brisque", reason="the package needs scikit-image, which is not among ours", exc_type=ImportError
    )

    class Mended(published.BRISQUE):  # its scaling fails under numpy 2.4
        def scale_features(self, features):
            low, high = (np.array(self.scale_params[name], float) for name in ("min_", "max_"))
            return -1 + 2 * (np.array([np.asarray(f, float).reshape(-1)[0] for f in features]) - low) / (high - low)

    luma = gray(scene(360, 480))
    assert brisque_score(luma) == pytest.approx(Mended().score(np.repeat(luma[..., None], 3, -1)), abs=0.5)


def test_grey_has_no_colour_and_more_of_it_scores_higher():
    grey, vivid = np.repeat(gray(pan(0, 4))[..., None], 3, -1), pan(0, 4)
    assert colourfulness(grey) == 0
    assert colourfulness(vivid) > 20
    assert 0 <= colour_contrast(np.full((4, 8, 8, 3), 99, np.uint8)) < colour_contrast(grey) < colour_contrast(vivid) <= 1


def test_the_baseline_finds_a_mark_where_it_stands_and_none_on_a_bare_clip():
    frames = pan(6, 12)
    picture = np.ones((14, 40, 4), np.float32)
    picture[:, ::4, 3] = 0
    marked = Mark(picture, 8, 200).over(frames)
    assert static_overlay(maps(frames)) == []
    (found,) = static_overlay(maps(marked))
    assert (found.left, found.top) == (pytest.approx(200 / SIDE, abs=0.02), pytest.approx(8 / SIDE, abs=0.02))


def test_the_baseline_says_nothing_of_a_still_clip():
    assert static_overlay(maps(pan(0, 12))) == []


def test_marks_lie_within_the_frame_and_come_from_their_seed():
    for seed in range(40):
        mark = draw_mark(np.random.default_rng(seed), 144, 256, [])
        top, left, height, width = mark.box
        assert 0 <= top <= 144 - height
        assert 0 <= left <= 256 - width
        again = draw_mark(np.random.default_rng(seed), 144, 256, [])
        assert (mark.picture == again.picture).all()
        outside = np.ones((144, 256), bool)
        outside[top : top + height, left : left + width] = False
        frames = pan(1, 2, 144, 256)
        assert (mark.over(frames)[:, outside] == frames[:, outside]).all()


def test_cells_become_boxes_and_a_heap_becomes_its_best():
    cells = np.zeros((5, 4, 6), np.float32)
    cells[:, 1, 2] = 0.9, 12, 8, 20, 8
    cells[:, 1, 3] = 0.6, 20, 8, 12, 8
    (found,) = boxes_of(cells, 32, 48)
    assert found.score == pytest.approx(0.9)
    assert np.array(found[1:]) * (48, 32, 48, 32) == pytest.approx((8, 4, 40, 20))
    assert overlap(found, found) == pytest.approx(1)


def test_frames_are_spread_evenly():
    assert spread(np.arange(12), 4).tolist() == [1, 4, 7, 10]
    assert spread(np.arange(3), 4).tolist() == [0, 1, 2]
