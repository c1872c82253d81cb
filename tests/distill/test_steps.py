"""Few-step distillation, on a flow that can be solved on paper: data of variance `spread` squared, centred, straight paths.

Its velocity is x times (sigma - (1 - sigma) spread^2) / deviation^2, with deviation^2 = (1 - sigma)^2 spread^2 + sigma^2, and a point
keeps its place among the others: it moves by the ratio of the deviations.
"""

import pytest
import torch

from kinema.distill.steps import StepsTask, wanted_velocity
from kinema.errors import InputError
from kinema.flow.samplers import SAMPLERS
from kinema.flow.sigmas import schedule

SPREAD = 0.2


def deviation(sigma):
    return ((1 - sigma) ** 2 * SPREAD**2 + sigma**2) ** 0.5


def velocity(x, sigma):
    """The flow's own."""
    return x * (sigma - (1 - sigma) * SPREAD**2) / deviation(sigma) ** 2


def exact_landing(task: StepsTask):
    """The velocity of a perfect student: straight to where the flow arrives at the end of the phase."""

    def student(x, sigma):
        start = (task.sigmas[None] - sigma[:, None]).abs().argmin(1)
        start = start.clamp(max=task.steps * task.stops - 1)
        end = task.stretch(start)[1]
        return x * (deviation(end) / deviation(sigma) - 1) / torch.where(end == sigma, 1, end - sigma)

    return student


def every_stop(task: StepsTask):
    start = torch.arange(task.steps * task.stops)
    walk, end = task.stretch(start)
    return torch.linspace(-2, 2, len(start)).double(), walk.double(), end.double()


def test_phases_end_where_the_sampler_stops():
    task = StepsTask(steps=4, stops=8, shift=3.0)
    torch.testing.assert_close(task.sigmas[:: task.stops], schedule(4, 3.0))
    walk, end = task.stretch(torch.tensor([0, 6, 7, 31]))
    stops = task.sigmas
    assert walk.tolist() == [[stops[a], stops[b], stops[c]] for a, b, c in ((0, 1, 2), (6, 7, 8), (7, 8, 8), (31, 32, 32))]
    assert end.tolist() == [stops[8], stops[8], stops[8], 0]


def test_at_the_end_of_a_phase_a_student_stays_whatever_it_has_learned():
    task = StepsTask(steps=2, stops=4, jump=4)
    x, walk, end = every_stop(task)
    by_one = wanted_velocity(velocity, lambda x, sigma: x * 1e3, x, walk, end)
    by_other = wanted_velocity(velocity, lambda x, sigma: -x, x, walk, end)
    assert torch.equal(by_one, by_other)


def test_the_exact_map_is_what_consistency_asks_for():
    errors = []
    for stops in (16, 32, 64):
        task = StepsTask(steps=2, stops=stops, jump=1, shift=1.0)
        x, walk, end = every_stop(task)
        student = exact_landing(task)
        wanted = wanted_velocity(velocity, student, x, walk, end)
        errors.append(((wanted - student(x, walk[:, 0])) * (end - walk[:, 0])).abs().max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)  # one small Euler step's own error, and no other
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("jump", [1, 4, 16])
def test_a_trained_student_makes_in_two_steps_what_the_flow_makes_in_all(jump: int):
    task = StepsTask(steps=2, stops=16, jump=jump, shift=1.0)
    factors = torch.zeros(task.steps * task.stops, dtype=torch.float64, requires_grad=True)  # the student: one number a stop
    optimizer = torch.optim.Adam([factors], lr=0.05)
    x, walk, end = torch.ones(len(factors)).double(), *every_stop(task)[1:]

    def student(x, sigma):
        return x * factors[(task.sigmas.double()[None] - sigma[:, None]).abs().argmin(1).clamp(max=len(factors) - 1)]

    for _ in range(600):
        with torch.no_grad():
            wanted = wanted_velocity(velocity, student, x, walk, end)
        (student(x, walk[:, 0]) - wanted).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def field(x, sigma):
        return student(x, torch.full((len(x),), sigma, dtype=torch.float64))

    noise = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64)
    sigmas = schedule(task.steps, task.shift)
    with torch.no_grad():
        made, by_teacher = (SAMPLERS["euler"](model, noise, sigmas) for model in (field, velocity))
        patient = SAMPLERS["euler"](velocity, noise, schedule(task.steps * task.stops, task.shift))
    torch.testing.assert_close(made, patient, rtol=0.02, atol=0)
    assert (by_teacher - noise * SPREAD).abs().max() > 10 * (made - noise * SPREAD).abs().max()


def test_numbers_that_make_no_phases_are_refused():
    with pytest.raises(InputError, match="jump=9"):
        StepsTask(stops=8, jump=9)
    with pytest.raises(InputError, match="steps=0"):
        StepsTask(steps=0)
