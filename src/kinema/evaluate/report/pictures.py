"""Videos inside a page: small H.264 files and strips of their frames, as data URIs."""

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from kinema.errors import InputError
from kinema.media.frames import resize
from kinema.media.video import copy_stream, probe, read_video, write_video

STRIP, TALL = 6, 88  # frames of a strip, and their height in pixels
LARGEST, BYTES = 256, 300_000  # pixels of the shorter side, and bytes, up to which a video is shown as it is
LONGEST = 121  # frames shown


@dataclass(frozen=True)
class Shown:
    """Both as data URIs."""

    video: str
    strip: str


def shown(path: Path) -> Shown | None:
    """None where the file cannot be read."""
    try:
        frames, fps = read_video(path)
        return Shown(uri(playable(path, frames, fps), "video/mp4"), uri(strip(frames), "image/jpeg"))
    except InputError:
        return None


def uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def strip(frames: UInt8[Tensor, "T H W 3"]) -> bytes:
    """A few frames side by side, as a JPEG."""
    wide = round(TALL * frames.shape[2] / frames.shape[1])
    picture = Image.new("RGB", (STRIP * wide, TALL))
    for place, index in enumerate(np.linspace(0, len(frames) - 1, STRIP).round().astype(int)):
        picture.paste(Image.fromarray(frames[index].numpy()).resize((wide, TALL), Image.Resampling.LANCZOS), (place * wide, 0))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82)
    return out.getvalue()


def playable(path: Path, frames: UInt8[Tensor, "T H W 3"], fps: float) -> bytes:
    """The file's own pictures where browsers play them and they are small; else a smaller copy."""
    info = probe(path)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "shown.mp4"
        if info.codec == "h264" and min(info.height, info.width) <= LARGEST and path.stat().st_size <= BYTES:
            copy_stream(path, target)
        else:
            write_video(target, smaller(frames[:LONGEST]), fps)
        return target.read_bytes()


def smaller(frames: UInt8[Tensor, "T H W 3"]) -> UInt8[Tensor, "T h w 3"]:
    """Of even sides, the shorter up to LARGEST."""
    height, width = frames.shape[1:3]
    scale = min(1.0, LARGEST / min(height, width))
    tall, wide = (max(2, int(side * scale) // 2 * 2) for side in (height, width))
    small = resize(rearrange(frames, "T H W c -> T c H W").float(), tall, wide)
    return rearrange(small.round().clamp(0, 255).to(torch.uint8), "T c H W -> T H W c").contiguous()
