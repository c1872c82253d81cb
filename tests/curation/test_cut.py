"""A clip holds exactly its frames, upright, whatever file they come from."""

from pathlib import Path
from typing import Any

import av
import films
import numpy as np
import pytest

from kinema.curation.cut import Cut, as_clip
from kinema.curation.exact import frames_of
from kinema.curation.operator import Item, ItemError
from kinema.curation.probe import Probe


def source(path: Path) -> Item:
    return Item("s", path, "source")


def cut(path: Path, folder: Path, start: int, end: int, crop: Any = None) -> tuple[list[Any], Item]:
    """Frames of the clip, and the clip."""
    times = [frame.time for frame in frames_of(source(path))]
    ends = [*times[1:], times[-1] + 1 / films.FPS]
    item = Item("c", path, "clip", start=start, end=end, start_s=times[start], end_s=ends[end - 1], crop=crop, raw=path, clips=folder)
    name = Cut().run(item, {})[0].value  # type: ignore[union-attr]
    clip = as_clip(item, str(name))
    return list(frames_of(clip)), clip


def pixels(frame: Any) -> np.ndarray:
    return frame.to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize(("start", "end"), [(0, 5), (13, 21), (7, 24)])
@pytest.mark.parametrize("gop", ["3", "250"])
def test_a_clip_has_just_the_frames_asked_for(tmp_path: Path, start: int, end: int, gop: str):
    path = films.write_film(tmp_path / "film.mp4", 24, 1, options={"g": gop, "bf": "2"})
    every = [pixels(frame) for frame in frames_of(source(path))]
    found, _ = cut(path, tmp_path, start, end)
    assert len(found) == end - start
    for frame, wanted in zip(found, every[start:end], strict=True):
        nearest = min(range(24), key=lambda index: np.abs(pixels(frame) - every[index]).mean())
        assert np.array_equal(every[nearest], wanted)


def test_the_same_frames_have_the_same_name_and_other_frames_another(tmp_path: Path):
    path = films.write_film(tmp_path / "film.mp4")
    names = [cut(path, tmp_path / folder, *span)[1].path.stem for folder, span in (("", (0, 8)), ("", (0, 8)), ("", (8, 16)))]
    assert names[0] == names[1] != names[2]


def test_a_variable_rate_keeps_its_times(tmp_path: Path):
    path = films.write_film(tmp_path / "film.mp4", times=lambda index: index + 5 * (index > 12))
    found, _ = cut(path, tmp_path, 10, 16)
    steps = np.diff([frame.time for frame in found])
    assert np.allclose(steps * films.FPS, [1, 1, 6, 1, 1], atol=0.02)


def test_a_turned_film_is_cut_upright(tmp_path: Path):
    path = films.turned(tmp_path / "film.mp4")
    found, _ = cut(path, tmp_path, 0, 4)
    assert (found[0].height, found[0].width) == (films.WIDTH, films.HEIGHT)
    stored = next(frames_of(source(path)))
    upright = np.rot90(pixels(stored), round(stored.rotation / 90))
    assert np.abs(pixels(found[0]) - upright).mean() < 12


def test_a_crop_takes_the_rows_and_columns_named(tmp_path: Path):
    path = films.write_film(tmp_path / "film.mp4")
    whole, _ = cut(path, tmp_path, 0, 4)
    part, _ = cut(path, tmp_path, 0, 4, (8, 16, 20, 30))
    assert (part[0].height, part[0].width) == (20, 30)
    assert np.abs(pixels(part[0]) - pixels(whole[0])[8:28, 16:46]).mean() < 6


def test_odd_sizes_and_ten_bits_become_what_players_play(tmp_path: Path):
    odd = films.write_film(tmp_path / "odd.mkv", 12, 1, (49, 65), "yuv444p")
    ten = films.write_film(tmp_path / "ten.mp4", 12, 1, pix_fmt="yuv420p10le")
    for path, size in ((odd, (48, 64)), (ten, (films.HEIGHT, films.WIDTH))):
        (first, *_), clip = cut(path, tmp_path, 0, 4)
        assert (first.height, first.width) == size
        with av.open(str(clip.path)) as container:
            assert container.streams.video[0].format.name == "yuv420p"


def test_frames_that_are_not_there_are_refused(tmp_path: Path):
    path = films.write_film(tmp_path / "film.mp4", 12)
    item = Item("c", path, "clip", start=4, end=20, start_s=4 / films.FPS, end_s=20 / films.FPS, clips=tmp_path)
    with pytest.raises(ItemError, match="partial_decode: 8 of 16"):
        Cut().run(item, {})
    assert not list(tmp_path.glob(".*"))


def test_the_probe_tells_size_rate_and_length(tmp_path: Path):
    path = films.write_film(tmp_path / "film.mp4", 30, times=lambda index: index + (index > 20))
    facts = {row.name: row.value for row in Probe().run(source(path), {})}  # type: ignore[union-attr]
    assert (facts["width"], facts["height"], facts["frames"], facts["codec"]) == (films.WIDTH, films.HEIGHT, 30, "h264")
    assert facts["seconds"] == pytest.approx(31 / films.FPS, rel=0.03)
    assert facts["variable_rate"] == 1
