"""What the subject looks like: a picture that all of the video sees, standing before it in time, and that is no frame of it.

It is given, or recalled: a model that remembers its world (`kinema.world.memory`) looks up what its prompt names, unless frames are given.
A model that takes a reference always has one; zeros say that nothing is known, and the unconditional half of classifier-free guidance
sees those.
Source: HunyuanCustom (arXiv 2505.04512), identity by concatenation in time.
"""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.conditioning.frames import Given, encode
from kinema.media.frames import from_uint8, shown_whole
from kinema.media.image import read_image
from kinema.shapes import PixelShape
from kinema.vae.model import CausalVAE
from kinema.world.memory import Recalled, load_memory

MEMORY = Path(__file__).parents[1] / "pretrained" / "memory"


def picture_of(given: Given | None, recalled: Recalled | None) -> UInt8[Tensor, "H W 3"] | None:
    """What is given, or else recalled. Raises InputError where the file has changed."""
    if given is not None:
        given.check()
        return read_image(given.path)
    return None if recalled is None else load_memory(MEMORY).picture(recalled)


def nothing_known(shape: PixelShape, channels: int) -> Float[Tensor, "1 C one h w"]:
    """What stands where no picture is, on the CPU."""
    return torch.zeros(1, channels, 1, shape.latent.h, shape.latent.w)


@torch.inference_mode()
def encode_reference(picture: UInt8[Tensor, "H W 3"], shape: PixelShape, vae: CausalVAE) -> Float[Tensor, "1 C one h w"]:
    """float32 latents on the CPU at the size of the video, by the mean of the VAE's posterior."""
    pixels = from_uint8(shown_whole(picture, shape.height, shape.width)[None])[None].to(next(vae.parameters()))
    return (encode(vae, pixels) * vae.config.scaling_factor).float().cpu()
