"""The pipeline as a library: what a request asks for, and which texts the model reads for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kinema
from kinema.errors import InputError
from kinema.pipelines.base import ModelConfig, check_given
from kinema.pipelines.files import slug
from kinema.pipelines.placement import Placement
from kinema.pipelines.store import ModelFiles
from kinema.pipelines.video import VideoPipeline, draw_noise
from kinema.presets import MODELS, i2v_13b, t2v_13b, t2v_13b_distilled
from kinema.text.llm import PUBLISHED_IMAGE, PUBLISHED_VIDEO

NOWHERE = ModelFiles(Path("dit"), Path("vae"), Path("text"))
CPU = Placement(torch.device("cpu"), torch.float32)


def test_guidance_goes_where_the_model_takes_it():
    plain, distilled = t2v_13b().request("A cat.", seed=1), t2v_13b_distilled().request("A cat.", seed=1)
    assert (plain.guidance, plain.embedded_guidance) == (6.0, None)
    assert (distilled.guidance, distilled.embedded_guidance) == (1.0, 6.0)
    assert t2v_13b_distilled().request("A cat.", 3.0, seed=1).embedded_guidance == 3.0


def test_few_steps_get_a_larger_shift_unless_one_is_named(tiny_config: ModelConfig):
    few, many = (tiny_config.request("A cat.", seed=1, steps=steps).shift for steps in (10, 50))
    assert few > many
    assert tiny_config.request("A cat.", seed=1, steps=10, shift=3.0).shift == 3.0


def test_a_published_model_reads_a_picture_with_its_own_template():
    pipeline = VideoPipeline(t2v_13b_distilled(), NOWHERE, CPU)
    for frames, template in ((1, PUBLISHED_IMAGE), (129, PUBLISHED_VIDEO)):
        ((text, config, _),) = pipeline.prompts.texts_of(pipeline.config.request("A cat.", seed=1, frames=frames))
        assert (text, config.template) == ("A cat.", template)


def test_the_negative_prompt_is_read_only_where_guidance_uses_it():
    pipeline = VideoPipeline(t2v_13b(), NOWHERE, CPU)
    request = pipeline.config.request("A cat.", seed=1, negative="blurry")
    assert [each.text for each in pipeline.prompts.texts_of(request)] == ["A cat.", "blurry"]
    assert [each.text for each in pipeline.prompts.texts_of(replace(request, guidance=1.0))] == ["A cat."]


def test_a_model_that_needs_a_picture_makes_nothing_without_one():
    config = i2v_13b()
    with pytest.raises(InputError, match="picture"):
        check_given(config, config.request("A cat.", seed=1))


def test_noise_is_the_same_for_a_seed_and_differs_between_seeds(tiny_config: ModelConfig):
    first, second = tiny_config.request("A cat.", seed=1).variants(2)
    assert torch.equal(draw_noise(first, 16), draw_noise(replace(first, prompt="A dog."), 16))
    assert not torch.equal(draw_noise(first, 16), draw_noise(second, 16))


def test_what_is_made_first_does_not_touch_what_comes_after(tiny_folder: Path):
    pipeline = kinema.load(weights=tiny_folder)
    wanted = pipeline.config.request("A cat.", seed=1)
    alone = pipeline.generate(wanted)
    pipeline.generate(pipeline.config.request("A dog in the snow.", seed=2, guidance=3.0, frames=1))
    assert torch.equal(pipeline.generate(wanted).frames, alone.frames)


def test_every_preset_names_itself_and_makes_what_its_models_can():
    for name, make in MODELS.items():
        config = make()
        assert config.name == name
        assert config.request("A cat.", seed=0).shape.latent.tokens > 0


@given(st.text())
def test_a_slug_is_safe_whatever_the_prompt(prompt: str):
    assert slug(prompt)
    assert set(slug(prompt)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
