"""Teaching a face to speak, tiny: clips are made once, silent ones beside the others, and a run ends in adapters that fit."""

from importlib.util import find_spec

import pytest
import torch

from kinema.conditioning.avatar import load_avatar
from kinema.conditioning.whisper import WhisperEncoder
from kinema.train import avatar_clips
from kinema.train.avatar import AvatarRecipe, train_avatar
from kinema.train.loop import LoopConfig


@pytest.fixture
def small_ears(monkeypatch):
    torch.manual_seed(0)
    encoder = WhisperEncoder().eval().requires_grad_(False)
    monkeypatch.setattr(avatar_clips, "load_whisper", lambda: encoder)
    monkeypatch.setattr(avatar_clips, "SHARD", 2)
    avatar_clips.silence.cache_clear()


@pytest.mark.skipif(find_spec("hibari") is None, reason="needs the voice: pip install 'kinema[avatar]'")
def test_an_avatar_learns_from_clips_that_speak_and_from_silent_ones(tiny_folder, tmp_path, small_ears):
    recipe = AvatarRecipe(
        model=tiny_folder, clips=tmp_path / "clips", count=2, silent=2, batch=2, warm_steps=1, draft_steps=2, draft_batch=2,
        loop=LoopConfig(out=tmp_path / "run", steps=2, lr=1e-3, warmup=1, log_every=1, peak_tflops=1.0), device="cpu",
    )  # fmt: skip
    run = train_avatar(recipe)
    assert run.step == 2
    assert run.skipped == 0
    assert load_avatar(tmp_path / "run/avatar.safetensors")
    spoken = avatar_clips.read_clips(tmp_path / "clips", 2)
    silent = avatar_clips.read_clips(tmp_path / "clips/silent", 2)
    both = avatar_clips.joined([spoken, silent])
    assert both.latents.shape[0] == 4
    assert torch.equal(silent.heard[0], silent.heard[1])
    assert not silent.shape[..., 0].any()
    assert spoken.shape[..., 0].any()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").rglob("*.safetensors")}
    assert len(made) == 2
    train_avatar(recipe)
    assert made == {path: path.stat().st_mtime_ns for path in made}
