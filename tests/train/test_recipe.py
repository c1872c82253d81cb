"""What surrounds a run: the plan, the checks before it, samples on the way, and the model at its end."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stores import RECIPE, encoded

import kinema
from kinema.config import override, parse_config
from kinema.data.encode import hash_of
from kinema.errors import InputError
from kinema.parallel.mesh import MeshConfig
from kinema.train.check import check
from kinema.train.checkpoint import averaged_weights
from kinema.train.loop import LoopConfig
from kinema.train.plan import plan, table_of
from kinema.train.recipe import VaeRecipe, VideoRecipe, train_vae, train_video
from kinema.train.samples import SampleConfig
from kinema.train.vae import VaeTask
from kinema.vae.model import mini_vae
from kinema.weights import load_vae


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    encoded(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return parse_config(VideoRecipe, RECIPE)


def test_a_plan_counts_every_step_once(recipe):
    found = plan(recipe)
    assert found.total("steps") == pytest.approx(30)
    assert {row.stage for row in found.rows} == {"pictures", "videos"}
    for row in found.rows:
        assert row.tokens == pytest.approx(row.steps * row.planned.batch * row.planned.bucket.tokens)
        assert row.flops > 0
        assert row.seconds > 0
    twice = plan(override(recipe, ["loop.steps=60"]))
    assert twice.total("flops") == pytest.approx(2 * found.total("flops"))
    assert table_of(found).row_count == len(found.rows) + 1


def test_a_plan_needs_no_data(recipe):
    nominal = plan(override(recipe, ['task.folders=["nowhere"]']))
    assert nominal.total("steps") == pytest.approx(30)
    images = [row.steps for row in nominal.rows if row.stage == "videos" and row.planned.bucket.frames == 1]
    assert sum(images) == pytest.approx(20 * 0.25)


def test_the_checks_of_a_sound_recipe_pass_and_leave_no_run(recipe):
    assert [finding.text for finding in check(recipe) if not finding.ok] == []
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("change", "name", "text"),
    [
        ({"mesh": MeshConfig(data=2)}, "mesh", "torchrun"),
        ({"mesh": MeshConfig(tensor=3)}, "mesh", "does not divide"),
        ({"model.text_width": 64}, "data", "model.text_width"),
        ({"task.folders": (Path("nowhere"),)}, "data", "nowhere"),
    ],
)
def test_a_check_names_what_is_wrong(recipe, change, name, text):
    for key, value in change.items():
        part, _, own = key.partition(".")
        recipe = replace(recipe, **{part: replace(getattr(recipe, part), **{own: value}) if own else value})
    failed = {finding.name: finding.text for finding in check(recipe) if not finding.ok}
    assert text in failed[name]


def test_samples_of_another_vae_are_refused(recipe, tiny_folder):
    sampled = replace(recipe, sample=SampleConfig(vae=tiny_folder))
    assert "is VAE" in {finding.name: finding.text for finding in check(sampled)}["decoder"]


def test_samples_are_made_on_the_way_and_a_whole_model_is_left(recipe, tiny_folder, tiny_config):
    sample = SampleConfig(vae=tiny_folder, prompts=("a cat",), frames=5, height=32, width=32, steps=1, guidance=1.0)
    chosen = override(replace(recipe, sample=sample), ["loop.steps=6", "loop.sample_every=4"])
    run = train_video(chosen)
    assert Path("run/samples/step0000004_0.mp4").exists()
    averaged = run.averaged()
    for name, tensor in load_file("run/dit.safetensors").items():
        assert torch.equal(tensor, averaged[name].bfloat16())
    for name, tensor in averaged_weights(Path("run")).items():
        assert torch.equal(tensor, averaged[name])
    pipeline = kinema.load(weights="run", device="cpu", dtype="fp32")
    assert pipeline.config.dit == recipe.model
    assert hash_of(pipeline.vae) == hash_of(load_vae(tiny_folder / "vae.safetensors", tiny_config.vae))


def test_an_empty_folder_of_held_out_clips_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "empty").mkdir()
    task = VaeTask(clips=tmp_path / "clips", heldout=tmp_path / "empty")
    with pytest.raises(InputError, match="empty has no shards of clips"):
        train_vae(VaeRecipe(model=mini_vae(), task=task, loop=LoopConfig(out=tmp_path / "run", steps=1)))
    assert not (tmp_path / "run").exists()
