"""The autoencoder by itself: what it promises for any weights."""

import subprocess
import sys

import pytest
import torch

from kinema.errors import InputError
from kinema.vae.conv import PIECE, CausalConv3d
from kinema.vae.model import CausalVAE, Posterior, VAEConfig, mini_vae
from kinema.vae.norm import ClipNorm, FrameNorm
from kinema.vae.sampling import NearestUp, fit_channels, pack, unpack

TINY_PUBLISHED = VAEConfig(channels=(8, 8, 16, 16), encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), groups=4)
TINY_STREAMING = VAEConfig(
    channels=(12, 16, 16),
    encoder_layers=(1, 1, 1),
    decoder_layers=(1, 1, 1),
    patch=2,
    norm="frame",
    mid_attention="frame",
    shortcuts=True,
    border="zeros",
)
TINY_PLAIN = VAEConfig(
    channels=(8, 8, 16, 16), encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), norm="frame", mid_attention="none"
)
EVERY_KIND = pytest.mark.parametrize("config", [TINY_PUBLISHED, TINY_STREAMING, TINY_PLAIN], ids=["published", "ours", "plain"])


def random_vae(config: VAEConfig, seed: int = 0) -> CausalVAE:
    """Random weights everywhere, also where training starts at zero."""
    torch.manual_seed(seed)
    vae = CausalVAE(config).double().eval()
    for parameter in vae.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return vae


def clip(frames: int, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("border", ["replicate", "zeros"])
def test_a_later_frame_never_changes_an_earlier_output(border):
    conv = CausalConv3d(3, 4, border=border)
    frames = torch.randn(1, 3, 9, 8, 8)
    changed = frames.clone()
    changed[:, :, 5:] += 1
    assert torch.equal(conv(frames)[:, :, :5], conv(changed)[:, :, :5])
    assert not torch.equal(conv(frames)[:, :, 5:], conv(changed)[:, :, 5:])


def test_before_the_first_frame_stand_copies_of_it():
    conv = CausalConv3d(3, 4)
    still = torch.randn(1, 3, 1, 8, 8).repeat(1, 1, 4, 1, 1)
    torch.testing.assert_close(conv(still), conv(still[:, :, :1]).expand(-1, -1, 4, -1, -1))


def test_frame_norm_gives_every_position_unit_power():
    normed = FrameNorm(8)(torch.randn(2, 8, 3, 4, 5) * 7)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(2, 3, 4, 5))


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (2, 1, 1)])
def test_unpack_undoes_pack(stride):
    frames = torch.randn(1, 3, 5, 4, 6)
    assert torch.equal(unpack(pack(frames, stride), stride), frames)


@pytest.mark.parametrize("border", ["replicate", "zeros"])
@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (2, 1, 1)])
def test_upsampling_by_phases_is_nearest_neighbours_and_then_the_convolution(stride, border):
    up = NearestUp(4, stride, border).double()
    frames = torch.randn(1, 4, 3, 5, 6, dtype=torch.float64)
    large = frames
    for axis, factor in zip((2, 3, 4), stride, strict=True):
        large = large.repeat_interleave(factor, axis)
    large = large[:, :, stride[0] - 1 :]  # the opening frame grows in space only
    torch.testing.assert_close(up([frames])[0], up.conv(large), rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_a_convolution_sweeping_over_pieces_gives_the_whole(training):
    conv = CausalConv3d(3, 4).double()
    frames = torch.randn(2, 3, 8, 5, 6, dtype=torch.float64)
    with torch.set_grad_enabled(training):
        swept = torch.cat(list(conv.sweep(frames.split([1, 1, 2, 4], 2))), 2)
        torch.testing.assert_close(swept, conv(frames), rtol=0, atol=1e-12)


def test_a_clip_norm_over_pieces_is_group_norm_over_the_whole():
    norm = ClipNorm(2, 4).double()
    frames = 3 + torch.randn(2, 4, 6, 5, 3, dtype=torch.float64)
    expected = torch.nn.functional.silu(norm(frames))
    with torch.no_grad():
        activate = norm.over(list(frames.split([1, 2, 3], 2)))
        torch.testing.assert_close(activate(frames, None), expected, rtol=0, atol=1e-12)


def test_fewer_channels_are_averages_and_more_are_copies():
    frames = torch.randn(1, 4, 1, 2, 2)
    torch.testing.assert_close(fit_channels(fit_channels(frames, 12), 4), frames)
    torch.testing.assert_close(fit_channels(frames, 1), frames.mean(1, keepdim=True))


@EVERY_KIND
@pytest.mark.parametrize("frames", [1, 5, 9])
def test_a_clip_comes_back_in_its_own_shape(config, frames):
    vae = random_vae(config)
    posterior = vae.encode(clip(frames))
    assert posterior.mean.shape == posterior.logvar.shape == (1, 16, (frames - 1) // 4 + 1, 2, 3)
    assert vae.decode(posterior.mode()).shape == (1, 3, frames, 16, 24)


@EVERY_KIND
def test_every_parameter_learns(config):
    vae = random_vae(config)
    pixels = clip(5)
    posterior = vae.encode(pixels)
    loss = (vae.decode(posterior.sample(torch.Generator().manual_seed(0))) - pixels).abs().mean() + posterior.kl().mean()
    loss.backward()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("config", [TINY_STREAMING, TINY_PLAIN], ids=["ours", "plain"])
def test_with_frame_norms_the_whole_model_is_causal(config):
    vae = random_vae(config)
    short, long = clip(9)[:, :, :5], clip(9)
    latents = vae.encode(long).mean
    torch.testing.assert_close(vae.encode(short).mean, latents[:, :, :2])
    torch.testing.assert_close(vae.encode(short[:, :, :1]).mean, latents[:, :, :1])
    torch.testing.assert_close(vae.decode(latents[:, :, :2]), vae.decode(latents)[:, :, :5])
    torch.testing.assert_close(vae.decode(latents[:, :, :1]), vae.decode(latents)[:, :, :1])


def test_untrained_shortcuts_already_carry_a_smooth_picture():
    coarse = torch.rand(1, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = torch.nn.functional.interpolate(coarse, size=(9, 64, 64), mode="trilinear")
    vae = CausalVAE(mini_vae())
    with torch.no_grad():
        error = (vae.decode(vae.encode(pixels).mode()) - pixels).square().mean()
    assert 10 * torch.log10(4 / error) > 15


def test_a_fresh_latent_is_nearly_certain():
    with torch.no_grad():
        logvar = CausalVAE(TINY_STREAMING).encode(clip(1).float()).logvar
    torch.testing.assert_close(logvar, torch.full_like(logvar, -6))


def test_posterior_samples_have_its_mean_and_deviation():
    posterior = Posterior(torch.full((1, 16, 5, 32, 32), 3.0), torch.full((1, 16, 5, 32, 32), -2.0))
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert sample.mean().item() == pytest.approx(3, abs=0.01)
    assert sample.std().item() == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.01)
    assert torch.equal(sample, posterior.sample(torch.Generator().manual_seed(0)))


def test_kl_is_zero_for_the_standard_normal_and_positive_elsewhere():
    zero = torch.zeros(2, 16, 1, 2, 2)
    assert Posterior(zero, zero).kl().tolist() == [0, 0]
    assert (Posterior(zero + 1, zero).kl() > 0).all()
    assert (Posterior(zero, zero - 1).kl() > 0).all()


@EVERY_KIND
@pytest.mark.parametrize("numbers", [1, 2000])
def test_inference_in_small_pieces_gives_what_training_sees(config, numbers, monkeypatch):
    vae = random_vae(config)
    whole = vae.encode(clip(17))
    pixels = vae.decode(whole.mean)
    monkeypatch.setitem(PIECE, "cpu", numbers)
    with torch.no_grad():
        torch.testing.assert_close(vae.encode(clip(17)).mean, whole.mean, rtol=0, atol=1e-10)
        torch.testing.assert_close(vae.decode(whole.mean), pixels, rtol=0, atol=1e-10)


def test_scaled_latents_come_back():
    vae = random_vae(TINY_PUBLISHED)
    torch.testing.assert_close(vae.to_pixels(vae.to_latents(clip(5))), vae.decode(vae.encode(clip(5)).mean))


@pytest.mark.parametrize(("frames", "height", "word"), [(4, 16, "use 1 or 5"), (5, 12, "multiples of 8")])
def test_a_clip_that_does_not_fit_is_refused(frames, height, word):
    with pytest.raises(InputError, match=word):
        random_vae(TINY_PUBLISHED).encode(clip(frames, height))


@pytest.mark.parametrize("wrong", [{"patch": 3}, {"groups": 3}, {"encoder_layers": (1, 1)}])
def test_a_config_that_does_not_come_out_is_refused(wrong):
    with pytest.raises(InputError):
        VAEConfig(**wrong)


def test_parameter_counts():
    with torch.device("meta"):
        published, mini = CausalVAE(VAEConfig()), CausalVAE(mini_vae())
    assert sum(p.numel() for p in published.parameters()) == 246_478_803
    assert sum(p.numel() for p in mini.parameters()) < 7.5e6


COMPILED_STEP = """
import torch
from kinema.vae.model import CausalVAE, mini_vae
vae = CausalVAE(mini_vae())
def step(pixels):
    posterior = vae.encode(pixels)
    return (vae.decode(posterior.sample()) - pixels).abs().mean() + posterior.kl().mean()
torch.compile(step, fullgraph=True, backend="aot_eager")(torch.rand(1, 3, 5, 16, 16)).backward()
"""


def test_training_compiles_without_a_graph_break():
    """In a process of its own: the shape checks of the test run cannot be traced, and users run without them."""
    run = subprocess.run([sys.executable, "-c", COMPILED_STEP], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
