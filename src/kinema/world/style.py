"""Styles: what turns rendered frames into pixel art, a sketch, a film."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Frames = Float[Tensor, "F 3 H W"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """A look by name: its words and the function that gives it to frames in [0, 1]."""

    phrases: tuple[str, ...]  # "pixel art style"
    sentences: tuple[str, ...]  # for the caption's style field
    apply: Callable[[Frames], Frames]


def luma(frames: Frames) -> Float[Tensor, "F 1 H W"]:
    red, green, blue = frames.split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def box(images: Float[Tensor, "F c H W"], side: int) -> Float[Tensor, "F c h w"]:
    """Means over windows of side x side pixels, only where these lie inside: sums of shifted pictures, faster than pooling on a CPU."""
    for axis in (-1, -2):
        length = images.shape[axis] - side + 1
        total = images.narrow(axis, 0, length).clone()
        for shift in range(1, side):
            total.add_(images.narrow(axis, shift, length))
        images = total.div_(side)
    return images


def blur(images: Float[Tensor, "F c H W"], radius: int) -> Float[Tensor, "F c H W"]:
    """A box filter of side 2 radius + 1, twice: close to a Gaussian and fast."""
    padded = F.pad(images, (2 * radius,) * 4, mode="replicate")
    return box(box(padded, 2 * radius + 1), 2 * radius + 1)


def render(frames: Frames) -> Frames:
    """The frames as they are."""
    return frames


def pixel_art(frames: Frames) -> Frames:
    """Square blocks, about 42 to the frame height, in few bright colours."""
    height, width = frames.shape[-2:]
    block = max(2, round(height / 42))
    small = F.avg_pool2d(frames, block, ceil_mode=True, count_include_pad=False)
    gray = luma(small)
    small = (gray + 1.25 * (small - gray)).clamp(0, 1)
    small = torch.round(small * 6) / 6
    return F.interpolate(small, scale_factor=block, mode="nearest")[..., :height, :width].contiguous()


def black_and_white(frames: Frames) -> Frames:
    """Grey tones with some contrast."""
    gray = luma(frames)
    gray = gray + 0.5 * (gray - 0.5) * gray * (1 - gray) * 4
    return gray.clamp(0, 1).expand_as(frames).contiguous()


def contours(frames: Frames) -> Float[Tensor, "F 1 H W"]:
    """How much a pixel differs from those to its right and below, in the channel that differs most; 0 at the last row and column."""
    soft = blur(frames, 1)
    across, down = soft[..., :-1, 1:] - soft[..., :-1, :-1], soft[..., 1:, :-1] - soft[..., :-1, :-1]
    return F.pad(across.abs().amax(1, True) + down.abs().amax(1, True), (0, 1, 0, 1))


def sketch(frames: Frames) -> Frames:
    """Pencil on paper: dark lines where brightness or colour changes, light tones elsewhere."""
    gray = luma(frames)
    around = blur(gray, max(1, round(frames.shape[-2] / 64)))
    lines = (gray / around.clamp(min=0.04)).clamp(0, 1) - (2.2 * contours(frames) - 0.12).clamp(0, 0.75)
    paper = torch.tensor([0.985, 0.97, 0.935], device=frames.device, dtype=frames.dtype)[None, :, None, None]
    return (0.72 + 0.28 * gray) * lines.clamp(0.08, 1) * paper


def smoothed(frames: Frames, radius: int) -> Frames:
    """A flat-patch filter: each pixel takes the mean of the calmest of four windows beside it.

    Source: Kuwahara et al. 1976.
    """
    padded = F.pad(frames, (radius,) * 4, mode="replicate")
    means = box(torch.cat([padded, luma(padded) ** 2], 1), radius + 1)
    colors, unrest = means[:, :3], means[:, 3:] - luma(means[:, :3]) ** 2
    height, width = frames.shape[-2:]
    windows = [(..., slice(top, top + height), slice(left, left + width)) for top in (0, radius) for left in (0, radius)]
    best, calm = colors[windows[0]], unrest[windows[0]]
    for window in windows[1:]:
        best = torch.where(unrest[window] < calm, colors[window], best)
        calm = torch.minimum(calm, unrest[window])
    return best


def wash(height: int, width: int, device: torch.device) -> Float[Tensor, "1 1 H W"]:
    """Pigment that pools unevenly: a fixed smooth pattern in about [-1, 1]."""
    noise = torch.Generator().manual_seed(5)
    coarse, fine = (torch.randn(1, 1, n, n, generator=noise) for n in (6, 14))
    parts = [F.interpolate(grid, (height, width), mode="bicubic", align_corners=False) for grid in (coarse, fine)]
    return (0.6 * parts[0] + 0.4 * parts[1]).to(device)


def watercolour(frames: Frames) -> Frames:
    """Flat washes that pool at their rims on white paper."""
    height, width = frames.shape[-2:]
    flat = 0.75 * smoothed(frames, max(1, round(height / 60))) + 0.25 * frames  # a little of the detail keeps faces
    rims = (luma(flat) - luma(blur(flat, max(1, round(height / 80))))).abs()
    gray = luma(flat)
    pale = 1 - (1 - (gray + 1.1 * (flat - gray))) * 0.78
    painted = pale * (1 + 0.07 * wash(height, width, frames.device)) - 1.3 * rims
    v, u = torch.linspace(-1, 1, height, device=frames.device)[:, None], torch.linspace(-1, 1, width, device=frames.device)[None]
    paper = ((torch.maximum(u.abs(), v.abs()) - 0.86) / 0.14).clamp(0, 1) ** 2
    return (painted + (0.98 - painted) * paper).clamp(0, 1)


BAR = 0.115  # share of the height that each black bar of a cinematic frame covers


def cinematic(frames: Frames) -> Frames:
    """Film: teal shadows, orange lights, soft dark corners and black bars above and below."""
    height, width = frames.shape[-2:]
    gray = luma(frames)
    shadow = torch.tensor([-0.075, 0.012, 0.07], device=frames.device, dtype=frames.dtype)[None, :, None, None]
    graded = gray + 0.92 * (frames - gray) + shadow * (1 - 2 * gray)
    graded = graded.clamp(0, 1)
    graded = graded + 0.7 * (graded - 0.5) * graded * (1 - graded)
    v, u = torch.linspace(-1, 1, height, device=frames.device)[:, None], torch.linspace(-1, 1, width, device=frames.device)[None]
    graded = graded * (1 - 0.28 * (u**2 + v**2) / 2)
    bar = round(BAR * height)
    graded[..., :bar, :] = 0
    graded[..., height - bar :, :] = 0
    return graded


STYLES: dict[str, Style] = {
    "3D render": Style(
        phrases=("3D render style", "3D animation style", "3D cartoon style"),
        sentences=("A glossy 3D render.", "3D cartoon animation with soft shading.", "Soft 3D animation."),
        apply=render,
    ),
    "pixel art": Style(
        phrases=("pixel art style", "8-bit pixel style", "retro game style"),
        sentences=("Pixel art with big square pixels.", "Retro 8-bit pixel graphics."),
        apply=pixel_art,
    ),
    "black and white": Style(
        phrases=("black and white style", "monochrome style", "black-and-white film style"),
        sentences=("Black and white, without any color.", "A monochrome picture in gray tones."),
        apply=black_and_white,
    ),
    "sketch": Style(
        phrases=("sketch style", "pencil sketch style", "hand-drawn pencil style"),
        sentences=("A pencil sketch on paper.", "Hand-drawn gray pencil lines."),
        apply=sketch,
    ),
    "watercolour": Style(
        phrases=("watercolor style", "watercolour painting style", "painted watercolor style"),
        sentences=("A soft watercolor painting on white paper.", "Pale washes of watercolor."),
        apply=watercolour,
    ),
    "cinematic": Style(
        phrases=("cinematic style", "film style", "movie style"),
        sentences=("Cinematic, with black bars and film colors.", "A movie look in teal and orange, in letterbox."),
        apply=cinematic,
    ),
}
