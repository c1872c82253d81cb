"""Several processes give one process's loss and gradients, for every parallelism and some mixed ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks

TOLERANCE = 1e-5  # of a tensor's largest number, float32: sums run in another order
STEPS_TOLERANCE = 1e-4  # after some steps of sampling, which carry differences on


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, list[dict]]:
    """What 2 and 4 processes found, started once."""
    folder = tmp_path_factory.mktemp("ranks")
    results: dict[str, list[dict]] = {}
    for size in ranks.CASES:
        results |= {f"{name}@{size}": each for name, each in started(size, folder / f"{size}.json", tiny_folder).items()}
    return results


def started(size: int, out: Path, *words: Path) -> dict[str, list[dict]]:
    """What `size` processes of `ranks.py` write to `out`."""
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), ranks.__file__, str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*starter, *map(str, words)], env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(out.read_text())


NAMES = [f"{case.name}@{size}" for size, cases in ranks.CASES.items() for case in cases]
SPREAD = {f"{case.name}@{size}": case.mesh.size // case.mesh.data for size, cases in ranks.CASES.items() for case in cases}


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_every_gradient_are_those_of_one_process(found: dict, name: str):
    for rank in found[name]:
        assert rank["loss"] < TOLERANCE
        assert rank["gradient"] < TOLERANCE, rank["worst"]
        assert rank["norm"] < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_a_gathered_state_and_average_have_the_plain_names_and_numbers(found: dict, name: str):
    assert all(rank["unchanged"] for rank in found[name])
    assert found[name][0]["average"] < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_a_rank_holds_its_share_of_the_weights(found: dict, name: str):
    """Of what tensor parallelism leaves whole (embedders, refiner, last layer), each rank of a tensor group has a copy."""
    most = 1.05 / SPREAD[name] + (0.3 if "tensor" in name else 0)
    assert all(rank["bytes"] < most for rank in found[name])


@pytest.mark.parametrize("size", ranks.CASES)
def test_tiles_over_ranks_make_the_same_pixels(found: dict, size: int):
    assert all(rank["same"] for rank in found[f"tiles@{size}"])


@pytest.mark.parametrize("mesh", ranks.MESHES)
def test_ranks_together_sample_what_one_samples_with_fewer_weights_each(found: dict, mesh: str):
    for rank in found[f"generate {mesh}@2"]:
        assert rank["difference"] < STEPS_TOLERANCE
        assert rank["bytes"] < (0.9 if "tensor" in mesh else 0.52)  # most of this model lies in what tensor leaves whole


@pytest.mark.slow  # a compiler runs
def test_compiled_blocks_give_the_same_gradients(tmp_path: Path):
    found = started(2, tmp_path / "compiled.json")
    for case in ranks.COMPILED:
        assert max(rank["gradient"] for rank in found[case.name]) < TOLERANCE, case.name
