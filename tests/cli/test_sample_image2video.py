"""HunyuanVideo-I2V's flags."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinema.media.image import write_image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.png", torch.full((48, 64, 3), 90, dtype=torch.uint8))
    return tmp_path / "a.png"


def call(*args: object) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, ROOT / "sample_image2video.py", "--prompt", "A cat walks.", *args]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)


def test_the_readmes_command_names_the_files_that_are_missing(picture: Path, tmp_path: Path):
    flags = "--model HYVideo-T/2 --i2v-mode --i2v-resolution 720p --infer-steps 50 --video-length 129 --flow-reverse --i2v-stability"
    done = call(*flags.split(), "--flow-shift", 7.0, "--embedded-cfg-scale", 6.0, "--i2v-image-path", picture, "--model-base", tmp_path)
    assert done.returncode == 1
    assert "hunyuan-video-i2v-720p/transformers" in done.stderr
    assert "text_encoder_i2v" in done.stderr


def test_what_cannot_be_is_refused_with_a_reason(picture: Path, tmp_path: Path):
    for flags, reason in {("--use-lora",): "--lora-path", ("--gradient-checkpoint",): "training"}.items():
        flags = (*flags, "1") if reason == "training" else flags
        done = call("--i2v-image-path", picture, "--model-base", tmp_path, *flags)
        assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert "cannot read" in call("--i2v-image-path", tmp_path / "gone.png").stderr
