"""Training the VAE: latents are normalised without changing a reconstruction, and a short run learns."""

import json

import torch

from kinema.data.pool import Pool
from kinema.data.shards import write_shard
from kinema.train.loop import LoopConfig, fit
from kinema.train.vae import VaeTask, VaeTraining, latent_statistics, load_trained_vae, normalise_latents, save_vae, windows
from kinema.vae.model import CausalVAE, VAEConfig

TINY = VAEConfig(
    channels=(12, 24, 32),
    encoder_layers=(1, 1, 1),
    decoder_layers=(1, 1, 1),
    patch=2,
    norm="frame",
    mid_attention="none",
    shortcuts=True,
    scaling_factor=1.0,
)


def drifting_blobs(folder, clips=4):
    """Shards of soft colour waves that drift: something a VAE can learn."""
    y, x = torch.meshgrid(torch.linspace(0, 6, 32), torch.linspace(0, 6, 32), indexing="ij")
    waves = [[torch.sin(x * (1 + c) + y * (k % 3) + 0.3 * t) for c in range(3)] for k in range(clips) for t in range(9)]
    frames = torch.stack([torch.stack(channels) for channels in waves]).unflatten(0, (clips, 9))
    write_shard(folder / "a.safetensors", {"frames": ((frames + 1) * 127.5).to(torch.uint8)}, [{"seed": i} for i in range(clips)])


def training(folder, **task):
    torch.manual_seed(0)
    trained = VaeTraining(CausalVAE(TINY), VaeTask(clips=folder, batch=2, frames=5, crop=16, capacity=4, **task), "cpu")
    trained.wait_for_data()
    return trained


def test_normalised_latents_have_unit_variance_and_the_same_reconstruction(tmp_path):
    drifting_blobs(tmp_path)
    task = training(tmp_path, start_samples=4)
    with torch.no_grad():
        for weight in task.model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    pixels = windows(Pool.of(tmp_path, "cpu", "frames"), 9, 32, torch.Generator().manual_seed(1))
    before = task.model.decode(task.model.encode(pixels).mean)
    mean, std = latent_statistics(task.model, task.pool, task.task, batches=64)
    normalise_latents(task.model, mean, std)
    torch.testing.assert_close(task.model.decode(task.model.encode(pixels).mean), before, atol=1e-4, rtol=0)
    mean, std = latent_statistics(task.model, task.pool, task.task, batches=64)
    torch.testing.assert_close(mean, torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(std, torch.ones(16), atol=1e-3, rtol=0)


def test_a_short_run_learns_and_exports_what_it_scored(tmp_path):
    drifting_blobs(tmp_path / "clips")
    task = training(tmp_path / "clips", start_samples=4, heldout=tmp_path / "clips")
    fit(task, LoopConfig(out=tmp_path / "run", steps=40, lr=2e-3, warmup=5, ema=0.9, log_every=10))
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert rows[-1]["l1"] < 0.9 * rows[0]["l1"]
    assert json.loads((tmp_path / "run/scores.json").read_text())["heldout_psnr"] > 10
    assert (tmp_path / "run/vae.safetensors").exists()


def test_a_finished_run_is_loaded_by_those_who_encode(tmp_path):
    save_vae(CausalVAE(TINY), tmp_path / "vae.safetensors")
    assert load_trained_vae(tmp_path, "cpu", torch.float32).config == TINY
