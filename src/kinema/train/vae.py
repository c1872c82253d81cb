"""Train the causal 3D VAE on windows of clips: L1, squared error, perceptual distance, a critic, KL.

A run walks the rows of a curriculum: pictures and video 1:4, small and short first, then large and long; frames taken 1 to 8
apart, so that fast motion is learned; the critic late; in the last rows some batches pass in tiles, and the decoder learns to
live with seams. With `train = "decoder"` the encoder stays as it is, and so do latents that a transformer was trained on.
Afterwards the latents of a whole run are brought to zero mean and unit variance (`vae_export.py`).
Source: HunyuanVideo (arXiv 2412.03603, §4.1); residual autoencoding: DC-AE (arXiv 2410.10733).
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.data.pool import Pool
from kinema.errors import InputError, WeightsError
from kinema.shapes import SPACE_STRIDE, TIME_STRIDE
from kinema.train.loop import Task
from kinema.train.speed import Work
from kinema.train.vae_critic import Critic, CriticConfig
from kinema.train.vae_export import latent_statistics, normalise_latents, save_scores, save_vae, to_pixels
from kinema.vae.losses import LossWeights, kl_mean, perceptual_mean, psnr
from kinema.vae.model import CausalVAE, Posterior, VAEConfig
from kinema.vae.perceptual import Backbone, PerceptualDistance
from kinema.vae.tiling import Tiles, over_time

SMALLEST_TILE = 32  # pixels: three quarters of a tile must be whole latents
TILE_FRAMES = 16


@dataclass(frozen=True, kw_only=True)
class VaeStage:
    """A row of the curriculum. Raises InputError where frames, side or a share do not fit."""

    share: float = 1.0  # of the run, beside the other rows' shares
    frames: int = 17  # T of a window
    side: int = 128  # of a window, pixels; clips that are smaller give what they have
    shrink: int = 1  # clips are first made so many times smaller
    batch: int = 8
    interval: int = 8  # frames of a window are 1 to so many apart, as far as the clip reaches
    images: float = 0.2  # share of the batches that are pictures
    critic: bool = False  # whether the adversarial term is on
    tiled: float = 0.0  # share of the video batches that pass in tiles

    def __post_init__(self):
        if (self.frames - 1) % TIME_STRIDE or self.side % SPACE_STRIDE or self.frames < 1:
            raise InputError(f"frames={self.frames} must be 1 + a multiple of {TIME_STRIDE}, side={self.side} a multiple of {SPACE_STRIDE}")
        if min(self.batch, self.interval, self.shrink) < 1 or self.share <= 0:
            raise InputError(
                f"batch={self.batch}, interval={self.interval}, shrink={self.shrink} must be 1 or more, share={self.share} above 0"
            )
        if not (0 <= self.images <= 1 and 0 <= self.tiled <= 1):
            raise InputError(f"images={self.images} and tiled={self.tiled} are shares: between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class VaeTask:
    """What a VAE run reads, what it lowers, and how it is judged."""

    clips: Path  # folder of shards with uint8 `frames` [n T 3 H W]
    stages: tuple[VaeStage, ...] = (VaeStage(),)
    losses: LossWeights = field(default_factory=LossWeights)
    critic: CriticConfig = field(default_factory=CriticConfig)
    perceptual_backbone: Backbone = "hed"
    perceptual_frames: int = 4  # frames of a window that the perceptual term looks at
    train: Literal["all", "decoder"] = "all"
    capacity: int = 8192  # clips held on the device
    refresh_every: int = 10  # steps between looks for new shards
    heldout: Path | None = None  # shards to report the PSNR on
    start_samples: int = 32  # clips to wait for before the first step
    compile: bool = False

    def __post_init__(self):
        if not self.stages or self.perceptual_frames < 1:
            raise InputError(f"stages={self.stages}, perceptual_frames={self.perceptual_frames}: a run needs one of each")


class VaeTraining(Task):
    """The Task that trains a CausalVAE."""

    model: CausalVAE

    def __init__(self, model: CausalVAE, task: VaeTask, device: str, out: Path | None = None):
        """out: where `sample` puts weights and scores while the run goes on; None: nowhere."""
        self.model = model.to(device)
        self.model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if task.train == "decoder":
            self.model.encoder.requires_grad_(False)
            self.model.quant_conv.requires_grad_(False)
        self.task, self.device, self.out = task, device, out
        self.pool = Pool(task.clips, task.capacity, device, ("frames",))
        self.stage, self.counted = task.stages[0], Work()
        self.perceptual = PerceptualDistance(task.perceptual_backbone).to(device) if task.losses.perceptual else None
        self.critic = Critic(task.critic, device) if task.losses.adversarial and any(row.critic for row in task.stages) else None
        self.forward = torch.compile(self.reconstruct) if task.compile else self.reconstruct

    def wait_for_data(self) -> None:
        """Wait for the first clips, where a renderer is still at work, and take in those that are there."""
        self.pool.wait(min(self.task.start_samples, self.task.capacity))
        self.pool.refresh()

    def refresh(self, step: int, progress: float = 0.0) -> None:
        self.stage = stage_at(self.task.stages, progress)
        if step % self.task.refresh_every == 0:
            self.pool.refresh(limit=4)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        pixels, tiled = self.draw(generator)
        self.counted = self.work_of(pixels)
        latent = latent_shape(self.model.config, pixels.shape)
        noise = torch.randn(latent, device=generator.device, generator=generator)
        output, mean, logvar = (self.reconstruct_tiled if tiled else self.forward)(pixels, noise)
        return self.terms(pixels, output.float(), Posterior(mean, logvar), generator)

    def draw(self, generator: torch.Generator) -> tuple[Float[Tensor, "B 3 T H W"], bool]:
        """A batch of windows, or of pictures; and whether it passes in tiles."""
        row = self.stage
        chances = torch.rand(2, generator=generator, device=generator.device).tolist()
        picture, tiled = chances[0] < row.images, chances[1] < row.tiled
        clips = self.pool.draw(row.batch, generator)["frames"]
        pixels = windows(clips, 1 if picture else row.frames, row.side, row.interval, row.shrink, generator)
        return pixels.to(memory_format=torch.channels_last_3d), tiled and not picture

    def reconstruct(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, and the posterior's mean and log-variance."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):  # the CPU's bf16 convolution gradients are wrong
            with torch.set_grad_enabled(self.task.train == "all"):
                posterior = self.model.encode(pixels)
            latents = posterior.mean + (0.5 * posterior.logvar).exp() * noise
            return self.model.decode(latents), posterior.mean, posterior.logvar

    def reconstruct_tiled(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same through tiles of half the window, both ways."""
        pixel_tiles, latent_tiles, frames, steps = tiles_of(pixels.shape[-1])
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
            with torch.set_grad_enabled(self.task.train == "all"):
                posterior = Posterior.of(over_time(self.model.encode_frames, pixels, frames, pixel_tiles))
            latents = posterior.mean + (0.5 * posterior.logvar).exp() * noise
            return over_time(self.model.decode, latents, steps, latent_tiles), posterior.mean, posterior.logvar

    def terms(self, pixels: Tensor, output: Tensor, posterior: Posterior, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighed sum, and its parts for the log: unweighed."""
        weights, error = self.task.losses, output - pixels
        figures = {"l1": error.abs().mean(), "squared": error.square().mean()}
        if self.perceptual is not None:
            figures["perceptual"] = perceptual_mean(self.perceptual, output, pixels, self.task.perceptual_frames, generator)
        total = torch.stack([getattr(weights, name) * value for name, value in figures.items()]).sum()
        if self.critic is not None:
            heard, told = self.critic.judge(pixels, output, total, self.stage.critic)
            figures, total = figures | told, total + weights.adversarial * heard
        figures |= {"kl": kl_mean(posterior), "logvar": posterior.logvar.float().mean(), "psnr": psnr(figures["squared"])}
        if self.task.train == "all":
            total = total + weights.kl * figures["kl"]
        return total, {name: value.detach() for name, value in figures.items()}

    def work(self) -> Work:
        return self.counted

    def work_of(self, pixels: Tensor) -> Work:
        B, _, T, H, W = pixels.shape
        encode, decode = forward_flops(self.model.config, T, H, W)
        flops = B * (3 * (encode + decode) if self.task.train == "all" else encode + 3 * decode)
        return Work(B, B * latent_shape(self.model.config, pixels.shape)[2:].numel(), float(flops), f"{T}x{H}x{W}")

    def sample(self, weights: dict[str, Tensor], step: int) -> None:
        """Weights and held-out score so far, under `out`."""
        if self.out is not None:
            print(f"step {step}: held-out PSNR {self.hand_on(weights, self.out)}", flush=True)

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Write the averaged weights with unit-variance latents: vae.safetensors (bf16), vae.json, and scores.json."""
        print(f"PSNR on held-out clips: {self.hand_on(weights, folder)}", flush=True)

    def hand_on(self, weights: dict[str, Tensor], folder: Path) -> str:
        """A copy of the model is normalised, saved and scored; training goes on with its own. Returns the score as text."""
        copy = CausalVAE(self.model.config)
        copy.load_state_dict(weights)
        copy.to(self.device).to(memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        if self.task.train == "all":
            normalise_latents(copy, *latent_statistics(copy, self.pool))
        save_vae(copy, folder / "vae.safetensors")
        return save_scores(copy, self.task.heldout, folder)

    def state_dict(self) -> dict[str, Any]:
        return {"critic": self.critic.state_dict()} if self.critic is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])


def stage_at(stages: tuple[VaeStage, ...], progress: float) -> VaeStage:
    """The row in force when `progress` of the run is done."""
    left = progress * sum(row.share for row in stages)
    for row in stages:
        if left < row.share:
            return row
        left -= row.share
    return stages[-1]


def windows(
    frames: UInt8[Tensor, "B T C H W"], length: int, side: int, interval: int, shrink: int, generator: torch.Generator
) -> Float[Tensor, "B C t h w"]:
    """A window of each clip: its own place, frames 1 to `interval` apart, mirrored half of the time; values in [-1, 1]."""
    chances = torch.rand(len(frames), 5, generator=generator, device=generator.device).tolist()
    return torch.stack(
        [window(clip, length, side * shrink, interval, shrink, chance) for clip, chance in zip(frames, chances, strict=True)]
    )


def window(
    clip: UInt8[Tensor, "T C H W"], length: int, side: int, interval: int, shrink: int, chances: list[float]
) -> Float[Tensor, "C t h w"]:
    """chances: in [0, 1), for the interval, the start, the two places in the picture, and the mirror."""
    apart, start, top, left, mirror = chances
    T, _, H, W = clip.shape
    step = 1 + int(apart * min(interval, max((T - 1) // max(length - 1, 1), 1)))
    first = int(start * max(T - (length - 1) * step, 1))
    y, x = int(top * max(H - side + 1, 1)), int(left * max(W - side + 1, 1))
    cut = clip[first : first + (length - 1) * step + 1 : step, :, y : y + side, x : x + side]
    pixels = F.avg_pool2d(to_pixels(cut[None])[0], shrink)
    return pixels.flip(-1) if mirror < 0.5 else pixels


def latent_shape(config: VAEConfig, pixels: torch.Size) -> torch.Size:
    B, _, T, H, W = pixels
    return torch.Size((B, config.latent_channels, (T - 1) // TIME_STRIDE + 1, H // SPACE_STRIDE, W // SPACE_STRIDE))


def tiles_of(width: int) -> tuple[Tiles, Tiles, Tiles, Tiles]:
    """For a window so many pixels wide: tiles of the picture for encoding and for decoding, of the time for both likewise."""
    side = max(width // 2 // SMALLEST_TILE, 1) * SMALLEST_TILE
    small, few = side // SPACE_STRIDE, TILE_FRAMES // TIME_STRIDE
    return Tiles(side, small), Tiles(small, side), Tiles(TILE_FRAMES, few), Tiles(few, TILE_FRAMES)


@cache
def forward_flops(config: VAEConfig, frames: int, height: int, width: int) -> tuple[int, int]:
    """Of encoding and of decoding one clip, counted on a model without weights."""
    with torch.device("meta"):
        model, pixels = CausalVAE(config), torch.empty(1, 3, frames, height, width)
    counts = []
    for run, given in ((model.encode_frames, pixels), (model.decode, torch.empty(latent_shape(config, pixels.shape), device="meta"))):
        with FlopCounterMode(display=False) as counter:
            run(given)
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]


def grow_from(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights; residual blocks that the model has and the file has not begin as they were made, adding nothing.

    Raises WeightsError where anything else differs.
    """
    own = model.state_dict()
    added = {name for name in own.keys() - weights.keys() if ".resnets." in name}
    wrong = sorted((own.keys() ^ weights.keys()) - added) or [n for n, w in weights.items() if w.shape != own[n].shape]
    if wrong:
        raise WeightsError(f"the weights to start from do not fit the model: {wrong[0]!r}")
    model.load_state_dict(own | weights)
