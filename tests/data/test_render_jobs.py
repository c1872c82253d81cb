"""Rendering jobs: which clips, of whom, and how they are captioned."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from einops import rearrange

from kinema.data.clips import View, rendered_clips
from kinema.data.focus import focus_of
from kinema.data.render import OFTEN, RenderJob, cast_of, reference_of, render_shard, spec_of, texts_of
from kinema.errors import InputError, WeightsError
from kinema.media.frames import from_uint8
from kinema.world.sprites import SpritePack


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    try:
        return SpritePack.open()
    except (InputError, WeightsError) as error:
        pytest.skip(f"no sprite pack: {error}")


def test_in_a_picture_nothing_moves_and_one_of_its_texts_is_a_bare_name(pack: SpritePack):
    job = RenderJob(out=Path("unused"), frames=1, height=64, width=64, shots=("close-up",))
    cast = cast_of(job, pack)
    specs = [spec_of(job, seed, cast) for seed in range(20)]
    assert {(spec.path, spec.camera, spec.shot) for spec in specs} == {("stays", "static", "close-up")}
    bare, prompt = texts_of(specs[0], pack)
    assert bare.startswith(("a ", "an "))
    assert len(bare) < len(prompt)


def test_a_clip_moves_as_the_world_draws_it(pack: SpritePack):
    job = RenderJob(out=Path("unused"))
    specs = [spec_of(job, seed, cast_of(job, pack)) for seed in range(40)]
    assert len({spec.path for spec in specs}) > 5
    assert len({spec.shot for spec in specs}) == 3


def test_who_is_wanted_often_is_drawn_often(pack: SpritePack):
    job = RenderJob(out=Path("unused"), subjects=("cat", "rocket"), often=("cat",))
    counts = Counter(subject.noun for subject in cast_of(job, pack))
    assert counts["cat"] == OFTEN * counts["rocket"] > 0


def test_what_the_world_does_not_have_is_refused(pack: SpritePack):
    with pytest.raises(InputError, match="close-down"):
        RenderJob(out=Path("unused"), shots=("close-down",))
    with pytest.raises(InputError, match="zeppelin"):
        cast_of(RenderJob(out=Path("unused"), often=("zeppelin",)), pack)


def test_a_clip_brings_a_portrait_of_its_first_subject_facing_as_it_does(pack: SpritePack, tmp_path):
    job = RenderJob(out=tmp_path, frames=1, height=32, width=48)
    specs = [spec_of(job, seed, cast_of(job, pack)) for seed in range(3)]
    render_shard(tmp_path / "clips-0.safetensors", specs, pack, "train")
    for clip, spec in zip(rendered_clips(tmp_path / "clips-0.safetensors"), specs, strict=True):
        assert torch.equal(clip.reference((32, 48)), from_uint8(rearrange(reference_of(spec, pack), "c h w -> 1 h w c")))
    horse = replace(specs[0], subjects=(next(subject.id for subject in pack.subjects if subject.noun == "horse"),))
    left, right = (reference_of(replace(horse, path=f"moves {side}"), pack) for side in ("left", "right"))
    assert torch.equal(left, right.flip(-1))


def test_a_rendered_clip_knows_where_its_subjects_are(pack: SpritePack, tmp_path):
    job = RenderJob(out=tmp_path, frames=5, height=64, width=64)
    specs = [replace(spec_of(job, seed, cast_of(job, pack)), shot="close-up", place="plain blue", weather="clear") for seed in range(2)]
    render_shard(tmp_path / "clips-0.safetensors", specs, pack, "train")
    for clip in rendered_clips(tmp_path / "clips-0.safetensors"):
        focus = focus_of(clip, clip.probe(), View(0, 5, 1, (64, 64)))
        assert focus.shape == (2, 8, 8)
        assert 0.05 < focus.mean() < 1
