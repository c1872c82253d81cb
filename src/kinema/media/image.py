"""One frame as a PNG that carries its metadata."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from kinema.errors import InputError
from kinema.media.files import pack, unpack, whole_file

METADATA_KEY = "kinema"
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # modes of 16 and more bits a pixel, which Pillow would cut off at 255


def write_image(
    path: Path | str, frame: UInt8[Tensor, "H W 3"] | UInt8[np.ndarray, "H W 3"], metadata: dict[str, Any] | None = None
) -> None:
    """Write a PNG; metadata goes into an iTXt chunk.

    Raises OutputError where it cannot be written.
    """
    path, info = Path(path), PngImagePlugin.PngInfo()
    if metadata is not None:
        info.add_itxt(METADATA_KEY, pack(metadata), zip=True)
    with whole_file(path) as draft:
        Image.fromarray(np.ascontiguousarray(frame)).save(draft, format="png", pnginfo=info)


def read_image(path: Path | str) -> UInt8[Tensor, "H W 3"]:
    """Any picture that Pillow reads, as RGB: turned as its camera says (EXIF), transparent parts white, the first frame of several.

    CMYK and palettes are converted without colour profiles; 16 bits become 8.
    Raises InputError where it is missing, no picture, cut short, or of more than 89 million pixels.
    """
    with opened(path) as image:
        try:
            return torch.from_numpy(np.array(as_rgb(ImageOps.exif_transpose(image))))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"cannot read {path} as a picture: {error}; it is damaged or cut short") from error


def as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP:
        return Image.fromarray((np.asarray(image, np.float64) / (1 if image.mode == "F" else 257)).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def read_image_metadata(path: Path | str) -> dict[str, Any] | None:
    """What `write_image` put there; None where there is nothing of ours."""
    with opened(path) as image:
        return unpack(image.info.get(METADATA_KEY))


def opened(path: Path | str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path)
    except OSError as error:
        raise InputError(f"cannot read {path} as a picture: {error.strerror or error}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path} has more than {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels: make it smaller first") from error
