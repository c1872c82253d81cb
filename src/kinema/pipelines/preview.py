"""What a video looks like before it is finished: the predicted clean latents as small pictures, nearly free.

Each latent cell's 16 channels go through one linear map to the mean colour of the pixels it stands for. The map is fitted once for a VAE,
by least squares on what the VAE itself decodes, so that it exists for every VAE.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from kinema.media.files import whole_file
from kinema.shapes import SPACE_STRIDE
from kinema.vae.model import CausalVAE

if TYPE_CHECKING:
    from kinema.pipelines.video import VideoPipeline

SAMPLES, SIDE = 24, 8  # fields of latents to fit on, and their side in cells
PICTURE_SIDE = 192  # pixels of a preview's longer side, at most
SECONDS_A_FRAME = 0.33


@dataclass(frozen=True)
class Colours:
    """Linear map from latents, as the DiT sees them, to colours in [-1, 1]."""

    weight: Float[Tensor, "3 C"]
    bias: Float[Tensor, " 3"]

    @classmethod
    def of(cls, pipeline: "VideoPipeline") -> "Colours":
        """Fitted to the pipeline's VAE."""
        with pipeline.at_work(pipeline.vae):
            return fit_colours(pipeline.vae)

    def __call__(self, latents: Float[Tensor, "C t h w"]) -> UInt8[Tensor, "t h w 3"]:
        colours = torch.einsum("dc,cthw->thwd", self.weight, latents.float().cpu()) + self.bias
        return ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def fit_colours(vae: CausalVAE) -> Colours:
    """Least squares over random pictures: fields of smooth noise of several sizes, decoded by the VAE and averaged over each cell."""
    reference = next(vae.parameters())
    generator = torch.Generator().manual_seed(0)
    latents = smooth_fields(SAMPLES, vae.config.latent_channels, generator)
    scaled = (latents / vae.config.scaling_factor).to(reference.device, reference.dtype)
    with torch.no_grad():
        pixels = torch.cat([vae.decode(field[None, :, None])[:, :, 0].float().cpu() for field in scaled])
    inputs = rearrange(latents, "B C h w -> (B h w) C")
    targets = rearrange(F.avg_pool2d(pixels.clamp(-1, 1), SPACE_STRIDE), "B d h w -> (B h w) d")
    found = torch.linalg.lstsq(F.pad(inputs, (0, 1), value=1.0), targets).solution
    return Colours(found[:-1].T.contiguous(), found[-1])


def smooth_fields(count: int, channels: int, generator: torch.Generator) -> Float[Tensor, "B C h w"]:
    """Unit-variance noise whose detail reaches from the whole picture down to a cell."""
    fields = []
    for number in range(count):
        cells = (1, 2, 4, SIDE)[number % 4]
        noise = torch.randn(1, channels, cells, cells, generator=generator)
        fields.append(F.interpolate(noise, (SIDE, SIDE), mode="nearest")[0])
    return torch.stack(fields)


def animation(frames: UInt8[Tensor, "t h w 3"], seconds: float = SECONDS_A_FRAME) -> bytes:
    """An animated WebP of a few kilobytes. seconds: that each frame stays."""
    scale = max(1, PICTURE_SIDE // max(frames.shape[1:3]))
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    pictures = [Image.fromarray(frame.numpy()).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    file = io.BytesIO()
    rest = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 * seconds), "loop": 0}
    pictures[0].save(file, "WEBP", quality=70, method=0, **rest)
    return file.getvalue()


def write_preview(path: Path, frames: UInt8[Tensor, "t h w 3"], seconds: float = SECONDS_A_FRAME) -> None:
    """Write the preview; a reader sees the one before or this one, never half of it."""
    with whole_file(path) as draft:
        draft.write_bytes(animation(frames, seconds))
