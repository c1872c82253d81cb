"""From a folder of raw files to a training step, by the commands a user types."""

import json
import math
from pathlib import Path

import films
import pytest

from kinema.curation.recipe import Recipe

pytestmark = pytest.mark.slow
RECIPE = """
kind = "video"
device = "cpu"

[model]
width = 32
heads = 2
double_blocks = 1
single_blocks = 1
rope_axes = [4, 6, 6]
refiner_blocks = 1
text_width = 576
pooled_width = 576
guidance = false

[task]
folders = ["latents"]
sample = false

[[task.stages]]
name = "one step"
sides = [64]
frames = [5]
steps = 1
tokens = 64

[loop]
out = "run"
steps = 1
log_every = 1
"""


def test_raw_films_become_latents_and_one_training_step(command, tmp_path: Path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for seed in range(2):
        films.write_film(raw / f"film{seed}.mp4", 60, seed, size=(288, 352))
    (raw / "broken.mp4").write_text("no film")
    (tmp_path / "loose.toml").write_text("".join(f"[thresholds.{name}]\n" for name in Recipe().ladders()))
    done = command("curate", "raw", "--out", "set", "--workers", "1", "--recipe", "loose.toml")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "set" / "summary.json").read_text())
    assert summary["sources"]["failed"] == 1
    done = command("encode", "set", "--tier", "256p", "--out", "latents", "--sides", "64", "--frames", "5")
    assert done.returncode == 0, done.stderr
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = command("train", "recipe.toml")
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines()) if "loss" in row]
    assert math.isfinite(row["loss"])
