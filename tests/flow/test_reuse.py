"""Fewer calls: nothing changes where nothing is left out, and a straight path is followed exactly."""

import pytest
import torch
from torch import Tensor

from kinema.flow.reuse import Reused, guided_within, reused
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
