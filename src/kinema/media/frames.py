"""Frames between bytes and the models' [-1, 1], and to another size."""

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F


def to_uint8(pixels: Float[Tensor, "C T H W"]) -> UInt8[Tensor, "T H W C"]:
    """From [-1, 1] to bytes, rounded to the nearest; what lies outside is clamped."""
    levels = ((pixels.float() + 1) * 127.5).round().clamp(0, 255)
    return rearrange(levels.to(torch.uint8), "C T H W -> T H W C").contiguous()


def from_uint8(frames: UInt8[Tensor, "T H W C"]) -> Float[Tensor, "C T H W"]:
    """From bytes to float32 in [-1, 1]; `to_uint8` brings every byte back."""
    return rearrange(frames, "T H W C -> C T H W").float() / 127.5 - 1


def resize(frames: Float[Tensor, "T C H W"], height: int, width: int) -> Float[Tensor, "T C h w"]:
    """Bilinear, smoothed where it shrinks."""
    return F.interpolate(frames, (height, width), mode="bilinear", antialias=True)


def fill(frames: Float[Tensor, "T C H W"], height: int, width: int) -> Float[Tensor, "T C h w"]:
    """Resize until the frame is covered, then cut the middle out: the aspect stays, the rims go."""
    scale = max(height / frames.shape[2], width / frames.shape[3])
    tall, wide = (max(round(side * scale), least) for side, least in ((frames.shape[2], height), (frames.shape[3], width)))
    top, left = (tall - height) // 2, (wide - width) // 2
    return resize(frames, tall, wide)[..., top : top + height, left : left + width]


def shown_whole(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "H W 3"]:
    """Resize until the picture fits in, then put it in the middle; around it is the median colour of its rim."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    tall, wide = (max(round(side * scale), 1) for side in picture.shape[:2])
    rim = torch.cat([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).float().median(0).values
    canvas = rim.expand(height, width, 3).clone()
    top, left = (height - tall) // 2, (width - wide) // 2
    scaled = resize(rearrange(picture[None].float(), "T H W C -> T C H W"), tall, wide)[0]
    canvas[top : top + tall, left : left + wide] = rearrange(scaled, "C H W -> H W C")
    return canvas.round().clamp(0, 255).to(torch.uint8)
