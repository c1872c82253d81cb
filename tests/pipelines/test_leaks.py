"""A service makes videos for weeks: a run leaves nothing behind."""

import gc
import sys
from pathlib import Path

import pytest
import torch

import kinema
from kinema.evaluate.bench.memory import status_bytes
from kinema.pipelines.plan import return_freed_memory

RUNS, SETTLED = 20, 8
ALLOWED = 8_000_000  # bytes that an allocator may keep for itself


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())  # by type: some objects warn when asked


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's memory")
@pytest.mark.parametrize("chosen", [{}, {"guidance": 3.0, "cache": 0.3, "forecast": True}])
def test_twenty_runs_take_no_more_than_one(tiny_folder: Path, tmp_path: Path, chosen: dict[str, float]):
    return_freed_memory()
    pipeline = kinema.load(weights=tiny_folder)
    tensors, resident = [], []
    for seed in range(RUNS):
        pipeline.generate_to(tmp_path, pipeline.config.request("A cat.", seed=seed, **chosen), f"run{seed}")
        tensors.append(live_tensors())
        resident.append(status_bytes("VmRSS"))
    assert tensors[-1] == tensors[SETTLED]
    assert resident[-1] - resident[SETTLED] < ALLOWED
