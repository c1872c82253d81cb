"""Several processes make the video that one makes, and fail with one message."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

Launch = Callable[..., "subprocess.CompletedProcess[str]"]
TOLERANCE = 1e-4  # of the largest latent, float32: sums run in another order
REQUEST = ["--dtype", "fp32", "--size", "32", "48", "--frames", "5", "--steps", "3", "--guidance", "3", "--seed", "7"]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """`torchrun --nproc-per-node N -m kinema ...`, as a person would."""

    def run(ranks: int, *words: object, module: tuple[str, ...] = ("-m", "kinema")) -> "subprocess.CompletedProcess[str]":
        starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [*starter, *module, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


def made(folder: Path) -> tuple[torch.Tensor, dict]:
    """The only latents of a folder, and their recipe."""
    (latents,), (recipe,) = (folder / "latents").iterdir(), folder.glob("*.json")
    return load_file(latents)["latents"], json.loads(recipe.read_text())


@pytest.fixture(scope="module")
def alone(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """What one process makes."""
    import kinema

    pipeline = kinema.load(weights=tiny_folder, dtype="fp32", device="cpu")
    request = pipeline.config.request("A cat.", 3.0, seed=7, height=32, width=48, frames=5, steps=3)
    return pipeline.sample(request)


def test_two_ranks_make_what_one_makes(launch: Launch, tiny_folder: Path, tmp_path: Path, alone: torch.Tensor):
    ended = launch(2, "generate", "--prompt", "A cat.", "--weights", tiny_folder, *REQUEST, "--out", "out")
    assert ended.returncode == 0, ended.stderr
    latents, recipe = made(tmp_path / "out")
    torch.testing.assert_close(latents, alone, rtol=0, atol=TOLERANCE * alone.abs().max().item())
    assert recipe["mesh"]["sequence"] == 2
    assert ended.stdout.split() == [f"out/{recipe['file']}"], "only rank 0 names the file"
    assert ended.stderr.count("denoise: 3/3") == 1


@pytest.mark.slow  # starts four processes
def test_a_list_of_prompts_is_shared_and_goes_on(launch: Launch, tiny_folder: Path, tmp_path: Path, alone: torch.Tensor):
    (tmp_path / "list.txt").write_text("A dog.\nA cat.\nA bird.\n")
    words = ("generate", "--prompts", "list.txt", "--weights", tiny_folder, *REQUEST, "--mesh", "data=2", "--out", "out")
    ended = launch(2, *words)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.split()) == len(list((tmp_path / "out").glob("*.mp4"))) == 3
    (cat,) = (tmp_path / "out" / "latents").glob("*a-cat*")
    assert torch.equal(load_file(cat)["latents"], alone), "a rank by itself computes what a single process does"
    (again,) = (tmp_path / "out").glob("*a-dog*.json")
    again.unlink()
    ended = launch(2, *words)
    assert len(ended.stdout.split()) == 1
    assert "2 of 3 are done" in ended.stderr


@pytest.mark.slow  # mini's own weights
def test_published_degrees_work(launch: Launch, tmp_path: Path):
    script = Path(__file__).parents[2] / "sample_video.py"
    size = ("--video-size", "32", "48", "--video-length", "5", "--infer-steps", "2")
    words = ("--model", "mini", "--prompt", "cat", *size, "--ring-degree", "2", "--save-path", "out")
    ended = launch(2, *words, module=(str(script),))
    assert ended.returncode == 0, ended.stderr
    assert made(tmp_path / "out")[1]["mesh"]["method"] == "ring"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "/proc/nowhere"), "cannot write into the folder"),
        pytest.param(("--frames", "130"), "frames=130 does not fit", marks=pytest.mark.slow),
        pytest.param(("--mesh", "sequence=3"), "needs 3 processes, and there are 2", marks=pytest.mark.slow),
        pytest.param(("--mesh", "shard=2"), "is for training", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_is_said_once(launch: Launch, tiny_folder: Path, words: tuple[str, ...], message: str):
    ended = launch(2, "generate", "--prompt", "A cat.", "--weights", tiny_folder, *words)
    assert ended.returncode != 0
    assert ended.stderr.count("kinema: error") == 1, ended.stderr
    assert message in ended.stderr


BROKEN = """
import os, sys
from kinema.cli import main
from kinema.pipelines import video
draw = video.draw_noise
def fail(*args):
    if os.environ["RANK"] == "1":
        raise MemoryError
    return draw(*args)
video.draw_noise = fail
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_rank_that_fails_alone_ends_all_of_them_with_its_reason(launch: Launch, tiny_folder: Path, tmp_path: Path):
    (tmp_path / "broken.py").write_text(BROKEN)
    ended = launch(2, "generate", "--prompt", "A cat.", "--weights", tiny_folder, "--steps", "900", module=("broken.py",))
    assert ended.returncode != 0
    (told,) = [line for line in ended.stderr.splitlines() if line.startswith("kinema:")]
    assert told.startswith("kinema: error: out of memory: ")
    assert "`kinema plan`" in told
