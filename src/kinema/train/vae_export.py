"""What a VAE run hands on: weights whose latents have unit variance, the config, and the held-out score."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor

from kinema.data.pool import Pool
from kinema.media.files import whole_file
from kinema.vae.model import CausalVAE

STATISTICS_CLIPS = 32


def to_pixels(clips: UInt8[Tensor, "B T C H W"]) -> Float[Tensor, "B C T H W"]:
    """Bytes to [-1, 1], as the VAE takes them."""
    return rearrange(clips, "B T C H W -> B C T H W").float() / 127.5 - 1


@torch.no_grad()
def latent_statistics(model: CausalVAE, pool: Pool) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """Mean and standard deviation of each latent channel, over sampled latents of some of the pool's clips."""
    total = square = torch.zeros(model.config.latent_channels, device=pool.device)
    for clip in pool.draw(STATISTICS_CLIPS, torch.Generator(pool.device).manual_seed(0))["frames"]:
        posterior = model.encode(to_pixels(clip[None]))
        total = total + posterior.mean.float().mean((0, 2, 3, 4)) / STATISTICS_CLIPS
        square = square + (posterior.mean.float().square() + posterior.logvar.float().exp()).mean((0, 2, 3, 4)) / STATISTICS_CLIPS
    return total, (square - total.square()).clamp(min=1e-8).sqrt()


@torch.no_grad()
def normalise_latents(model: CausalVAE, mean: Float[Tensor, " C"], std: Float[Tensor, " C"]) -> None:
    """Fold latents <- (latents - mean) / std into the encoder's last 1x1x1 convolution, and its inverse into the decoder's first.

    No reconstruction changes by it.
    """
    channels = len(mean)
    last, first = model.quant_conv, model.post_quant_conv
    assert last.bias is not None
    assert first.bias is not None
    last.weight[:channels] /= std.view(-1, 1, 1, 1, 1)
    last.bias[:channels] = (last.bias[:channels] - mean) / std
    last.bias[channels:] -= 2 * std.log()
    first.bias += first.weight[:, :, 0, 0, 0] @ mean
    first.weight *= std.view(1, -1, 1, 1, 1)


@torch.no_grad()
def save_vae(model: CausalVAE, path: Path) -> None:
    """Weights in bfloat16 beside the config as JSON, both atomically; the model itself is rounded to what was saved."""
    for tensor in model.state_dict().values():
        tensor.copy_(tensor.to(torch.bfloat16))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as draft:
        save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}, draft)
    with whole_file(path.with_suffix(".json")) as draft:
        draft.write_text(json.dumps(asdict(model.config), indent=1))


def save_scores(model: CausalVAE, heldout: Path | None, folder: Path) -> str:
    """Score the model on held-out clips and write scores.json; returns the score for a person."""
    if heldout is None:
        return "not measured"
    score = reconstruction_psnr(model, Pool.of(heldout, next(model.parameters()).device, "frames"))
    with whole_file(folder / "scores.json") as draft:
        draft.write_text(json.dumps({"heldout_psnr": score}))
    return f"{score:.2f} dB"


@torch.no_grad()
def reconstruction_psnr(model: CausalVAE, clips: UInt8[Tensor, "B T C H W"]) -> float:
    """Mean PSNR in dB, on [0, 255] images rounded to integers, a clip at a time."""
    scores = []
    for clip in clips:
        pixels = to_pixels(clip[None])
        output = ((model.decode(model.encode(pixels).mean).float().clamp(-1, 1) + 1) * 127.5).round()
        scores.append(10 * torch.log10(255**2 / F.mse_loss(output, (pixels + 1) * 127.5)).item())
    return sum(scores) / len(scores)
