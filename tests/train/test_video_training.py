"""Training the DiT: what chance decides does not depend on ranks, stages follow one another, and a short run learns."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stores import RECIPE, encoded
from torch import nn

from kinema.config import override, parse_config, read_config, to_toml
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.presets import tiny
from kinema.train.objective import FlowConfig, by_sigma, clean_frames, draw, flow_loss
from kinema.train.recipe import VideoRecipe, make_training, train_video
from kinema.train.video import Batches


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    encoded(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return parse_config(VideoRecipe, RECIPE)


def test_ranks_draw_together_what_one_draws_alone(recipe):
    parts = [Batches(recipe.task, "cpu", 3, rank, 2) for rank in range(2)]
    alone = Batches(recipe.task, "cpu", 3)
    for _ in range(4):
        whole, draws = alone.next()
        pairs = [each.next() for each in parts]
        assert torch.equal(torch.cat([batch.latents for batch, _ in pairs]), whole.latents)
        for name in ("sigma", "dropped", "given", "noise"):
            assert torch.equal(torch.cat([getattr(drawn, name) for _, drawn in pairs]), getattr(draws, name))


def test_a_sample_gets_other_noise_whenever_it_comes_again(recipe):
    batches = Batches(recipe.task, "cpu", 0)
    seen = [batches.next()[1].noise[0, 0, 0, 0, 0].item() for _ in range(20)]
    assert len(set(seen)) == 20


def test_given_frames_follow_their_patterns_and_images_have_none():
    clean = clean_frames(4000, 5, 0.5, torch.Generator().manual_seed(0))
    assert 0.45 < clean.any(1).float().mean() < 0.55
    kinds = Counter(tuple(row) for row in clean.long().tolist() if any(row))
    ends, beginnings = {(0, 0, 0, 0, 1), (1, 0, 0, 0, 1)}, {(1, 0, 0, 0, 0), (1, 1, 0, 0, 0), (1, 1, 1, 0, 0), (1, 1, 1, 1, 0)}
    assert set(kinds) == ends | beginnings
    assert 0.45 < kinds[1, 0, 0, 0, 0] / kinds.total() < 0.62  # a picture that starts to move is what is asked for most
    assert not clean_frames(100, 1, 1.0, torch.Generator().manual_seed(0)).any()
    assert not clean_frames(100, 2, 1.0, torch.Generator().manual_seed(0)).all(1).any()  # something is left to learn


def test_times_are_shifted_by_the_root_of_the_tokens():
    config = FlowConfig(shift=4.0, shift_tokens=400)
    assert config.shift_at(400) == 4
    assert config.shift_at(100) == 2
    assert config.shift_at(4) == 1
    few, many = (
        draw(torch.Size([2000, 1, 1, 1, 1]), tokens, 2000, 0, 7, config, torch.device("cpu")).sigma.mean().item() for tokens in (4, 400)
    )
    assert few == pytest.approx(0.5, abs=0.02)
    assert many > 0.7


def test_losses_are_told_apart_by_noise():
    found = by_sigma(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.1, 0.2, 0.99]))
    assert found["loss_0"] == 2
    assert found["loss_3"] == 5
    assert found["loss_1"].isnan()


def test_a_short_run_learns_walks_its_stages_and_leaves_all_behind(recipe):
    run = train_video(override(recipe, ["loop.steps=150"]))
    rows = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]
    assert [row["stage"] for row in rows] == [0.0] * 10 + [1.0] * 20
    assert rows[-1]["tokens_per_second"] > 0
    assert rows[-1]["mfu"] > 0
    DiT(tiny().dit).load_state_dict(load_file("run/dit.safetensors"))
    left = read_config(VideoRecipe, Path("run/recipe.toml"))
    assert left == override(recipe, ["loop.steps=150"]).resolved()
    assert parse_config(VideoRecipe, to_toml(left)) == left
    assert json.loads(Path("run/run.json").read_text())["versions"]["torch"]
    assert run.ema.updates == 150


def test_no_step_is_lost_to_given_frames(recipe):
    rows = tuple(replace(row, given_share=1.0, frames=(5,), image_share=None) for row in recipe.task.rows[1:])
    run = train_video(override(replace(recipe, task=replace(recipe.task, stages=rows)), ["loop.steps=20"]))
    assert run.skipped == 0


def test_text_padded_to_one_length_trains_to_the_same_loss(recipe, monkeypatch):
    monkeypatch.setattr("kinema.parallel.compile_blocks", lambda dit: None)  # what is compiled is tested with the blocks
    losses = []
    for compiled in ("false", "true"):
        from kinema.train.recipe import prepared

        chosen = override(recipe, [f"task.compile={compiled}"]).resolved()
        with prepared(chosen.mesh, chosen) as world:
            task = make_training(chosen, world)
            for layer in task.model.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.2, generator=torch.Generator().manual_seed(layer.weight.numel()))
            task.refresh(0, 0.9)
            losses.append([task.loss(step, torch.Generator())[0].item() for step in range(4)])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # the model computes in bfloat16


def test_guidance_is_distilled_and_not_trained(recipe):
    with pytest.raises(InputError, match="distil it afterwards"):
        train_video(replace(recipe, model=replace(recipe.model, guidance=True)))


def test_rows_that_want_approved_clips_ask_for_their_folder(recipe):
    with pytest.raises(InputError, match=r"task\.reviewed"):
        override(recipe, ["task.stages=mini"])


def test_half_see_what_the_clip_shows_and_nobody_without_text_does(recipe):
    config = FlowConfig(text_dropout=0.2, reference_dropout=0.5)
    draws = draw(torch.Size((4000, 1, 1, 1, 1)), 4, 4000, 0, 3, config, torch.device("cpu"))
    assert (draws.unseen | ~draws.dropped).all()
    assert float(draws.unseen.float().mean()) == pytest.approx(0.6, abs=0.03)
    some = FlowConfig(text_dropout=0.0, reference_dropout=0.0, given_share=0.5)
    shown = draw(torch.Size((4000, 1, 3, 1, 1)), 12, 4000, 0, 3, some, torch.device("cpu"))
    assert not shown.unseen[~shown.given.any(1)].any()
    assert float(shown.unseen[shown.given.any(1)].float().mean()) == pytest.approx(0.5, abs=0.03)  # given frames show it themselves
    seen = []

    def forward(noisy, *_, reference, **__):
        seen.append(reference)
        return noisy

    pictures = torch.ones(4000, 1, 1, 1, 1)
    text = torch.zeros(4000, 1, 2)
    flow_loss(forward, torch.zeros(4000, 1, 1, 1, 1), text, None, text[:, 0], draws, pictures)
    assert torch.equal(seen[0].flatten().bool(), ~draws.unseen)
