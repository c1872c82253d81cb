"""Laws of the path, the schedule, the solvers and guidance."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from kinema.errors import InputError
from kinema.flow.guidance import by_two_scales, classifier_free, embedded_guidance
from kinema.flow.path import interpolate, training_sigmas, velocity_target
from kinema.flow.samplers import SAMPLERS
from kinema.flow.sigmas import default_shift, schedule, shift_sigmas, timesteps


def test_the_path_runs_from_data_to_noise_at_the_velocity_that_is_learned():
    data, noise = torch.randn(3, 4, 2, 5, 5), torch.randn(3, 4, 2, 5, 5)

    def at(sigma):
        return interpolate(data, noise, torch.full((3,), sigma))

    torch.testing.assert_close(at(0.0), data)
    torch.testing.assert_close(at(1.0), noise)
    torch.testing.assert_close((at(0.75) - at(0.25)) / 0.5, velocity_target(data, noise))


def test_each_sample_has_its_own_noise_level():
    data, noise, sigma = torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([0.0, 0.25, 1.0])
    assert torch.equal(interpolate(data, noise, sigma), sigma[:, None].expand(3, 2))


@pytest.mark.parametrize(
    ("steps", "shift", "start", "end"),
    [
        (4, 7.0, [1, 0.9545, 0.875, 0.7, 0], [0.7, 0]),
        (50, 7.0, [1, 0.9971, 0.9941, 0.9910, 0.9877], [0.2258, 0.125, 0]),
        (50, 17.0, [1], [0.4146, 0.2576, 0]),
    ],
)
def test_the_schedule_is_the_published_one(steps, shift, start, end):
    sigmas = schedule(steps, shift).tolist()
    assert len(sigmas) == steps + 1
    assert sigmas[: len(start)] == pytest.approx(start, abs=5e-5)
    assert sigmas[-len(end) :] == pytest.approx(end, abs=5e-5)


def test_the_model_is_told_a_thousand_times_the_noise_level():
    assert timesteps(schedule(50, 7.0))[:3].tolist() == pytest.approx([1000, 997.093, 994.083], abs=1e-3)


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0, 17.0])
@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_schedule_and_euler_agree_with_diffusers(steps, shift):
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=torch.linspace(1, 0, steps + 1)[:-1].numpy())
    torch.testing.assert_close(schedule(steps, shift), theirs.sigmas, rtol=0, atol=1.2e-7)
    noise = torch.randn(2, 3)
    x = noise
    for t in theirs.timesteps:
        x = theirs.step(torch.sin(x), t, x).prev_sample
    torch.testing.assert_close(SAMPLERS["euler"](lambda x, sigma: torch.sin(x), noise, schedule(steps, shift)), x, rtol=1e-6, atol=1e-6)


def test_shift_is_17_below_20_steps_7_from_50_and_falls_between():
    shifts = [default_shift(steps) for steps in range(1, 101)]
    assert set(shifts[:19]) == {17.0}
    assert set(shifts[49:]) == {7.0}
    assert all(fewer > more for fewer, more in pairwise(shifts[19:50]))


def test_a_shift_leaves_both_ends_and_1_leaves_all():
    sigmas = torch.linspace(0, 1, 11)
    assert torch.equal(shift_sigmas(sigmas, 1.0), sigmas)
    assert shift_sigmas(sigmas, 7.0)[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize(
    "call", [lambda: schedule(0, 7.0), lambda: schedule(10, 0.0), lambda: schedule(10, -1.0), lambda: schedule(10, math.nan)]
)
def test_an_impossible_schedule_is_refused(call):
    with pytest.raises(InputError, match="must be"):
        call()


def test_training_times_are_logit_normal_then_shifted():
    plain, shifted = (training_sigmas(20_000, shift, torch.Generator().manual_seed(1)) for shift in (1.0, 7.0))
    logits = plain.double().logit()
    assert logits.mean().item() == pytest.approx(0, abs=0.03)
    assert logits.std().item() == pytest.approx(1, abs=0.03)
    assert (shifted.double().logit() - logits).mean().item() == pytest.approx(math.log(7), abs=1e-3)  # a shift moves the logit by its log


def turning(x, sigma):
    """A linear field that depends on sigma too; its exact solution from 1 to 0 is known: x0 exp(-(1 + 1/2))."""
    return x * (1 + sigma)


def error(sampler, steps):
    x = sampler(turning, torch.ones(1, dtype=torch.float64), schedule(steps, 3.0).double())
    return abs(x.item() - math.exp(-1.5))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_converges_at_the_order_it_states(name):
    sampler = SAMPLERS[name]
    coarse, fine = error(sampler, 64), error(sampler, 128)
    assert math.log2(coarse / fine) == pytest.approx(sampler.order, abs=0.15)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_asks_the_model_as_often_as_it_states_and_never_at_sigma_zero(name):
    asked = []

    def velocity(x, sigma):
        asked.append(sigma)
        return x

    SAMPLERS[name](velocity, torch.ones(1), schedule(10, 7.0))
    assert len(asked) in (10 * SAMPLERS[name].calls, 10 * SAMPLERS[name].calls - 1)  # a solver may spare itself the look at sigma 0
    assert min(asked) > 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_straight_path_is_followed_exactly_and_its_end_foreseen_from_the_first_step(name):
    data, noise, seen = torch.randn(2, 3), torch.randn(2, 3), []
    out = SAMPLERS[name](lambda x, sigma: noise - data, noise, schedule(5, 7.0), lambda done, clean: seen.append((done, clean)))
    torch.testing.assert_close(out, data)
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5]
    for _, clean in seen:
        torch.testing.assert_close(clean, data)


@pytest.mark.parametrize("name", SAMPLERS)
def test_solvers_keep_float32_though_the_model_answers_in_bfloat16(name):
    out = SAMPLERS[name](lambda x, sigma: x.bfloat16(), torch.ones(3, dtype=torch.float16), schedule(4, 7.0))
    assert out.dtype == torch.float32


def test_guidance_leads_from_the_unconditional_through_the_conditional():
    unconditional, conditional = (lambda x, sigma: 0 * x + 1), (lambda x, sigma: 0 * x + 3)
    x = torch.zeros(2)
    assert classifier_free(unconditional, conditional, 6.0)(x, 0.5).tolist() == [13, 13]
    assert classifier_free(unconditional, conditional, 0.0)(x, 0.5).tolist() == [1, 1]


def test_guidance_1_asks_the_model_once():
    def conditional(x, sigma):
        return x

    assert classifier_free(lambda x, sigma: pytest.fail("asked without need"), conditional, 1.0) is conditional


def test_two_scales_go_so_far_to_the_text_and_so_far_on_to_the_picture():
    def always(value):
        return lambda x, sigma: 0 * x + value

    x = torch.zeros(2)
    assert by_two_scales(always(1), always(3), always(4), 5.0, 8.0)(x, 0.5).tolist() == [19, 19]  # 1 + 5 * 2 + 8 * 1
    unasked = by_two_scales(always(1), lambda x, sigma: pytest.fail("asked without need"), always(4), 5.0, 5.0)
    assert unasked(x, 0.5).tolist() == classifier_free(always(1), always(4), 5.0)(x, 0.5).tolist()


def test_embedded_guidance_6_becomes_6016():
    assert embedded_guidance(6.0, torch.float32).item() == 6016
    assert embedded_guidance(1.0, torch.float32).item() == 1000
