"""Training the DiT: which texts and frames a batch gets, and a short run that learns."""

import json

import torch

from kinema.data.shards import read_shard, write_shard
from kinema.dit.model import DiT
from kinema.presets import tiny
from kinema.train.loop import LoopConfig, fit
from kinema.train.video import TextLengths, VideoTask, VideoTraining, by_sigma, clean_frames

WIDTH = tiny().dit.text_width


def encoded(folder, samples=8, texts=2, length=6):
    """A folder as `kinema encode` writes it: latents that one number a sample describes, and texts that tell the number."""
    torch.manual_seed(0)
    level = torch.linspace(-1, 1, samples)
    lengths = torch.randint(2, length + 1, (samples, texts))
    text = level[:, None, None, None].expand(samples, texts, length, WIDTH) * (torch.arange(length) < lengths[..., None])[..., None]
    tensors = {
        "latents_1": level[:, None, None, None, None].expand(samples, 16, 3, 4, 4).bfloat16(),
        "text": text.bfloat16(),
        "text_lengths": lengths,
        "pooled": level[:, None, None].expand(samples, texts, WIDTH).bfloat16(),
    }
    write_shard(folder / "a.safetensors", tensors, [{"seed": i} for i in range(samples)])
    null = {
        "text": torch.zeros(1, length, WIDTH).bfloat16(),
        "text_lengths": torch.ones(1).long(),
        "pooled": torch.zeros(1, WIDTH).bfloat16(),
    }
    write_shard(folder / "null" / "null.safetensors", null, [{"texts": [""]}])


def training(folder, **task):
    torch.manual_seed(1)
    model = DiT(tiny().dit)
    model.init_weights()
    trained = VideoTraining(model, VideoTask(latents=folder, batch=8, start_samples=8, capacity=8, **task), "cpu")
    trained.wait_for_data()
    trained.refresh(0)
    return trained


def test_texts_of_a_batch_have_one_length_and_no_padding(tmp_path):
    encoded(tmp_path)
    task = training(tmp_path, text_dropout=0.0)
    for seed in range(20):
        _, text, mask, _ = task.draw(torch.Generator().manual_seed(seed))
        assert mask is None
        assert text.abs().sum(-1).gt(0).all()


def test_every_length_comes_up_as_often_as_it_has_texts():
    lengths = TextLengths.of(torch.tensor([[3, 3], [3, 5]]))
    drawn = [lengths.draw(4, torch.Generator().manual_seed(seed), same=True) for seed in range(200)]
    assert {length for *_, length in drawn} == {3, 5}
    assert all((rows == 1).all() and (texts == 1).all() for rows, texts, length in drawn if length == 5)
    assert 110 < sum(length == 3 for *_, length in drawn) < 190


def test_given_frames_follow_their_patterns_and_images_have_none():
    clean = clean_frames(4000, 5, 0.5, torch.Generator().manual_seed(0))
    assert 0.45 < clean.any(1).float().mean() < 0.55
    kinds = {tuple(row) for row in clean.long().tolist()}
    assert kinds == {(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 0, 0, 0, 1), (1, 0, 0, 0, 1), (1, 1, 0, 0, 0)}
    assert not clean_frames(100, 1, 1.0, torch.Generator().manual_seed(0)).any()


def test_losses_are_told_apart_by_noise():
    found = by_sigma(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.1, 0.2, 0.99]))
    assert found["loss_0"] == 2
    assert found["loss_3"] == 5
    assert found["loss_1"].isnan()


def test_a_short_run_learns_and_exports_weights_that_load(tmp_path):
    encoded(tmp_path / "latents")
    task = training(tmp_path / "latents", shift=1.0)
    fit(task, LoopConfig(out=tmp_path / "run", steps=150, lr=5e-3, muon_lr=5e-3, optimizer="muon", warmup=5, ema=0.9, log_every=10))
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]
    from safetensors.torch import load_file

    DiT(tiny().dit).load_state_dict(load_file(tmp_path / "run/dit.safetensors"))
    assert read_shard(tmp_path / "latents/null/null.safetensors")[1] == [{"texts": [""]}]
