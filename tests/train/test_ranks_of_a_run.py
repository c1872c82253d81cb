"""A run on two ranks trains as one rank does; torchrun restarts it when a rank dies, and one rank goes on where two stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from stores import RECIPE, encoded

from kinema.train.checkpoint import newest, step_of

STEPS = 24


def command(name, *changes):
    return ["-m", "kinema", "train", "r.toml", f"loop.out={name}", f"loop.steps={STEPS}", "loop.log_every=1", "loop.save_steps=4", *changes]


def run(folder, name, *changes, ranks=1):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--max-restarts=2"]
    words = [*(torchrun if ranks > 1 else [sys.executable]), *command(name, *changes)]
    return subprocess.Popen(words, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said[-3000:]
    return said


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def wait_for_step(folder, step):
    while not (folder / "log.jsonl").exists() or len(losses(folder)) < step:
        time.sleep(0.05)


def workers_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
    return [int(each) for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "shard"])
def test_two_ranks_train_as_one_and_survive_a_death_and_a_change_of_mesh(tmp_path, mesh):
    encoded(tmp_path / "data")
    (tmp_path / "r.toml").write_text(RECIPE)
    alone = run(tmp_path, "alone")
    pair = run(tmp_path, "pair", f"mesh.{mesh}=2", ranks=2)
    wait_for_step(tmp_path / "pair", 9)
    os.kill(workers_of(pair)[-1], signal.SIGKILL)
    time.sleep(1)
    wait_for_step(tmp_path / "pair", 14)
    for worker in workers_of(pair):
        os.kill(worker, signal.SIGTERM)
    finish(pair)
    assert 8 <= step_of(newest(tmp_path / "pair")) < STEPS
    said = finish(run(tmp_path, "pair"))
    assert "resumed" in said
    finish(alone)
    assert losses(tmp_path / "pair") == pytest.approx(losses(tmp_path / "alone"), rel=0.02)
    assert (tmp_path / "pair/dit.safetensors").stat().st_size == (tmp_path / "alone/dit.safetensors").stat().st_size
