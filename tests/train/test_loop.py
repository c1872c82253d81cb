"""What a training run promises: it resumes to the same bits, survives bad gradients, and averages its weights."""

import json
import os
import signal

import pytest
import torch
from torch import nn

from kinema.errors import InputError, KinemaError
from kinema.train.loop import LoopConfig, Task, fit
from kinema.train.optim import Ema, learning_rate


class LineFit(Task):
    """A Task small enough for a test: fit a line, with noise; some steps may be poisoned, and it may be told to stop."""

    def __init__(self, poisoned=(), stop_at=None):
        torch.manual_seed(0)
        self.model, self.poisoned, self.stop_at, self.exported = nn.Linear(3, 1), poisoned, stop_at, None

    def loss(self, step, generator):
        if step + 1 == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.randn(8, 3, generator=generator)
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss * (torch.nan if step in self.poisoned else 1), {"scale": loss}

    def export(self, weights, folder):
        self.exported = {name: weight.clone() for name, weight in weights.items()}


def config(folder, steps, **other):
    return LoopConfig(out=folder, steps=steps, lr=0.05, warmup=2, log_every=5, **other)


def test_a_run_that_is_told_to_stop_saves_and_ends_later_with_the_same_bits(tmp_path):
    whole = fit(LineFit(), config(tmp_path / "whole", 40))
    first = LineFit(stop_at=17)
    assert fit(first, config(tmp_path / "parts", 40)).step == 17
    assert first.exported is None
    resumed = fit(LineFit(), config(tmp_path / "parts", 40))
    assert resumed.step == whole.step == 40
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(resumed.ema.weights[name], weight) for name, weight in whole.ema.weights.items())
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 15, 20, 25, 30, 35, 40]


def test_steps_without_end_that_are_not_finite_end_the_run(tmp_path):
    with pytest.raises(KinemaError, match=r"4 steps in a row, up to step 7"):
        fit(LineFit(poisoned=range(3, 40)), config(tmp_path, 40, bad_steps=4))


def test_two_batches_a_step_train_like_one_of_twice_the_size(tmp_path):
    class Halves(LineFit):
        def loss(self, step, generator):
            self.turn = (getattr(self, "turn", -1) + 1) % self.parts
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step)).chunk(self.parts)[self.turn]
            return (self.model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    ends = []
    for parts in (1, 2):
        task = Halves()
        task.parts = parts
        ends.append(fit(task, config(tmp_path / str(parts), 10, accumulate=parts)).model.weight)
    torch.testing.assert_close(ends[0], ends[1])


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(tmp_path):
    task = LineFit(poisoned=(3, 4, 9))
    run = fit(task, config(tmp_path, 20))
    assert run.skipped == 3
    assert all(torch.isfinite(weight).all() for weight in task.model.parameters())
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["skipped"] == 3


def test_it_learns_and_exports_the_average(tmp_path):
    task = LineFit()
    fit(task, config(tmp_path, 200, ema=0.9))
    torch.testing.assert_close(task.exported["weight"], torch.ones(1, 3), atol=0.05, rtol=0)


def test_the_clock_can_set_the_length(tmp_path):
    run = fit(LineFit(), config(tmp_path, 1, seconds=0.2))
    assert run.step > 1
    assert run.elapsed == pytest.approx(0.2, abs=0.15)


def test_a_run_without_length_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least one step"):
        fit(LineFit(), config(tmp_path, 0))


def test_the_rate_warms_up_and_falls_to_its_floor():
    assert learning_rate(0.0, 0, 10, 0.1) == pytest.approx(0.1)
    assert learning_rate(0.01, 500, 10, 0.1) == pytest.approx(1, abs=0.01)
    assert learning_rate(1.0, 500, 10, 0.1) == pytest.approx(0.1)


def test_the_average_of_a_constant_is_the_constant_and_frozen_weights_have_none():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    ema = Ema(model, 0.99)
    for _ in range(5):
        ema.update(model)
    assert ema.weights.keys() == {"weight"}
    assert torch.equal(ema.weights["weight"], model.weight)
