"""Out of memory: caught, given back, told with a way out; and what was denoised is not lost."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import kinema
from kinema.errors import OutOfMemoryError
from kinema.pipelines.files import load_latents
from kinema.pipelines.shortage import is_shortage, told, way_to_decode
from kinema.pipelines.video import VideoPipeline
from kinema.presets import MODELS

CHILD = """
import resource
from pathlib import Path
import kinema
from kinema.evaluate.bench.memory import status_bytes
pipeline = kinema.load("mini")
small = pipeline.config.request("A cat.", seed=1, frames=5, height=32, width=48, steps=1)
pipeline.generate_to(Path("out"), small, "small")
limit = status_bytes("VmSize") + 100_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
try:
    pipeline.generate_to(Path("out"), pipeline.config.request("A cat.", seed=1, height=1088, width=1920, frames=33), "large")
except kinema.errors.OutOfMemoryError as error:
    print("CAUGHT", error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
pipeline.generate_to(Path("out"), small, "again")
assert Path("out/small.mp4").read_bytes() == Path("out/again.mp4").read_bytes()
"""


def far_too_much(*_: Any) -> torch.Tensor:
    return torch.empty(2**60, dtype=torch.uint8)


def test_decoding_that_runs_out_frees_memory_and_goes_on_from_the_latents(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pipeline = kinema.load(weights=tiny_folder)
    request = pipeline.config.request("A cat.", seed=1)
    whole = pipeline.generate_to(tmp_path, request, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(VideoPipeline, "decoded", far_too_much)
        with pytest.raises(OutOfMemoryError, match="--from-latents") as caught:
            pipeline.generate_to(tmp_path, request, "broken")
    assert not {"dit", "vae"} & vars(pipeline).keys()
    kept = tmp_path / "latents" / "broken.safetensors"
    assert str(kept) in str(caught.value)
    assert not (tmp_path / "broken.mp4").exists()
    latents, recipe = load_latents(kept)
    resumed = pipeline.decode_to(tmp_path, kept, latents, recipe)
    assert resumed.name == "broken.mp4"
    assert resumed.read_bytes() == whole.read_bytes()


def test_denoising_that_runs_out_says_what_would_fit(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pipeline = kinema.load(weights=tiny_folder)
    monkeypatch.setattr(pipeline.dit, "forward", far_too_much)  # of this one: the plan's rehearsals go on
    with pytest.raises(OutOfMemoryError, match="--offload"):
        pipeline.generate_to(tmp_path, pipeline.config.request("A cat.", seed=1), "broken")
    assert "dit" not in vars(pipeline)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's addresses")
def test_a_process_with_a_real_limit_goes_on_with_what_fits(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", "import kinema.errors\n" + CHILD], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"CAUGHT out of memory: .+", done.stdout)


def test_other_errors_pass_as_they_are():
    released = []
    with pytest.raises(RuntimeError, match="shapes"), told(lambda: "", lambda: released.append(1)):
        raise RuntimeError("shapes differ")
    assert not released
    assert is_shortage(MemoryError())
    assert is_shortage(torch.OutOfMemoryError("CUDA out of memory."))


def test_advice_for_decoding_names_what_is_left_to_try():
    config, place = MODELS["t2v_13b"](), kinema.load("mini").placement
    assert "--tile 192 --offload" in way_to_decode(config, place, Path("kept"))
    assert "--tile" not in way_to_decode(MODELS["mini"](), place, Path("kept"))
