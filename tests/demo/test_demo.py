"""End to end with the shipped weights: what `make demo` does, as a process."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kinema.config import read_config
from kinema.media.video import probe, read_video
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.store import CONFIG_FILE, PRETRAINED
from kinema.presets import mini

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SHIPPED = PRETRAINED / "mini"


def test_the_shipped_weights_are_those_of_the_preset():
    assert read_config(ModelConfig, SHIPPED / CONFIG_FILE) == mini()


def test_the_shipped_files_stay_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 64 * 2**20


@pytest.mark.slow
def test_the_demo_shows_something_that_moves(command: Command, tmp_path: Path):
    result = command("demo", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    video = Path(result.stdout.strip())
    info, defaults = probe(video), mini().defaults
    assert (info.frames, info.height, info.width, info.fps) == (defaults.frames, defaults.height, defaults.width, defaults.fps)
    frames = read_video(video)[0].float()
    assert frames.std() > 20  # a picture, not a flat colour
    assert (frames[-1] - frames[0]).abs().mean() > 2  # and not a still one
    assert (frames[1:] - frames[:-1]).abs().mean() < 40  # nor noise
    recipe = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    assert recipe["prompt"] == "A cat walks on the grass, cinematic style."
