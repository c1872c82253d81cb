"""One frame as a PNG that carries its metadata."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin
from torch import Tensor

from kinema.errors import InputError
from kinema.media.files import pack, unpack, whole_file

METADATA_KEY = "kinema"


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
    """Any picture that Pillow reads, as RGB.

    Raises InputError where it is missing or no picture.
    """
    with opened(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


def read_image_metadata(path: Path | str) -> dict[str, Any] | None:
    """What `write_image` put there; None where there is nothing of ours."""
    with opened(path) as image:
        return unpack(image.info.get(METADATA_KEY))


def opened(path: Path | str) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise InputError(f"cannot read {path} as a picture: {error.strerror or error}") from error
