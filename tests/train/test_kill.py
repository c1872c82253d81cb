"""A run that is killed at any moment and started again ends with the bits of one that never was; a damaged checkpoint is passed over."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from stores import RECIPE, encoded

from kinema.errors import OutputError, WeightsError
from kinema.train.checkpoint import Checkpoints, KeepConfig, averaged_weights, complete_ones, newest, read, step_of

STEPS = 40


def start(folder, name, *changes):
    recipe = ["r.toml", f"loop.out={name}", f"loop.steps={STEPS}", "loop.log_every=1", "loop.save_steps=3", *changes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "kinema", "train", *recipe]
    return subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def last_step(run):
    try:
        return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return 0


def kill_after(process, run, step, number=signal.SIGKILL):
    while last_step(run) < step and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.random() * 0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return said


@pytest.fixture
def folder(tmp_path):
    encoded(tmp_path / "data")
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def figures(run):
    """What a log says apart from times."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in ("step", "loss", "grad_norm", "lr", "stage")} for row in rows]


@pytest.mark.slow
def test_three_kills_at_random_change_no_bit(folder):
    whole = start(folder, "whole")
    for step in sorted(random.sample(range(4, STEPS - 4), 3)):
        kill_after(start(folder, "killed"), folder / "killed", step)
    for process, said in [(each, each.communicate(timeout=120)[1]) for each in (whole, start(folder, "killed"))]:
        assert process.returncode == 0, said
    assert (folder / "killed/dit.safetensors").read_bytes() == (folder / "whole/dit.safetensors").read_bytes()
    for part in ("model.", "ema.", "optimizers."):
        ours, theirs = (read(newest(folder / name), part) for name in ("killed", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert figures(folder / "killed") == figures(folder / "whole")


def test_sigterm_saves_and_exits_well(folder):
    process = start(folder, "run", "loop.save_steps=0")
    said = kill_after(process, folder / "run", 3, signal.SIGTERM)
    assert process.returncode == 0, said
    assert "start it again to go on" in said
    assert step_of(newest(folder / "run")) >= 3
    assert not (folder / "run/dit.safetensors").exists()


class Counter:
    """A run of one tensor."""

    def __init__(self):
        self.state = {"model": {"x": torch.zeros(5)}, "run": {"step": 0}, "random": {}}

    def state_dict(self):
        return {**self.state, "model": dict(self.state["model"])}

    def load_state_dict(self, state):
        self.state = state


def saved(folder, steps, keep):
    run = Counter()
    with Checkpoints(folder, keep) as checkpoints:
        for step in steps:
            run.state["model"]["x"].fill_(step)
            run.state["run"]["step"] = step
            checkpoints.save(step, run.state_dict())
    return run


def test_what_is_saved_is_what_was_there_when_it_was_asked(tmp_path):
    saved(tmp_path, range(1, 9), KeepConfig(last=8))
    for path in complete_ones(tmp_path):
        assert read(path, "model.")["x"].eq(step_of(path)).all()


def test_the_newest_stay_and_one_for_every_so_many_steps(tmp_path):
    saved(tmp_path, range(3, 33, 3), KeepConfig(last=2, every=10))
    assert sorted(map(step_of, complete_ones(tmp_path))) == [3, 12, 21, 27, 30]


@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_a_damaged_checkpoint_is_told_and_passed_over(tmp_path, how, caplog):
    saved(tmp_path, (5, 6), KeepConfig(last=2))
    file = next((tmp_path / "step-00000006").glob("*.distcp"))
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content if how == "flip" else content[:-1])
    run = Counter()
    with Checkpoints(tmp_path, KeepConfig()) as checkpoints:
        assert checkpoints.restore(run)
    assert run.state["run"]["step"] == 5
    assert run.state["model"]["x"].eq(5).all()
    assert "step-00000006 is damaged" in caplog.text


def test_a_half_written_checkpoint_is_never_taken_for_whole(tmp_path):
    saved(tmp_path, (5, 6), KeepConfig(last=2))
    (tmp_path / "step-00000006").rename(tmp_path / ".step-00000006.part")
    (tmp_path / "step-00000007").mkdir()
    run = Counter()
    with Checkpoints(tmp_path, KeepConfig()) as checkpoints:
        assert checkpoints.restore(run)
    assert run.state["run"]["step"] == 5


def test_no_whole_checkpoint_is_an_error_where_weights_are_wanted(tmp_path):
    with pytest.raises(WeightsError, match="no whole checkpoint"):
        averaged_weights(tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    saved(tmp_path, (5,), KeepConfig())
    other = Counter()
    other.state["model"]["y"] = torch.zeros(2)
    with Checkpoints(tmp_path, KeepConfig()) as checkpoints, pytest.raises(WeightsError, match="none of the 1 checkpoints"):
        checkpoints.restore(other)


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kinema.train.checkpoint.dcp.save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        saved(tmp_path, (5,), KeepConfig())
    assert not list(tmp_path.iterdir())
