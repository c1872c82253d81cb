"""What is decided over many clips: duplicates, concepts, weights; and crops."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.curation.balance import Concepts, gini, weights_of
from kinema.curation.crops import Crops, crop_of
from kinema.curation.duplicates import Duplicates, agreeing, fingerprint, neighbours, perceptual_hash, small_luma
from kinema.curation.filters.borders import Borders
from kinema.curation.operator import Item, Measurement, Rejection, Span, Table


def clip(seed: int, frames: int = 16) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wide = cv2.resize(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8), (200, 128), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, 2 * t : 2 * t + 160] for t in range(frames)])


def changed(frames: np.ndarray) -> np.ndarray:
    """Smaller, brighter, its rim gone."""
    return np.stack([cv2.convertScaleAbs(cv2.resize(frame[2:-2, 2:-2], (96, 80)), alpha=1.06) for frame in frames])


def test_hashes_survive_a_new_size_and_light_but_not_another_scene():
    one = fingerprint(clip(0))
    assert agreeing(one, one, 0) == (8, 7)
    frames, changes = agreeing(one, fingerprint(changed(clip(0))), 6)
    assert frames >= 6
    assert changes >= 4
    assert max(max(agreeing(one, fingerprint(clip(seed)), 6)) for seed in range(1, 20)) <= 1


def test_a_hash_has_64_bits_half_of_them_set():
    small = small_luma(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    assert int(perceptual_hash(small), 16).bit_count() == pytest.approx(32, abs=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def table(vectors: np.ndarray, **columns: list) -> Table:
    items = tuple(Item(f"{index:032x}", Path("x"), "clip") for index in range(len(vectors)))
    sizes = {name: [value] * len(vectors) for name, value in (("width", 640.0), ("height", 360.0), ("seconds", 4.0))}
    return Table(items, sizes | columns, {"embedding": vectors})


def thrown_away(found: Table, **parameters: float) -> dict[int, str]:
    rows = Duplicates(**parameters).run_set(found)  # type: ignore[arg-type]
    return {int(key, 16): row.detail for key, each in rows.items() for row in each if isinstance(row, Rejection)}


def test_neighbours_are_the_pairs_above_the_cosine():
    vectors = unit(np.random.default_rng(0).normal(size=(40, 8)))
    wanted = {(a, b) for a in range(40) for b in range(a + 1, 40) if vectors[a] @ vectors[b] >= 0.5}
    assert {(a, b) for a, b, _ in neighbours(vectors, 0.5, 40)} == wanted


def test_the_same_is_thrown_away_once_and_the_larger_stays():
    vectors = unit(np.random.default_rng(0).normal(size=(6, 16)))
    vectors[4] = vectors[1]
    widths = [640.0] * 4 + [1280.0, 640.0]
    found = table(vectors, width=widths)
    assert thrown_away(found) == {1: f"of {4:032x}"}


def test_hashes_decide_where_embeddings_are_only_near():
    base = unit(np.random.default_rng(0).normal(size=(3, 16)))
    base[1] = unit(base[:1] + 0.3 * base[1:2])[0]
    assert 0.75 < base[0] @ base[1] < 0.985
    one, other = fingerprint(clip(0)), fingerprint(clip(7))
    assert thrown_away(table(base, fingerprint=[one, one, other])) == {1: f"of {0:032x}"}
    assert thrown_away(table(base, fingerprint=[one, other, other])) == {}


def room(seed: int) -> np.ndarray:
    """A fixed camera's view of one textured room, and somebody's own way through it."""
    walls = cv2.resize(np.random.default_rng(5).integers(60, 190, (6, 8, 3), dtype=np.uint8), (128, 96))
    frames, way = np.repeat(walls[None], 24, axis=0), np.random.default_rng(seed).uniform(10, 80, (2, 2))
    for frame, share in zip(frames, np.linspace(0, 1, 24), strict=True):
        y, x = (way[0] + share * (way[1] - way[0])).astype(int)
        frame[y : y + 9, x : x + 6] = 220
    return frames


def test_one_room_with_other_people_is_no_duplicate_and_one_scene_seen_roughly_again_is():
    near = unit(np.array([[1.0, 0, 0], [1.0, 0.25, 0], [1.0, 0, 0.25]]))
    assert (near[0] @ near[1:].T > 0.93).all()
    scene, grainy = room(1), room(1).astype(float) + 140 * np.random.default_rng(0).standard_normal((1, 96, 128, 1))
    rough = fingerprint(np.clip(grainy, 0, 255).astype(np.uint8))
    prints = [fingerprint(scene), fingerprint(room(2)), rough]
    assert agreeing(prints[0], prints[1], 16)[0] >= 5
    assert max(agreeing(prints[0], other, 6)[0] for other in prints[1:]) < 6
    assert thrown_away(table(near, fingerprint=prints)) == {2: f"of {0:032x}"}


def test_equal_files_are_duplicates_whatever_else_is_known():
    vectors = unit(np.random.default_rng(0).normal(size=(3, 16)))
    assert thrown_away(table(vectors, file=["a", "b", "a"])) == {2: f"of {0:032x}"}


def test_throwing_away_twice_changes_nothing():
    rng = np.random.default_rng(0)
    vectors = unit(np.repeat(rng.normal(size=(10, 16)), 3, axis=0) + 0.01 * rng.normal(size=(30, 16)))
    gone = thrown_away(table(vectors))
    left = np.array([index for index in range(30) if index not in gone])
    assert len(left) == 10
    assert thrown_away(table(vectors[left])) == {}


def test_a_clip_without_an_embedding_is_left_alone():
    vectors = unit(np.random.default_rng(0).normal(size=(3, 16)))
    vectors[1] = np.nan
    assert thrown_away(table(vectors, file=["a", "a", "a"])) == {2: f"of {0:032x}"}


def test_weights_have_mean_one_and_lift_the_rare():
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    weights = weights_of(labels, flatten=0.5, cap=1.0)
    assert weights.mean() == pytest.approx(1)
    assert weights[0] < weights[100] < weights[110]
    masses = [weights[labels == label].sum() for label in range(3)]
    assert masses[0] / masses[1] == pytest.approx(10**0.5)
    assert gini(np.array(masses)) < gini(np.array([100, 10, 1]))
    assert weights_of(labels, flatten=0.0, cap=1.0) == pytest.approx(np.ones(111))


def test_gini_is_zero_for_equals_and_near_one_for_a_monopoly():
    assert gini(np.full(7, 3.0)) == pytest.approx(0)
    assert gini(np.array([0.0] * 99 + [1.0])) == pytest.approx(0.99)


def test_concepts_are_found_again_and_the_same_each_time():
    rng = np.random.default_rng(0)
    centres = np.eye(4, 32)
    truth = rng.integers(0, 4, 200)
    found = table(unit(centres[truth] + 0.05 * rng.normal(size=(200, 32))))
    one, other = (Concepts(clips_each=50).run_set(found) for _ in range(2))
    assert one == other
    labels = {key: row.value for key, rows in one.items() for row in rows if isinstance(row, Measurement) and row.name == "cluster"}
    pairs = {(int(truth[int(key, 16)]), label) for key, label in labels.items()}
    assert len(pairs) == 4


def test_nothing_to_cut_is_no_crop():
    assert crop_of(360, 640, Borders(0, 0, 0, 0), 1.0) is None
    assert crop_of(361, 641, Borders(0, 0, 0, 0), 1.0) is None


def test_a_crop_leaves_out_all_that_is_black_and_stays_even():
    top, left, height, width = crop_of(360, 640, Borders(21, 20, 3, 0), 1.0)  # type: ignore[misc]
    assert (top, left) == (22, 4)
    assert (top + height, left + width) == (340, 640)
    assert height % 2 == width % 2 == 0


def run_crops(**values: float) -> list:
    size = {"height": 360.0, "width": 640.0, "subtitle_top": 1.0} | {f"border_{edge}": 0.0 for edge in Borders._fields}
    item = Item("0" * 32, Path("x"), "clip", start=10, end=50, start_s=1.0, end_s=3.0)
    return list(Crops().run(item, size | values))


def test_a_letterboxed_clip_gives_its_place_to_its_picture():
    area, span = run_crops(border_top=40.0, border_bottom=40.0)
    assert area.value == pytest.approx(280 / 360)
    assert span == Span(10, 50, 1.0, 3.0, (40, 0, 280, 640))


def test_subtitles_are_cut_away():
    _, span = run_crops(subtitle_top=0.85)
    assert span.crop == (0, 0, 306, 640)


def test_too_little_is_thrown_away():
    _, rejection = run_crops(border_top=80.0, border_bottom=80.0)
    assert rejection == Rejection("crop_too_small", "0.56 is left")
