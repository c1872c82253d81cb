"""Given pictures and videos: which latents they become, and that one never touches another."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinema.conditioning.frames import Given, clip_of, encode_places, frames_of, latent_of, places_of, runs
from kinema.errors import InputError
from kinema.media.image import write_image
from kinema.media.video import write_video
from kinema.presets import tiny
from kinema.shapes import PixelShape
from kinema.vae.model import CausalVAE

SHAPE = PixelShape(17, 32, 32)


def picture(seed: int, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def vae() -> CausalVAE:
    torch.manual_seed(0)
    return CausalVAE(tiny().vae).eval()


@given(st.integers(0, 400))
def test_every_frame_lies_in_the_latent_that_holds_it(frame: int):
    assert frame in frames_of(latent_of(frame))


def test_neighbours_make_one_run():
    assert runs([0, 1, 2, 5, 7, 8]) == [range(0, 3), range(5, 6), range(7, 9)]


def test_a_single_picture_stands_still_for_its_four_frames():
    shown = clip_of(range(2, 3), {6: picture(1)})
    assert shown.shape == (5, 32, 32, 3)  # its first frame in front, then frames 5 ... 8
    assert all(torch.equal(frame, picture(1)) for frame in shown)


def test_gaps_repeat_the_nearest_given_frame_of_the_same_latent():
    shown = clip_of(range(1, 2), {1: picture(1), 4: picture(4)})
    assert [torch.equal(frame, picture(1)) for frame in shown[1:]] == [True, True, False, False]


def test_a_first_picture_is_what_the_vae_makes_of_it_alone(vae: CausalVAE):
    known = encode_places({0: picture(0)}, SHAPE, vae)
    alone = vae.to_latents(picture(0).permute(2, 0, 1)[None, :, None] / 127.5 - 1)
    assert known.given.tolist() == [[True, False, False, False, False]]
    torch.testing.assert_close(known.latents[:, :, :1], alone, rtol=0, atol=1e-5)
    assert known.latents[:, :, 1:].abs().max() == 0


def test_what_is_given_later_never_changes_what_is_given_earlier(vae: CausalVAE):
    frames = {frame: picture(frame) for frame in range(9)}
    before = encode_places(frames, SHAPE, vae)
    after = encode_places(frames | {9: picture(90), 16: picture(16)}, SHAPE, vae)
    assert after.given.tolist() == [[True, True, True, True, True]]
    assert before.given.tolist() == [[True, True, True, False, False]]
    torch.testing.assert_close(after.latents[:, :, :3], before.latents[:, :, :3], rtol=0, atol=1e-5)


def test_footage_is_encoded_as_the_clip_that_it_is(vae: CausalVAE):
    frames = {frame: picture(frame) for frame in range(9)}
    whole = vae.to_latents(torch.stack(list(frames.values())).permute(3, 0, 1, 2)[None] / 127.5 - 1)
    torch.testing.assert_close(encode_places(frames, SHAPE, vae).latents[:, :, :3], whole, rtol=0, atol=1e-5)


def test_a_video_is_continued_from_its_end_at_the_wanted_rate(tmp_path: Path):
    levels = torch.arange(40, dtype=torch.uint8)[:, None, None, None] * 6
    write_video(tmp_path / "a.mp4", levels.expand(40, 32, 32, 3).contiguous(), fps=24)
    places = places_of([Given.footage(tmp_path / "a.mp4")], SHAPE, 12, at_once=5)
    assert sorted(places) == list(range(5))  # two latents of the five that are made
    wanted = [6 * frame for frame in (31, 33, 35, 37, 39)]
    assert all(abs(places[i].float().mean() - level) < 4 for i, level in enumerate(wanted))


def test_a_picture_is_cut_to_its_middle(tmp_path: Path):
    wide = torch.zeros(32, 96, 3, dtype=torch.uint8)
    wide[:, 32:64] = 255
    write_image(tmp_path / "a.png", wide)
    assert places_of([Given.picture(tmp_path / "a.png")], SHAPE, 12, at_once=5)[0].float().mean() > 250


def test_bad_places_and_files_are_refused(tmp_path: Path):
    write_image(tmp_path / "a.png", picture(0))
    first = Given.picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="twice"):
        places_of([first, first], SHAPE, 12, at_once=5)
    with pytest.raises(InputError, match="outside"):
        places_of([Given.picture(tmp_path / "a.png", 17)], SHAPE, 12, at_once=5)
    write_image(tmp_path / "a.png", picture(1))
    with pytest.raises(InputError, match="changed"):
        places_of([first], SHAPE, 12, at_once=5)
    with pytest.raises(InputError, match=r"gone\.png"):
        Given.picture(tmp_path / "gone.png")
    write_image(tmp_path / "small.png", picture(0, 10, 10))
    with pytest.raises(InputError, match="10x10"):
        Given.picture(tmp_path / "small.png")
