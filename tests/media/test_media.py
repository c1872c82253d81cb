"""What is written comes back; what cannot be written leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.errors import InputError, OutputError
from kinema.media.frames import fill, from_uint8, resize, to_uint8
from kinema.media.image import read_image, write_image
from kinema.media.video import probe, read_metadata, read_video, write_video

RECIPE = {"prompt": 'A "cat" walks, 走る 🐱\non two lines', "seed": 7, "sizes": [128, 1.5, None, True]}


def drifting(frames=9, height=48, width=64):
    """A smooth gradient that moves: what a codec should keep almost as it is."""
    t, y, x = torch.meshgrid(torch.arange(frames), torch.arange(height), torch.arange(width), indexing="ij")
    wave = [torch.sin((a * y + b * x) / 20 + t / 3) for a, b in ((1, 0), (0, 1), (1, 1))]
    return ((torch.stack(wave, -1) * 0.8 + 1) * 127.5).round().to(torch.uint8)


def test_every_byte_survives_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)
    assert from_uint8(levels).aminmax() == (-1, 1)


def test_pixels_out_of_range_are_clamped_not_wrapped():
    pixels = torch.tensor([-3.0, -1.001, 1.001, 3.0]).reshape(1, 1, 2, 2)
    assert to_uint8(pixels).flatten().tolist() == [0, 0, 255, 255]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_fill_gives_the_size_asked_for_and_keeps_flat_colour(height, width, tall, wide):
    out = fill(torch.full((1, 3, height, width), 0.5), tall, wide)
    assert out.shape == (1, 3, tall, wide)
    torch.testing.assert_close(out, torch.full_like(out, 0.5))


def test_shrinking_smooths_instead_of_dropping_pixels():
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 3, 64, 64)
    assert (resize(stripes, 16, 16) - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("fps", [12, 24, 23.976, 30000 / 1001])
def test_a_video_comes_back_as_it_was_written(tmp_path, fps):
    frames = drifting()
    write_video(tmp_path / "a.mp4", frames, fps)
    found, rate = read_video(tmp_path / "a.mp4")
    assert found.shape == frames.shape
    assert rate == pytest.approx(fps, rel=1e-4)
    assert (found.float() - frames.float()).abs().mean() < 2.5
    assert (found.float() - frames.float()).mean((0, 1, 2)).abs().max() < 2.5  # no colour is shifted


def test_numpy_frames_are_written_alike(tmp_path):
    write_video(tmp_path / "a.mp4", drifting(), 12)
    write_video(tmp_path / "b.mp4", np.asarray(drifting()), 12)
    assert torch.equal(read_video(tmp_path / "a.mp4")[0], read_video(tmp_path / "b.mp4")[0])


def test_browsers_can_play_it_while_it_loads(tmp_path):
    write_video(tmp_path / "a.mp4", drifting(), 12)
    blob = (tmp_path / "a.mp4").read_bytes()
    assert blob.index(b"moov") < blob.index(b"mdat")
    with av.open(tmp_path / "a.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.colorspace == 1  # BT.709, said in the file


def test_probe_tells_what_was_written(tmp_path):
    write_video(tmp_path / "a.mp4", drifting(17), 12)
    info = probe(tmp_path / "a.mp4")
    assert (info.frames, info.height, info.width, info.fps, info.codec) == (17, 48, 64, 12, "h264")
    assert info.seconds == pytest.approx(17 / 12)


def test_one_frame_is_a_video_too(tmp_path):
    write_video(tmp_path / "a.mp4", drifting(1), 12)
    assert read_video(tmp_path / "a.mp4")[0].shape == (1, 48, 64, 3)


def test_a_png_comes_back_to_the_bit(tmp_path):
    frame = drifting(1)[0]
    write_image(tmp_path / "a.png", frame)
    assert torch.equal(read_image(tmp_path / "a.png"), frame)


@pytest.mark.parametrize("metadata", [RECIPE, {}, None])
def test_metadata_comes_back_from_video_and_picture(tmp_path, metadata):
    write_video(tmp_path / "a.mp4", drifting(1), 12, metadata)
    write_image(tmp_path / "a.png", drifting(1)[0], metadata)
    assert read_metadata(tmp_path / "a.mp4") == metadata
    assert read_metadata(tmp_path / "a.png") == metadata


def test_a_long_recipe_fits_into_the_file(tmp_path):
    recipe = {"prompt": "a very long prompt " * 5000}
    write_video(tmp_path / "a.mp4", drifting(1), 12, recipe)
    assert read_metadata(tmp_path / "a.mp4") == recipe


@pytest.mark.parametrize("shape", [(4, 47, 64, 3), (4, 48, 63, 3), (0, 48, 64, 3)])
def test_what_h264_cannot_hold_is_refused_before_a_file_appears(tmp_path, shape):
    with pytest.raises(InputError, match="even height and width"):
        write_video(tmp_path / "a.mp4", torch.zeros(shape, dtype=torch.uint8), 12)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_players_would_not_know_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.mp4"):
        write_video(tmp_path / "a.txt", drifting(1), 12)


@pytest.mark.parametrize(
    "write", [lambda path: write_video(path.with_suffix(".mp4"), drifting(1), 12), lambda path: write_image(path, drifting(1)[0])]
)
def test_a_missing_folder_is_one_clear_line(tmp_path, write):
    with pytest.raises(OutputError, match="No such file or directory") as caught:
        write(tmp_path / "none" / "a.png")
    assert "\n" not in str(caught.value)


FILL_THE_DISK = """
import resource, signal, sys, torch
from kinema.errors import OutputError
from kinema.media.video import write_video
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_video(sys.argv[1], torch.randint(0, 256, (17, 128, 128, 3), dtype=torch.uint8), 12)
except OutputError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_leaves_the_older_file_and_no_half_one(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, drifting(1), 12)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FILL_THE_DISK, str(path)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert [found.name for found in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_video(tmp_path / "a.mp4", drifting(1), 12)


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
@pytest.mark.parametrize("read", [read_video, probe, read_metadata])
def test_a_missing_or_broken_video_is_one_clear_line(tmp_path, content, read):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4"):
        read(tmp_path / "a.mp4")


def test_a_file_of_another_maker_has_no_metadata_of_ours(tmp_path):
    path: Path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        container.metadata["comment"] = "made elsewhere"
        stream = container.add_stream("libx264", rate=12)
        stream.height = stream.width = 16
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert read_metadata(path) is None
