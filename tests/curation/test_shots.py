"""Where shots begin and end: on hand-made signals, and on a film of which every transition is known."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.curation.judge import Marks, of_transitions
from kinema.curation.operator import Item, Rejection, Span
from kinema.curation.shots import (
    Confirmation,
    Shots,
    Signals,
    Transition,
    analyse,
    pieces,
    probabilities,
    stretches,
    transitions,
)
from kinema.media.video import write_video

FPS = 24.0


def quiet(frames: int = 200) -> Signals:
    """A film in which nothing happens."""
    nothing = np.zeros(frames, np.float32)
    return Signals(np.arange(frames) / FPS, np.full(frames, 90.0), np.full(frames, 50.0), nothing, nothing.copy(), (), FPS)


def test_a_quiet_film_is_one_shot():
    assert transitions(quiet()) == []
    assert stretches([], 200, 4) == [(0, 200)]


def test_a_proposal_counts_only_where_the_network_agrees():
    assert transitions(replace(quiet(), proposed=(100,))) == []
    signals = replace(quiet(), proposed=(100,))
    signals.cut[99] = 0.2
    assert transitions(signals) == [Transition(100, 100)]


def test_the_network_alone_must_be_sure():
    signals = quiet()
    signals.cut[99] = 0.4
    assert transitions(signals) == []
    signals.cut[99] = signals.within[99] = 0.8
    assert transitions(signals) == [Transition(100, 100)]


def test_a_dissolve_is_as_long_as_the_network_sees_it():
    signals = quiet()
    signals.cut[105], signals.within[95:116] = 0.9, 0.9
    assert transitions(signals) == [Transition(95, 116)]


def test_black_ends_a_shot():
    signals = quiet()
    signals.luma[80:90] = 2
    assert transitions(signals) == [Transition(80, 90)]


def test_opinions_with_no_shot_between_them_are_one_transition():
    signals = replace(quiet(), proposed=(84, 95))
    signals.luma[80:90] = 2
    signals.cut[94] = 0.9
    assert transitions(signals) == [Transition(80, 95)]


def test_a_fade_through_black_is_one_transition_however_slowly_it_goes():
    signals = replace(quiet(), proposed=(100, 112))
    signals.cut[99] = signals.cut[111] = 0.9
    assert transitions(signals) == [Transition(100, 100), Transition(112, 112)]
    signals.luma[100:113] = [*np.linspace(84, 0, 7), *np.linspace(12, 84, 6)]
    assert transitions(signals) == [Transition(100, 112)]


def test_shots_keep_their_distance_from_transitions_but_not_from_the_films_ends():
    found = [Transition(50, 50), Transition(100, 120)]
    assert stretches(found, 200, 4) == [(0, 46), (54, 96), (124, 200)]
    assert stretches([Transition(3, 3)], 10, 4) == [(7, 10)]


def test_a_long_shot_is_parted_evenly_and_nothing_is_lost():
    parts = pieces(10, 110, 40)
    assert [end for _, end in parts[:-1]] == [start for start, _ in parts[1:]]
    assert (parts[0][0], parts[-1][1]) == (10, 110)
    assert max(end - start for start, end in parts) <= 40
    assert max(end - start for start, end in parts) - min(end - start for start, end in parts) <= 1


@pytest.mark.parametrize("count", [1, 49, 50, 51, 120])
def test_windows_give_every_frame_one_probability(count: int):
    confirmation, rng = Confirmation(), np.random.default_rng(0)
    for _ in range(count):
        confirmation.push(rng.integers(0, 256, (27, 48, 3), dtype=np.uint8))
    heads = confirmation.finish()
    assert heads.shape == (2, count)
    assert ((heads >= 0) & (heads <= 1)).all()


def test_before_its_beginning_and_after_its_end_a_film_runs_backwards_for_a_moment():
    frames = np.random.default_rng(0).integers(0, 256, (120, 27, 48, 3), dtype=np.uint8)
    confirmation = Confirmation()
    for frame in frames:
        confirmation.push(frame)
    heads, first = confirmation.finish(), np.concatenate([np.repeat(frames[8:9], 17, axis=0), frames[8:0:-1], frames[:75]])
    assert heads[:, :50] == pytest.approx(probabilities(first)[:, 25:75], abs=1e-5)
    last = np.concatenate(
        [frames[75:], frames[-2:-10:-1], np.repeat(frames[-9:-8], 47, axis=0)]
    )  # the third window begins 25 frames before the first that it judges
    assert heads[:, 100:] == pytest.approx(probabilities(last)[:, 25:45], abs=1e-5)


def test_what_moves_fast_to_the_very_end_is_no_cut(tmp_path: Path):
    wide = np.concatenate([scene(4, 1)[0]] * 3, axis=1)
    fast = np.stack([np.roll(wide, -24 * t, axis=1)[:, :256] for t in range(40)])
    path = tmp_path / "fast.mp4"
    write_video(path, fast, FPS)
    assert transitions(analyse(Item("fast", path, "source"))) == []


def scene(seed: int, frames: int) -> np.ndarray:
    """A picture of its own, slowly panned."""
    rng = np.random.default_rng(seed)
    wide = cv2.resize(rng.integers(0, 256, (6, 10, 3), dtype=np.uint8), (320, 144), interpolation=cv2.INTER_CUBIC)
    for _ in range(30):
        cv2.circle(wide, (int(rng.integers(320)), int(rng.integers(144))), int(rng.integers(4, 18)), rng.integers(0, 256, 3).tolist(), -1)
    return np.stack([wide[:, t // 2 : t // 2 + 256] for t in range(frames)])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cuts at 60 and 120; a dissolve over 180-200."""
    parts = [scene(seed, 60) for seed in range(3)]
    before, after, share = scene(2, 80)[60:], scene(3, 80), np.linspace(0, 1, 20)[:, None, None, None]
    dissolve = (before * (1 - share) + after[:20] * share).astype(np.uint8)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, np.concatenate([*parts, dissolve, after[20:]]), FPS)
    return path


def test_a_film_falls_into_its_shots_to_the_frame(film: Path):
    rows = Shots().run(Item("film", film, "source"), {})
    spans = [row for row in rows if isinstance(row, Span)]
    assert [(span.start, span.end) for span in spans[:2]] == [(0, 56), (64, 116)]
    assert spans[2].start == 124
    assert 170 <= spans[2].end <= 186
    assert 194 <= spans[3].start <= 210
    assert spans[3].end == 260
    for span in spans:
        assert (span.start_s, span.end_s) == (pytest.approx(span.start / FPS, abs=1e-3), pytest.approx(span.end / FPS, abs=1e-3))


def test_long_shots_are_parted_and_short_ones_dropped(film: Path):
    spans = [row for row in Shots(longest_s=1.0, shortest_s=0.9).run(Item("film", film, "source"), {}) if isinstance(row, Span)]
    assert all(span.end - span.start <= 24 for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    (rejection,) = [row for row in Shots(shortest_s=30.0).run(Item("film", film, "source"), {}) if isinstance(row, Rejection)]
    assert rejection.reason == "too_short"


def test_a_soft_beginning_is_trimmed(tmp_path: Path):
    frames = scene(5, 48)
    frames[:6] = [cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames[:6]]
    write_video(tmp_path / "soft.mp4", frames, FPS)
    (span,) = [row for row in Shots().run(Item("soft", tmp_path / "soft.mp4", "source"), {}) if isinstance(row, Span)]
    assert span.start == 6


def test_a_find_of_the_other_kind_is_held_against_neither():
    marks = [Transition(10, 10), Transition(50, 70)]
    scores = of_transitions([Transition(10, 10), Transition(60, 60), Transition(90, 90)], marks)
    assert (scores["cut"].right, scores["cut"].missed, scores["cut"].wrong) == (1, 0, 1)
    assert (scores["fade"].right, scores["fade"].missed, scores["fade"].wrong) == (1, 0, 0)


def test_the_marked_film_reads_in_order():
    marks = Marks.read(Path(__file__).parent / "bbb_cuts.csv")
    assert sum(end - start for start, end in marks.stretches) == 3 * 60 * 24
    assert all(a.end <= b.start for a, b in pairwise(marks.transitions))
    assert all(any(start <= mark.start and mark.end <= end for start, end in marks.stretches) for mark in marks.transitions)
