"""The scaling law: what is fitted is what made the data, the paper's figures follow from its coefficients, a sweep repeats nothing."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from stores import encoded

from kinema.errors import InputError
from kinema.presets import tiny
from kinema.train.scaling import ROWS, RUNS, ScalingConfig, Size, plan, points, sweep
from kinema.train.scaling_fit import PAPER, Point, PowerLaw, fit_law
from kinema.train.scaling_plot import plot
from kinema.train.video import VideoTraining

BUDGETS = (0.001, 0.01, 0.1, 1.0, 10.0)
ALPHA, BETA = 0.5, 0.35  # how loss falls with size and with data


def trained(noise=0.0, seed=0, budgets=BUDGETS, reach=4.0, off=1.0):
    """Runs of a family whose loss is 0.3 + 0.05 N^-ALPHA + 0.2 D^-BETA, at sizes around each budget's best one.

    reach: from the middle size to the largest; off: how far the middle lies from the best.
    """
    rng, found = np.random.default_rng(seed), []
    for budget in budgets:
        for factor in np.geomspace(1 / reach, reach, 7):
            params = off * factor * best_size(budget)
            tokens = budget / (6e3 * params)  # C = 6 N D, in PetaFLOPs and billions
            loss = 0.3 + 0.05 * params**-ALPHA + 0.2 * tokens**-BETA + noise * rng.standard_normal()
            found.append(Point(size=f"{params:.3g}", budget=budget, params=params, tokens=tokens, loss=loss))
    return found


def best_size(budget):
    """Where 0.05 N^-ALPHA + 0.2 (6000 N / C)^BETA is least."""
    return (0.05 * ALPHA / (0.2 * BETA) * (budget / 6e3) ** BETA) ** (1 / (ALPHA + BETA))


@pytest.mark.parametrize(("kind", "budget", "size", "tokens"), [("image", 5.8e7, 12.96, 738), ("video", 7.0e7, 13.03, 927)])
def test_the_papers_sizes_follow_from_its_coefficients(kind, budget, size, tokens):
    law = PAPER[kind]
    assert law.size(budget) == pytest.approx(size, abs=0.01)
    assert law.tokens(budget) == pytest.approx(tokens, abs=1)
    # N and D in billions make 6 N D * 10^18 operations, C in PetaFLOPs 10^15
    assert 6e3 * law.size(budget) * law.tokens(budget) == pytest.approx(budget, rel=0.05)


def test_the_law_that_made_the_losses_is_found_again():
    law = fit_law(trained()).law
    assert law.size.b == pytest.approx(BETA / (ALPHA + BETA), abs=0.005)
    assert law.tokens.b == pytest.approx(ALPHA / (ALPHA + BETA), abs=0.005)
    for budget in BUDGETS:
        assert law.size(budget) == pytest.approx(best_size(budget), rel=0.1)


def test_the_intervals_hold_the_true_exponents_and_shrink_with_the_noise():
    held, widths = 0, {}
    for noise in (0.002, 0.02):
        for seed in range(10):
            fit = fit_law(trained(noise, seed), resamples=200)
            low, high = fit.interval("b1")
            held += low <= BETA / (ALPHA + BETA) <= high
            few, many = fit.interval("b2")
            held += few <= ALPHA / (ALPHA + BETA) <= many
            widths.setdefault(noise, []).append(high - low)
    assert held >= 34  # of 40, at 95 % each: fewer comes up once in ten thousand
    assert np.mean(widths[0.002]) < 0.6 * np.mean(widths[0.02])  # what a parabola cannot follow stays


def test_floors_beyond_the_sizes_run_are_told_and_not_used():
    edge = trained(budgets=(100.0,), off=30.0)
    fit = fit_law(trained() + edge, resamples=100)
    assert [each.within for each in fit.valleys] == [True] * len(BUDGETS) + [False]
    assert fit.law == fit_law(trained(), resamples=100).law
    with pytest.raises(InputError, match="add sizes beyond the edge"):
        fit_law(trained(off=30.0))
    with pytest.raises(InputError, match="has 3 runs"):
        fit_law(trained()[:3])


def test_losses_without_a_valley_give_an_error_and_no_law():
    hills = [replace(point, loss=1 - point.loss) for point in trained()]
    with pytest.raises(InputError, match="0 of 5 budgets"):
        fit_law(hills)


def test_a_power_law_is_one():
    assert PowerLaw(2.0, 0.5)(9.0) == 6.0


def test_the_picture_is_written_whole(tmp_path):
    rows = trained(0.002)
    plot(fit_law(rows, resamples=50), rows, tmp_path / "law.png")
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["law.png"]


def config(folder, **other):
    model = replace(tiny().dit, rope_axes=(2, 2, 4), width=8, heads=1)
    sizes = (Size(width=8, single_blocks=1), Size(width=16, single_blocks=1))
    named = {"out": folder / "out", "train": (folder / "train",), "heldout": (folder / "heldout",), "model": model, "sizes": sizes}
    small = {"budgets": (2e-8,), "tokens": 24, "side": 32, "frames": 9, "least_steps": 2, "heldout_batches": 2}
    return ScalingConfig(**named | small | other)


@pytest.fixture
def folder(tmp_path):
    for name in ("train", "heldout"):
        encoded(tmp_path / name)
    return tmp_path


def test_a_sweep_repeats_no_row_and_makes_a_lost_one_again_to_the_same_bits(folder):
    rows = sweep(config(folder), say=lambda text: None)
    assert [row.size for row in rows] == ["8-1+1", "16-1+1"]
    assert all(np.isfinite(row.loss) for row in rows)
    path = folder / "out" / ROWS
    kept, lost = path.read_text().splitlines()
    kept_run = folder / "out" / RUNS / json.loads(kept)["run"] / "log.jsonl"
    before = kept_run.stat().st_mtime_ns
    path.write_text(kept + "\n")
    assert sweep(config(folder), say=lambda text: None) == rows
    assert kept_run.stat().st_mtime_ns == before
    assert json.loads(path.read_text().splitlines()[1])["loss"] == json.loads(lost)["loss"]


def test_a_run_that_is_told_to_stop_leaves_no_row_and_ends_later_with_the_same_bits(folder, monkeypatch):
    whole = sweep(config(folder, out=folder / "whole"), say=lambda text: None)
    seen, inner = [], VideoTraining.loss

    def interrupted(self, step, generator):
        seen.append(step)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(self, step, generator)

    with monkeypatch.context() as patch:
        patch.setattr(VideoTraining, "loss", interrupted)
        assert sweep(config(folder), say=lambda text: None) is None
    assert points(config(folder)) == []
    assert [(row.size, row.loss) for row in sweep(config(folder), say=lambda text: None)] == [(row.size, row.loss) for row in whole]


def test_a_sweep_grows_by_sizes_and_budgets_but_not_by_other_settings(folder):
    sweep(config(folder, sizes=config(folder).sizes[:1]), say=lambda text: None)
    assert len(points(config(folder))) == 1
    with pytest.raises(InputError, match=r"lr=0.002 there, 0.1 here"):
        sweep(config(folder, lr=0.1))


def test_a_run_costs_its_budget_and_what_cannot_be_trained_is_left_out(folder):
    told = []
    planned = plan(config(folder, budgets=(2e-8, 4e-9), least_steps=4), told.append)
    for run in planned:
        assert run.steps * run.flops_a_step == pytest.approx(run.budget * 1e15, rel=0.5 / run.steps + 1e-6)
    assert len(planned) + len(told) == 4
    assert any("fewer than least_steps=4" in line for line in told)


def test_wrong_sweeps_are_refused(folder):
    with pytest.raises(InputError, match="names one twice"):
        config(folder, budgets=(1.0, 1.0))
    with pytest.raises(InputError, match="multiple of the head width"):
        config(folder).model_of(Size(width=12, single_blocks=1))
    with pytest.raises(InputError, match="some of each"):
        config(folder, sizes=())
