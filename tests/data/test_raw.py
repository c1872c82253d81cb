"""Clips straight from videos: the order and the slices of the stores' loader, and other pieces of a clip each time."""

import pytest
import torch
from encoded import Words, moving, tiny_encoder, write_clips

from kinema.data.encode import Encoder
from kinema.data.loader import Batch
from kinema.data.raw import PixelLoader, RawConfig, RawLoader
from kinema.errors import InputError
from kinema.media.video import write_video
from kinema.text.encoder import TextEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for number in range(5):
        write_video(folder / f"{number}.mp4", moving(9 + number, 40, 40)[:, :, ::-1], fps=8)
        (folder / f"{number}.txt").write_text("a pattern " + "that moves " * number)
    return folder


def config_of(folder, **changes):
    return RawConfig(**{"folders": (folder,), "tokens": 3 * 8, "sides": (32,), "frames": (5,), **changes})


def take(loader, steps):
    found = [loader.next() for _ in range(steps)]
    loader.close()
    return found


def test_slices_of_ranks_join_to_one_ranks_batches(folder):
    encoder = tiny_encoder()
    whole = take(RawLoader(config_of(folder, workers=1), encoder, 3), 3)
    halves = [take(RawLoader(config_of(folder, ahead=2), encoder, 3, rank, 2), 3) for rank in range(2)]
    for one, *parts in zip(whole, *halves, strict=True):
        assert isinstance(one, Batch)
        assert one.ids == parts[0].ids + parts[1].ids
        for name, tensor in one.tensors().items():
            torch.testing.assert_close(tensor, torch.cat([part.tensors()[name] for part in parts]), rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_where_it_was(folder):
    whole = take(PixelLoader(config_of(folder), 0), 6)
    first = PixelLoader(config_of(folder), 0)
    for _ in range(2):
        first.next()
    resumed = PixelLoader(config_of(folder), 0)
    resumed.load_state_dict(first.state_dict())
    first.close()
    for expected, found in zip(whole[2:], take(resumed, 4), strict=True):
        assert expected.ids == found.ids
        assert torch.equal(expected.pixels, found.pixels)


def test_a_clip_shows_another_piece_each_time_unless_told_not_to(folder):
    def pieces(**changes):
        found = take(PixelLoader(config_of(folder, **changes), 0), 10)
        return [pixels for batch in found for name, pixels in zip(batch.ids, batch.pixels, strict=True) if name == "4.mp4"]

    varied, fixed = pieces(), pieces(vary=False)
    assert len(varied) > 2
    assert not all(torch.equal(varied[0], other) for other in varied[1:])
    assert all(torch.equal(fixed[0], other) for other in fixed[1:])


def test_mirroring_turns_some_clips_round(folder):
    plain, mirrored = (take(PixelLoader(config_of(folder, mirror=mirror), 0), 6) for mirror in (False, True))
    turned = [
        torch.equal(one, other.flip(-1))
        for a, b in zip(plain, mirrored, strict=True)
        for one, other in zip(a.pixels, b.pixels, strict=True)
    ]
    assert 0 < sum(turned) < len(turned)


def test_what_cannot_be_opened_is_counted_at_once_and_what_cannot_be_read_when_it_is_met(tmp_path):
    write_clips(tmp_path)
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", moving(5, 48, 48), fps=8)
        (tmp_path / f"{number}.txt").write_text("another")
    loader = PixelLoader(config_of(tmp_path, frames=(1, 5), image_share=0.0), 0)
    assert len(loader.damaged) == 3
    (tmp_path / "square.mp4").unlink()
    for _ in range(6):
        loader.next()
    assert any("square.mp4" in reason for reason in loader.damaged)
    loader.close()


def test_a_folder_where_nothing_fits_is_refused(folder):
    with pytest.raises(InputError, match="no clip"):
        PixelLoader(config_of(folder, sides=(512,)), 0)


def test_the_tests_own_encoder_is_one(folder):
    assert isinstance(Words(), TextEncoder)
    assert isinstance(tiny_encoder(), Encoder)
