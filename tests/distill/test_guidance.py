"""Guidance distillation: the student begins as its teacher, is shown the guided velocity, and learns it."""

from dataclasses import replace

import pytest
import torch

from kinema.distill.guidance import GuidanceTask, Guided, Scene, Texts, guidance_loss, scene_of, student_of
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.flow.guidance import classifier_free
from kinema.presets import tiny
from kinema.train.objective import Draws

BATCH, WIDTH = 3, tiny().dit.text_width


def teacher() -> DiT:
    torch.manual_seed(0)
    dit = DiT(tiny().dit)
    dit.init_weights()
    for parameter in dit.parameters():  # zeros too: a fresh model's velocity is zero whatever it is told
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return dit.requires_grad_(False)


def texts() -> Texts:
    draw = torch.Generator().manual_seed(1)
    states, pooled = torch.randn(BATCH, 5, WIDTH, generator=draw), torch.randn(BATCH, WIDTH, generator=draw)
    return Texts(states, None, pooled, torch.randn(1, 2, WIDTH, generator=draw), torch.randn(1, WIDTH, generator=draw))


def draws(given: bool = False) -> Draws:
    draw = torch.Generator().manual_seed(2)
    which = torch.zeros(BATCH, 3, dtype=torch.bool)
    which[:, 0] = given
    return Draws(
        torch.tensor([0.2, 0.5, 0.9]), torch.zeros(BATCH, dtype=torch.bool), which, torch.randn(BATCH, 16, 3, 4, 4, generator=draw)
    )


def latents() -> torch.Tensor:
    return torch.randn(BATCH, 16, 3, 4, 4, generator=torch.Generator().manual_seed(3))


def scene_at(scale: torch.Tensor, reference: torch.Tensor | None = None) -> Scene:
    return scene_of(texts(), scale, draws(), reference)


def told(scale: float) -> torch.Tensor:
    return torch.full((BATCH,), scale)


def test_a_student_begins_as_its_teacher_to_the_bit_whatever_it_is_told():
    undistilled = teacher()
    student, shown = student_of(undistilled), texts()
    asked = (latents(), torch.tensor([100.0, 500.0, 900.0]), shown.states, None, shown.pooled)
    for scale in (1000.0, 6016.0):
        assert torch.equal(student(*asked, guidance=torch.full((BATCH,), scale)), undistilled(*asked))
    assert student.config.guidance
    again = student_of(student)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again.state_dict().values(), student.state_dict().values(), strict=True))


def test_the_teachers_velocity_is_that_of_classifier_free_guidance():
    dit, shown, x, sigma = teacher(), texts(), latents(), 0.5
    guided = Guided(dit, embedded=False)(x, told(sigma), scene_at(told(4.0)))

    def bound(states, pooled):
        def velocity(x, sigma):
            with torch.autocast("cpu", torch.bfloat16):
                time = told(1000 * sigma)
                return dit(x, time, states.expand(BATCH, -1, -1), None, pooled.expand(BATCH, -1), given=draws().given).float()

        return velocity

    by_pipeline = classifier_free(bound(shown.null_states, shown.null_pooled), bound(shown.states, shown.pooled), 4.0)(x, sigma)
    torch.testing.assert_close(guided, by_pipeline)


def test_at_the_start_all_of_the_guidance_is_left_and_at_scale_one_there_is_none():
    undistilled = teacher()
    sides = Guided(student_of(undistilled), embedded=True), Guided(undistilled, embedded=False)
    each, figures = guidance_loss(*sides, latents(), draws(), scene_at(told(4.0)))
    assert (each > 0).all()
    assert figures["left"] == pytest.approx(1, abs=1e-3)
    none, _ = guidance_loss(*sides, latents(), draws(), scene_at(told(1.0)))
    assert none.max() < 1e-4  # rounding: with and without gradients, bfloat16 attention is computed in another order


def test_frames_that_are_given_do_not_count():
    undistilled = teacher()
    sides = Guided(student_of(undistilled), embedded=True), Guided(undistilled, embedded=False)
    other = draws(given=True)
    other.noise[:, :, 0] += 7.0  # of a frame that stays clean, noise is not seen
    scene = scene_of(texts(), told(4.0), other, None)
    same, _ = guidance_loss(*sides, latents(), draws(given=True), scene)
    each, _ = guidance_loss(*sides, latents(), other, scene)
    assert torch.equal(same, each)


def test_the_empty_half_sees_neither_text_nor_reference_and_some_samples_see_no_reference():
    seen = torch.randn(BATCH, 16, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    some = replace(draws(), unseen=torch.tensor([False, True, False]))
    scene = scene_of(texts(), told(4.0), some, seen)
    assert torch.equal(scene.reference[1], torch.zeros_like(seen[1]))
    assert torch.equal(scene.reference[::2], seen[::2])
    dit, x, sigma = Guided(teacher(), embedded=False), latents(), told(0.5)
    first, base = dit.halves(x, sigma, scene)
    other, same = dit.halves(x, sigma, replace(scene, reference=2 * scene.reference))
    assert torch.equal(base, same)
    moved = (first != other).flatten(1).any(1)
    assert moved.tolist() == [True, False, True]


def test_a_student_learns_the_scale():
    undistilled = teacher()
    student = student_of(undistilled)
    sides = Guided(student, embedded=True), Guided(undistilled, embedded=False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
    task, generator, found = GuidanceTask(), torch.Generator().manual_seed(4), []
    for _ in range(60):
        each, figures = guidance_loss(*sides, latents(), draws(), scene_at(task.draw(BATCH, generator)))
        each.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(figures["left"]))
    assert found[0] == pytest.approx(1, abs=1e-3)
    assert sum(found[-10:]) / 10 < 0.35


def test_scales_are_drawn_from_their_range():
    scales = GuidanceTask(low=2.0, high=4.0).draw(1000, torch.Generator().manual_seed(0))
    assert 2 <= scales.min() < 2.1
    assert 3.9 < scales.max() <= 4
    with pytest.raises(InputError, match=r"low=0\.5"):
        GuidanceTask(low=0.5)
