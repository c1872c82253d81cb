"""Longer than trained: pieces that continue one another, and what is given stays where it is."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

import kinema
from kinema.conditioning.frames import Given
from kinema.media.image import write_image
from kinema.pipelines.pieces import places_within, spans


@given(st.integers(1, 200), st.integers(2, 40))
def test_pieces_cover_everything_in_windows_and_overlap(latents: int, window: int):
    found = spans(latents, window)
    assert found[0].start == 0
    assert found[-1].stop == latents
    assert all(len(span) == min(window, latents) for span in found)
    assert all(before.start < after.start < before.stop < after.stop for before, after in pairwise(found))


def test_given_frames_are_counted_from_the_pieces_first():
    assert sorted(places_within(dict.fromkeys((0, 19, 20, 30, 52, 53), torch.zeros(1, 1, 3).byte()), range(5, 14))) == [0, 10, 32]


def short(folder: Path, window: int = 9) -> kinema.VideoPipeline:
    """The tiny model with a window of so many frames."""
    pipeline = kinema.load(weights=folder, dtype="fp32")
    pipeline.config = replace(pipeline.config, defaults=replace(pipeline.config.defaults, window=window))
    return pipeline


def test_a_long_video_begins_as_a_short_one_does(tiny_folder: Path):
    pipeline = short(tiny_folder)
    long, short_one = (pipeline.config.request("A cat.", seed=1, frames=frames) for frames in (21, 9))
    noise = torch.randn(1, 16, 6, 4, 6, generator=torch.Generator().manual_seed(0))
    made = pipeline.sample(long)
    assert made.shape == noise[0].shape
    assert made.isfinite().all()
    assert pipeline.decode(made).shape == (21, 32, 48, 3)
    assert pipeline.sample(short_one).shape[1] == 3


def test_what_is_given_stays_as_it_is_also_in_later_pieces(tiny_folder: Path, tmp_path: Path):
    pipeline = short(tiny_folder, 17)  # so that the last frame is no neighbour of what the second piece is given
    write_image(tmp_path / "a.png", torch.full((32, 48, 3), 250, dtype=torch.uint8))
    ends = (Given.picture(tmp_path / "a.png"), Given.picture(tmp_path / "a.png", "last"))
    request = pipeline.config.request("A cat.", seed=1, frames=29, height=32, width=48, given=ends)
    made = pipeline.sample(request)
    known = pipeline.known(pipeline.places(request), request.shape)
    assert known is not None
    for place in (0, 7):
        torch.testing.assert_close(made[:, place], known.latents[0, :, place], rtol=0, atol=1e-5)
    assert not torch.equal(made[:, 4], pipeline.sample(replace(request, given=()))[:, 4])
