"""A first pass that is smaller, and a second that begins from it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kinema
from kinema.conditioning.frames import Given, encode_places
from kinema.errors import InputError
from kinema.flow.sigmas import refining
from kinema.media.image import write_image
from kinema.pipelines.base import ModelConfig, check_given
from kinema.pipelines.video import VideoPipeline
from kinema.presets import i2v_13b
from kinema.serve.fitting import work_of

HALF = {"draft": 0.5, "seed": 1, "steps": 4}


@pytest.fixture
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return kinema.load(weights=tiny_folder, dtype="fp32")


def test_with_hardly_any_noise_the_second_pass_gives_the_draft_back(pipeline: VideoPipeline):
    request = pipeline.config.request("A cat.", **HALF, strength=1e-4)
    frames = pipeline.draft(request, lambda *_: None, lambda *_: None)
    drafted = encode_places(frames, request.shape, pipeline.vae).latents[0]
    assert torch.allclose(pipeline.sample(request), drafted, atol=1e-2)


def test_more_strength_goes_further_from_the_draft(pipeline: VideoPipeline):
    requests = [pipeline.config.request("A cat.", **HALF, strength=strength) for strength in (0.1, 0.4, 0.9)]
    frames = pipeline.draft(requests[0], lambda *_: None, lambda *_: None)
    drafted = encode_places(frames, requests[0].shape, pipeline.vae).latents[0]
    away = [float((pipeline.sample(request) - drafted).square().mean()) for request in requests]
    assert away == sorted(away)
    assert away[0] > 0


def test_progress_runs_once_through_both_passes(pipeline: VideoPipeline):
    request, told = pipeline.config.request("A cat.", **HALF), []
    pipeline.sample(request, lambda stage, done, total: told.append((stage, done, total)))
    denoised = [(done, total) for stage, done, total in told if stage == "denoise"]
    assert sorted(set(denoised)) == [(done, 6) for done in range(7)]
    assert denoised == sorted(denoised)


def test_what_is_given_stays_in_both(pipeline: VideoPipeline, tmp_path: Path):
    path = tmp_path / "first.png"
    write_image(path, torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8))
    request = pipeline.config.request("A cat.", **HALF, given=(Given.picture(path),))
    known = pipeline.known(pipeline.places(request), request.shape)
    assert known is not None
    assert torch.equal(pipeline.sample(request)[:, :1], known.latents[0, :, :1])


def test_a_video_of_several_pieces_has_a_draft_of_as_many(pipeline: VideoPipeline):
    pipeline.config = replace(pipeline.config, defaults=replace(pipeline.config.defaults, window=9))
    told: list[tuple[int, int]] = []
    request = pipeline.config.request("A cat.", **HALF, frames=17)
    latents = pipeline.sample(request, lambda stage, done, total: told.append((done, total)) if stage == "denoise" else None)
    assert latents.shape[1] == 5
    assert max(told)[0] == max(told)[1] == told[0][1]


def test_the_recipe_names_it_only_where_it_is_used(pipeline: VideoPipeline):
    with_draft, plain = (pipeline.recipe(pipeline.config.request("A cat.", seed=1, draft=draft))["request"] for draft in (0.5, 0.0))
    assert (with_draft["draft"], with_draft["strength"]) == (0.5, 0.5)
    assert not {"draft", "strength"} & plain.keys()


def test_both_passes_count_as_work(tiny_config: ModelConfig):
    plain, half = (tiny_config.request("A cat.", seed=1, steps=10, frames=129, height=256, width=256, draft=draft) for draft in (0.0, 0.5))
    assert [(shape.height, shape.width, steps) for shape, steps in half.passes] == [(128, 128, 10), (256, 256, 5)]
    assert work_of(tiny_config, plain).denoise / 2 < work_of(tiny_config, half).denoise < work_of(tiny_config, plain).denoise


def test_a_second_pass_falls_evenly_to_nothing():
    sigmas = refining(20, 0.5)
    assert len(sigmas) == 11
    assert sigmas[0] == 0.5
    assert sigmas[-1] == 0
    assert torch.allclose(sigmas.diff(), torch.full((10,), -0.05))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"draft": 1.5}, "smaller"), ({"draft": 0.95}, "smaller"), ({"strength": 0.0}, "strength"), ({"strength": 1.0}, "strength")],
)
def test_wrong_values_are_refused(tiny_config: ModelConfig, wrong: dict, says: str):
    with pytest.raises(InputError, match=says):
        tiny_config.request("A cat.", seed=1, **{"draft": 0.5} | wrong)


def test_a_model_that_needs_its_picture_has_no_draft():
    config = i2v_13b()
    given = (Given(path="cat.png", sha256="", height=720, width=1280),)
    request = config.request("A cat.", seed=1, given=given, draft=0.5)
    with pytest.raises(InputError, match="draft"):
        check_given(config, request)
