"""What a training run promises: it resumes to the same bits, survives bad gradients, and averages its weights."""

import json

import pytest
import torch
from torch import nn

from kinema.errors import InputError
from kinema.train.loop import LoopConfig, fit
from kinema.train.optim import Ema, learning_rate


class LineFit:
    """A Task small enough for a test: fit a line, with noise; some steps may be poisoned."""

    def __init__(self, poisoned=()):
        torch.manual_seed(0)
        self.model, self.poisoned, self.exported = nn.Linear(3, 1), poisoned, None

    def refresh(self, step):
        pass

    def loss(self, step, generator):
        x = torch.randn(8, 3, generator=generator)
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss * (torch.nan if step in self.poisoned else 1), {"scale": loss}

    def export(self, weights, folder):
        self.exported = {name: weight.clone() for name, weight in weights.items()}


def config(folder, steps, **other):
    return LoopConfig(out=folder, steps=steps, lr=0.05, warmup=2, log_every=5, **other)


def stop_after(task, steps):
    """Make the run end early as SIGTERM would, leaving the schedule's length as it is."""
    from kinema.train import loop

    class StopAt(loop.Stop):
        asked = property(lambda self: task.seen >= steps, lambda self, value: None)

    task.seen, inner = 0, task.loss

    def counted(step, generator):
        task.seen += 1
        return inner(step, generator)

    task.loss = counted
    return StopAt


def test_a_run_stopped_and_resumed_ends_with_the_same_bits(tmp_path, monkeypatch):
    whole = fit(LineFit(), config(tmp_path / "whole", 40))
    first = LineFit()
    with monkeypatch.context() as patch:
        patch.setattr("kinema.train.loop.Stop", stop_after(first, 17))
        assert fit(first, config(tmp_path / "parts", 40)).step == 17
    resumed = fit(LineFit(), config(tmp_path / "parts", 40))
    assert resumed.step == whole.step == 40
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(resumed.ema.weights[name], weight) for name, weight in whole.ema.weights.items())


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
        config(tmp_path, 0)


def test_the_rate_warms_up_and_falls_to_its_floor():
    assert learning_rate(0.0, 0, 10, 0.1) == pytest.approx(0.1)
    assert learning_rate(0.01, 500, 10, 0.1) == pytest.approx(1, abs=0.01)
    assert learning_rate(1.0, 500, 10, 0.1) == pytest.approx(0.1)


def test_the_average_of_a_constant_is_the_constant():
    state = {"a": torch.full((2,), 3.0)}
    ema = Ema(state, 0.99)
    for _ in range(5):
        ema.update(state)
    assert torch.equal(ema.weights["a"], state["a"])
