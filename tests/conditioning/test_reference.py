"""A picture of the subject: where it comes from, where it stands, and what it changes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kinema
from kinema.conditioning.frames import Given
from kinema.conditioning.reference import MEMORY, encode_reference, nothing_known, picture_of
from kinema.dit.model import DiT
from kinema.errors import InputError, WeightsError
from kinema.media.frames import shown_whole
from kinema.media.image import write_image
from kinema.pipelines.base import ModelConfig, check_given
from kinema.pipelines.video import VideoPipeline
from kinema.world.memory import TILE, Memory, Recalled, recall
from kinema.world.sprites import labelled_subjects


@pytest.fixture
def pipeline(tiny_folder: Path) -> VideoPipeline:
    found = kinema.load(weights=tiny_folder, dtype="fp32")
    found.config = replace(found.config, conditions=("frames", "reference"))
    return found


@pytest.fixture
def picture(tmp_path: Path) -> Given:
    path = tmp_path / "subject.png"
    write_image(path, torch.randint(0, 255, (80, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)))
    return Given.picture(path)


@pytest.mark.parametrize(
    ("prompt", "noun"),
    [("A cat walks on the grass, cinematic style.", "cat"), ("a red fox runs through the snow", "red fox"), ("Waves in the evening", None)],
)
def test_a_prompt_recalls_the_first_subject_that_it_names(prompt, noun):
    found = recall(prompt)
    assert (found and found.noun) == noun


def test_what_goes_to_the_other_side_is_turned_round():
    horse = next(subject for subject in labelled_subjects() if subject.noun == "horse")
    assert horse.facing == "left"
    to = {side: recall(f"A horse runs from {start} to {side}.") for start, side in (("left", "right"), ("right", "left"))}
    assert to["right"] == Recalled(horse.id, "horse", mirrored=True)
    assert to["left"] == Recalled(horse.id, "horse", mirrored=False)
    memory = Memory(MEMORY)
    assert torch.equal(memory.picture(to["right"]), memory.picture(to["left"]).flip(1))


def test_every_labelled_subject_has_a_portrait():
    memory = Memory(MEMORY)
    pictures = [memory.picture(Recalled(subject.id, subject.noun, mirrored=False)) for subject in labelled_subjects()]
    assert {tuple(each.shape) for each in pictures} == {(TILE, TILE, 3)}
    assert all(each.float().std() > 3 for each in pictures)


def test_a_folder_without_portraits_says_how_to_make_them(tmp_path):
    with pytest.raises(WeightsError, match="kinema world portraits"):
        Memory(tmp_path)


def test_a_picture_of_any_shape_is_shown_whole():
    picture = torch.full((40, 80, 3), 200, dtype=torch.uint8)
    picture[10:30, 20:60] = torch.tensor([10, 90, 30], dtype=torch.uint8)
    shown = shown_whole(picture, 64, 64)
    assert tuple(shown.shape) == (64, 64, 3)
    assert (shown[:16] == 200).all()  # around it is the colour of its rim
    assert (shown[30:34, 20:44] == torch.tensor([10, 90, 30])).all()


def test_what_is_given_goes_before_what_is_remembered(picture: Given):
    cat = recall("A cat.")
    assert tuple(picture_of(picture, cat).shape) == (80, 160, 3)
    assert tuple(picture_of(None, cat).shape) == (TILE, TILE, 3)
    assert picture_of(None, None) is None


def test_nothing_known_is_zeros(pipeline: VideoPipeline):
    shape = pipeline.config.request("A cat.", seed=0).shape
    picture = picture_of(None, recall("A cat."))
    assert picture is not None
    known, unknown = encode_reference(picture, shape, pipeline.vae), nothing_known(shape, pipeline.config.vae.latent_channels)
    assert known.any()
    assert not unknown.any()
    assert known.shape == unknown.shape


def test_it_changes_the_video_and_no_more_than_that(pipeline: VideoPipeline, picture: Given):
    def made(**chosen) -> torch.Tensor:
        return pipeline.sample(pipeline.config.request("A cat.", seed=1, steps=2, guidance=2.0, **chosen))

    recalled, given, unaided = made(), made(reference=picture), made(recalls=False)
    assert recalled.shape == given.shape == unaided.shape
    assert torch.equal(recalled, made())
    assert not any(torch.equal(one, other) for one, other in ((recalled, given), (recalled, unaided), (given, unaided)))


def test_a_scale_of_its_own_costs_a_third_call_only_where_a_subject_is_known(pipeline: VideoPipeline, monkeypatch):
    def made(**chosen) -> tuple[torch.Tensor, int]:
        count, forward = [], DiT.forward

        def counted(*args, **kwargs):
            count.append(1)
            return forward(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(DiT, "forward", counted)
            request = pipeline.config.request("A cat.", seed=1, steps=2, **chosen)
            return pipeline.sample(request), len(count)

    usual, calls = made(guidance=2.0)
    assert calls == 4
    same, calls = made(guidance=2.0, reference_guidance=2.0)
    assert calls == 4
    assert torch.equal(usual, same)
    more, calls = made(guidance=2.0, reference_guidance=6.0)
    assert calls == 6
    assert not torch.equal(usual, more)
    unaided, calls = made(guidance=2.0, recalls=False)
    alone, fewer = made(guidance=2.0, reference_guidance=6.0, recalls=False)
    assert calls == fewer == 4
    assert torch.equal(unaided, alone)
    request = pipeline.config.request("A cat.", seed=1, guidance=2.0, reference_guidance=6.0)
    assert request.calls == 3
    assert pipeline.recipe(request)["request"]["reference_guidance"] == 6.0
    with pytest.raises(InputError, match="reference_guidance"):
        pipeline.config.request("A cat.", seed=1, guidance=1.0, reference_guidance=6.0)


def test_a_models_own_scale_falls_away_with_guidance(pipeline: VideoPipeline):
    config = replace(pipeline.config, defaults=replace(pipeline.config.defaults, guidance=5.0, reference_guidance=8.0))
    assert config.request("A cat.", seed=0).calls == 3
    assert config.request("A cat.", seed=0, guidance=1.0).calls == 1


def test_the_recipe_tells_what_was_given_and_not_where_it_lay(pipeline: VideoPipeline, picture: Given):
    plain, shown = (pipeline.recipe(pipeline.config.request("A cat.", seed=1, **each))["request"] for each in ({}, {"reference": picture}))
    assert not {"reference", "recalls"} & plain.keys()
    assert shown["reference"]["file"] == "subject.png"
    assert shown["reference"]["sha256"] == picture.sha256


def test_a_model_that_takes_none_refuses_one(tiny_config: ModelConfig, picture: Given):
    config = replace(tiny_config, conditions=("frames",))
    with pytest.raises(InputError, match="picture of its subject"):
        check_given(config, config.request("A cat.", seed=0, reference=picture))


def test_a_picture_that_has_changed_is_refused(picture: Given):
    Path(picture.path).write_bytes(b"something else")
    with pytest.raises(InputError, match="has changed"):
        picture_of(picture, None)
