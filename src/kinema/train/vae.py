"""Train the causal 3D VAE on clips: L1 + squared error + KL, on windows of rendered clips.

The first frame of every window goes through the VAE by itself (causality), so images are trained with every clip.
Afterwards the latents are brought to zero mean and unit variance a channel by folding two affine maps into the 1x1x1
convolutions around them, which changes no reconstruction.
Source: HunyuanVideo (arXiv 2412.03603, §4.1); residual autoencoding: DC-AE (arXiv 2410.10733).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinema.config import build
from kinema.data.pool import Pool
from kinema.errors import WeightsError
from kinema.vae.model import CausalVAE, VAEConfig


@dataclass(frozen=True, kw_only=True)
class VaeTask:
    """What a VAE run reads and how it is judged."""

    clips: Path  # folder of shards with uint8 `frames` [n T 3 H W]
    batch: int = 16
    frames: int = 17  # T of a window
    crop: int = 128  # side of a window, pixels
    capacity: int = 8192  # clips held on the device
    squared: float = 1.0  # weight of the squared error, which PSNR measures
    kl: float = 1e-4  # weight of the KL divergence, a mean over latent values
    refresh_every: int = 10  # steps between looks for new shards
    heldout: Path | None = None  # shards to report the final PSNR on
    start_samples: int = 32  # samples to wait for before the first step
    compile: bool = False


class VaeTraining:
    """The Task that trains a CausalVAE."""

    def __init__(self, model: CausalVAE, task: VaeTask, device: str):
        self.model = model.to(device)
        self.model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.task, self.device = task, device
        self.pool = Pool(task.clips, task.capacity, device, ("frames",))
        self.forward = torch.compile(self.reconstruct) if task.compile else self.reconstruct

    def wait_for_data(self) -> None:
        """Wait for the first samples, where a renderer or an encoder is still at work."""
        self.pool.wait(min(self.task.start_samples, self.task.capacity))

    def refresh(self, step: int) -> None:
        if step % self.task.refresh_every == 0:
            self.pool.refresh(limit=4)

    def reconstruct(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, and the posterior's mean and log-variance."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):  # the CPU's bf16 convolution gradients are wrong
            posterior = self.model.encode(pixels)
            latents = posterior.mean + (0.5 * posterior.logvar).exp() * noise
            return self.model.decode(latents), posterior.mean, posterior.logvar

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        pixels = windows(self.pool.draw(self.task.batch, generator)["frames"], self.task.frames, self.task.crop, generator)
        pixels = pixels.to(memory_format=torch.channels_last_3d)
        shape = (len(pixels), self.model.config.latent_channels, (pixels.shape[2] - 1) // 4 + 1, pixels.shape[3] // 8, pixels.shape[4] // 8)
        output, mean, logvar = self.forward(pixels, torch.randn(shape, device=self.device, generator=generator))
        error = output.float() - pixels
        squared = error.square().mean()
        kl = 0.5 * (mean.float().square() + logvar.float().exp() - 1 - logvar.float()).mean()
        total = error.abs().mean() + self.task.squared * squared + self.task.kl * kl
        return total, {"l1": error.abs().mean(), "psnr": psnr(squared), "kl": kl, "logvar": logvar.float().mean()}

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write the averaged weights with unit-variance latents: vae.safetensors (bf16) and vae.json."""
        self.model.load_state_dict(weights)
        mean, std = latent_statistics(self.model, self.pool, self.task)
        normalise_latents(self.model, mean, std)
        save_vae(self.model, folder / "vae.safetensors")
        if self.task.heldout is not None:
            score = reconstruction_psnr(self.model, Pool.of(self.task.heldout, self.device, "frames"))
            (folder / "scores.json").write_text(json.dumps({"heldout_psnr": score}))
            print(f"PSNR on held-out clips: {score:.2f} dB", flush=True)


def psnr(squared: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB of values in [-1, 1]."""
    return 10 * torch.log10(4 / squared)


def windows(frames: UInt8[Tensor, "B T C H W"], length: int, side: int, generator: torch.Generator) -> Float[Tensor, "B C t h w"]:
    """One random window of `length` frames and `side` pixels for the whole batch, mirrored half of the time; values in [-1, 1]."""
    limits = [frames.shape[1] - length, frames.shape[3] - side, frames.shape[4] - side]
    start, top, left, mirror = (
        int(torch.randint(limit + 1, (), generator=generator, device=frames.device)) for limit in (*(max(limit, 0) for limit in limits), 1)
    )
    window = rearrange(frames[:, start : start + length, :, top : top + side, left : left + side], "B T C H W -> B C T H W")
    window = window.float() / 127.5 - 1
    return window.flip(-1) if mirror else window


@torch.no_grad()
def latent_statistics(model: CausalVAE, pool: Pool, task: VaeTask, batches: int = 16) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Mean and standard deviation of each latent channel over sampled latents of the pool's clips."""
    total = square = torch.zeros(model.config.latent_channels, device=pool.device)
    for batch in range(batches):
        generator = torch.Generator(pool.device).manual_seed(batch)
        posterior = model.encode(windows(pool.draw(task.batch, generator)["frames"], task.frames, task.crop, generator))
        total = total + posterior.mean.float().mean((0, 2, 3, 4)) / batches
        square = square + (posterior.mean.float().square() + posterior.logvar.float().exp()).mean((0, 2, 3, 4)) / batches
    return total, (square - total.square()).clamp(min=1e-8).sqrt()


@torch.no_grad()
def normalise_latents(model: CausalVAE, mean: Float[Tensor, "C"], std: Float[Tensor, "C"]) -> None:
    """Fold latents <- (latents - mean) / std into the encoder's last 1x1x1 convolution, and its inverse into the decoder's first."""
    channels = len(mean)
    last, first = model.quant_conv, model.post_quant_conv
    assert last.bias is not None
    assert first.bias is not None
    last.weight[:channels] /= std.view(-1, 1, 1, 1, 1)
    last.bias[:channels] = (last.bias[:channels] - mean) / std
    last.bias[channels:] -= 2 * std.log()
    first.bias += first.weight[:, :, 0, 0, 0] @ mean
    first.weight *= std.view(1, -1, 1, 1, 1)


def save_vae(model: CausalVAE, path: Path) -> None:
    """Weights in bfloat16 beside the config as JSON, both atomically."""
    partial = path.with_suffix(".part")
    save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}, partial)
    partial.replace(path)
    path.with_suffix(".json").write_text(json.dumps(asdict(model.config), indent=1))


def load_trained_vae(folder: Path, device: str, dtype: torch.dtype) -> CausalVAE:
    """The VAE of a finished run, ready to encode. Raises WeightsError where there is none."""
    try:
        model = CausalVAE(build(VAEConfig, json.loads((folder / "vae.json").read_text())))
        model.load_state_dict(load_file(folder / "vae.safetensors"))
    except FileNotFoundError as error:
        raise WeightsError(f"no finished VAE run in {folder} ({error}): train one with `kinema train vae`") from error
    model.to(device, dtype).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model.eval()


@torch.no_grad()
def reconstruction_psnr(model: CausalVAE, frames: UInt8[Tensor, "B T C H W"]) -> float:
    """Mean PSNR in dB, on [0, 255] images rounded to integers, a clip at a time."""
    scores = []
    for clip in frames:
        pixels = rearrange(clip, "T C H W -> 1 C T H W").float() / 127.5 - 1
        output = ((model.decode(model.encode(pixels).mean).float().clamp(-1, 1) + 1) * 127.5).round()
        scores.append(10 * torch.log10(255**2 / F.mse_loss(output, (pixels + 1) * 127.5)).item())
    return sum(scores) / len(scores)
