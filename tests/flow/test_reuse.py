"""Fewer calls: nothing changes where nothing is left out, and what is left out is continued exactly where it can be."""

import pytest
import torch
from torch import Tensor

from kinema.flow.reuse import Forecast, forecasting, guided_within, lagrange
from kinema.flow.samplers import SAMPLERS
from kinema.flow.sigmas import schedule


class Counted:
    """A velocity that is a parabola of the noise level."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.calls += 1
        return torch.full_like(x, 1.0 - 2.0 * sigma + 3.0 * sigma**2)


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_parabola_is_forecast_exactly_and_with_fewer_calls(every: int):
    plain, fewer = Counted(), Counted()
    noise, sigmas = torch.zeros(4), schedule(20, 7.0)
    wanted = SAMPLERS["euler"](plain, noise, sigmas)
    torch.testing.assert_close(SAMPLERS["euler"](Forecast(fewer, every, order=2), noise, sigmas), wanted, rtol=1e-3, atol=1e-3)
    assert fewer.calls == 3 + 17 // every < plain.calls


def test_every_call_changes_nothing():
    velocity = Counted()
    assert forecasting(velocity, 1) is velocity


def test_weights_of_a_forecast_sum_to_one():
    assert sum(lagrange([0.9, 0.8, 0.6], 0.5)) == pytest.approx(1)


def test_guidance_costs_only_within_its_interval():
    guided, plain = Counted(), Counted()
    velocity = guided_within(guided, plain, (0.3, 0.8))
    for sigma in (1.0, 0.81, 0.8, 0.5, 0.3, 0.1):
        velocity(torch.zeros(1), sigma)
    assert (guided.calls, plain.calls) == (3, 3)
