"""Fewer calls: nothing changes where nothing is left out, and a straight path is followed exactly."""

import pytest
import torch
from torch import Tensor

from kinema.flow.reuse import BlockCache, Reused, guided_within, reused
from kinema.flow.samplers import SAMPLERS
from kinema.flow.sigmas import schedule


class Counted:
    """A velocity that bends with the noise level."""

    def __init__(self, bend: float = 0.0) -> None:
        self.calls, self.bend = 0, bend

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.calls += 1
        return torch.full_like(x, 1.0 + self.bend * sigma**2)


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_straight_path_is_followed_exactly_with_fewer_calls(every: int):
    fewer, plain = Counted(0.0), Counted(0.0)
    noise, sigmas = torch.zeros(4), schedule(20, 7.0)
    wanted = SAMPLERS["euler"](plain, noise, sigmas)
    torch.testing.assert_close(SAMPLERS["euler"](Reused(fewer, every), noise, sigmas), wanted)
    assert fewer.calls == 3 + 17 // every < plain.calls


def test_on_a_bent_path_more_calls_come_nearer():
    noise, sigmas = torch.zeros(4), schedule(40, 7.0)
    wanted = SAMPLERS["euler"](Counted(3.0), noise, sigmas)
    errors = [(SAMPLERS["euler"](reused(Counted(3.0), every), noise, sigmas) - wanted).abs().max().item() for every in (1, 2, 4, 8)]
    assert errors[0] == 0
    assert errors == sorted(errors)
    assert errors[1] < errors[3]


def test_every_call_changes_nothing():
    velocity = Counted()
    assert reused(velocity, 1) is velocity


def test_guidance_costs_only_within_its_interval():
    guided, plain = Counted(), Counted()
    velocity = guided_within(guided, plain, (0.3, 0.8))
    for sigma in (1.0, 0.81, 0.8, 0.5, 0.3, 0.1):
        velocity(torch.zeros(1), sigma)
    assert (guided.calls, plain.calls) == (3, 3)


def drive(threshold: float, forecast: bool = False, streams: int = 1, steps: int = 20) -> tuple[int, float]:
    """Times that all blocks worked, and the largest error, where the first adds s and the others a straight line 3 s, s growing evenly."""
    cache = BlockCache(threshold, forecast)
    texts, worked, worst = [cache.stream() for _ in range(streams)], 0, 0.0
    before = torch.zeros(1, 4, 2)
    for step in range(steps):
        added = torch.full_like(before, 1 + step / steps)

        def rest(added: Tensor = added) -> Tensor:
            nonlocal worked
            worked += 1
            return 4 * added

        for text in texts:
            found = text.call(1 - step / steps, rest, before, before + added, None)
            worst = max(worst, float((found - 4 * added).abs().max()))
    return worked, worst


def test_a_larger_bound_is_never_more_work_and_zero_is_all_of_it():
    found = [drive(bound)[0] for bound in (0.0, 0.02, 0.06, 0.12, 0.3, 0.9)]
    assert found[0] == 20
    assert found == sorted(found, reverse=True)
    assert found[-1] < 3


@pytest.mark.parametrize("bound", [0.0, 0.06, 0.12, 0.3])
def test_the_error_stays_within_the_bound(bound: float):
    _, worst = drive(bound)
    assert worst <= bound * 3 * 2  # of what the others add, at most 3 x 2


def test_a_straight_line_is_forecast_exactly_once_two_points_are_known():
    worked, worst = drive(0.12, forecast=True)
    assert worked < 10
    assert worst <= 0.12 * 3 * 1.2  # only before the second point; after it, nothing
    assert drive(0.12)[1] > worst


def test_texts_that_are_subtracted_are_computed_at_the_same_steps():
    assert drive(0.12, streams=2)[0] == 2 * drive(0.12)[0]


def test_what_is_given_does_not_count():
    cache, before = BlockCache(0.1), torch.zeros(1, 2, 2)
    text, given = cache.stream(), torch.tensor([[[True], [False]]])
    calls = []
    for sigma, moved in ((1.0, 1.0), (0.5, 9.0)):
        added = torch.tensor([[[moved, moved], [1.0, 1.0]]])
        text.call(sigma, lambda: calls.append(1) or before, before, added, given)
    assert len(calls) == 1
