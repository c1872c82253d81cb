"""Painting a plan: each picture is sampled through its plane's matrix and laid over what lies behind it.

Colours are premultiplied by alpha. One call paints all frames of a picture, the same on CPU and CUDA; the geometry is worked
out in numpy and goes to the device in one copy, so that nothing waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.world.camera import Matrices
from kinema.world.plan import Plan, Quad
from kinema.world.scenes import Ground

GROUND_LEVELS = 4  # each for twice the depth of the one before


@dataclass(frozen=True)
class Window:
    """Rows [top, bottom) and columns [left, right) of the frame."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def empty(self) -> bool:
        return self.top >= self.bottom or self.left >= self.right


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """To the device without waiting for it; floats as float32."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array).to(device, non_blocking=True)


@lru_cache(maxsize=16)
def _axes(height: int, width: int, device: torch.device) -> tuple[Float[Tensor, " W"], Float[Tensor, "H 1"]]:
    """u of the frame's columns, v of its rows."""
    columns, rows = torch.arange(width, dtype=torch.float32), torch.arange(height, dtype=torch.float32)
    return ((columns + 0.5 - width / 2) / height).to(device), ((rows + 0.5 - height / 2) / height)[:, None].to(device)


@dataclass(frozen=True)
class Looks:
    """Where the pixels of some frames look on one plane: matrix @ (u, v, 1), homogeneous.

    matrices: in numpy; rows: the same on the device. flat: which of their coefficients are always zero. size: H, W of the frame.
    """

    matrices: Matrices
    rows: Float[Tensor, "T 3 3"]
    flat: Bool[np.ndarray, "3 3"]
    size: tuple[int, int]

    def linear(self, index: int, window: Window) -> Float[Tensor, "T _ _"]:
        """One homogeneous coordinate over a window; where it varies in no row (column), one row (column) stands for all."""
        u, v = _axes(*self.size, self.rows.device)
        total = self.rows[:, index, 2, None, None]
        if not self.flat[index, 1]:
            total = torch.addcmul(total, self.rows[:, index, 1, None, None], v[window.top : window.bottom])
        if not self.flat[index, 0]:
            total = torch.addcmul(total, self.rows[:, index, 0, None, None], u[window.left : window.right])
        return total

    def part(self, frames: slice) -> "Looks":
        return replace(self, matrices=self.matrices[frames], rows=self.rows[frames])


@dataclass(frozen=True)
class PictureLooks(Looks):
    """The same on a picture, [-1, 1] across and down. bounds: left, top, right and bottom of it on the screen, in pixels."""

    bounds: Float[np.ndarray, "T 4"]

    def part(self, frames: slice) -> "PictureLooks":
        return replace(self, matrices=self.matrices[frames], rows=self.rows[frames], bounds=self.bounds[frames])

    def window(self) -> Window:
        """The part of the frame in which the picture is seen in any frame, a pixel of margin included."""
        (left, top), (right, bottom) = np.floor(self.bounds[:, :2].min(0)) - 1, np.ceil(self.bounds[:, 2:].max(0)) + 1
        clip = lambda value, limit: int(min(max(value, 0), limit))  # noqa: E731
        height, width = self.size
        return Window(clip(top, height), clip(bottom, height), clip(left, width), clip(right, width))

    def points(self, window: Window) -> Float[Tensor, "T h w 2"]:
        """Where on the picture each pixel of a window looks, for F.grid_sample."""
        across, down, share = (self.linear(i, window) for i in range(3))
        shape = len(self.rows), window.bottom - window.top, window.right - window.left, 2
        points = torch.empty(shape, device=self.rows.device)
        straight = share.shape[1:] == (1, 1)  # then it is 1: see look_at
        points[..., 0], points[..., 1] = (across, down) if straight else (across / share, down / share)
        return points


def look_at(plan: Plan, quads: Sequence[Quad], device: torch.device) -> list[PictureLooks]:
    """The looks of a clip's pixels on some pictures."""
    to_screen = plan.to_screen(quads)
    corners = plan.in_pixels(to_screen)
    bounds = np.concatenate([corners.min(2), corners.max(2)], 2)
    matrices = np.linalg.inv(to_screen)
    flat = np.abs(matrices).max(1) < 1e-9
    straight = flat[:, 2, 0] & flat[:, 2, 1]
    matrices[straight] /= matrices[straight][..., 2:, 2:]
    size = plan.spec.height, plan.spec.width
    parts = zip(matrices, upload(matrices, device), flat, bounds, strict=True)
    return [PictureLooks(matrix, rows, zero, size, bound) for matrix, rows, zero, bound in parts]


def look_down(plan: Plan, device: torch.device) -> Looks:
    """The looks of a clip's pixels on the ground: x, z and 1, each over the depth."""
    matrices = np.linalg.inv(plan.ground())
    return Looks(matrices, upload(matrices, device), np.abs(matrices).max(0) < 1e-9, (plan.spec.height, plan.spec.width))


def sample(picture: Float[Tensor, "F C h w"], points: Float[Tensor, "T a b 2"], padding: str) -> Float[Tensor, "T C a b"]:
    picture = picture.expand(len(points), -1, -1, -1)
    return F.grid_sample(picture, points, mode="bilinear", padding_mode=padding, align_corners=False)


def lay(canvas: Float[Tensor, "T 3 H W"], window: Window, patch: Float[Tensor, "F 4 h w"]) -> None:
    """Put premultiplied RGBA over a window of the canvas; one frame of it serves for all."""
    target = canvas[:, :, window.top : window.bottom, window.left : window.right]
    target.mul_(1 - patch[:, 3:]).add_(patch[:, :3])


def paint(canvas: Float[Tensor, "T 3 H W"], looks: PictureLooks, window: Window, picture: Float[Tensor, "F 4 h w"], padding: str) -> None:
    """Lay a picture over a canvas. padding: "zeros", or "border" for one that runs on at its edges."""
    if not window.empty:
        lay(canvas, window, sample(picture, looks.points(window), padding))


@lru_cache(maxsize=4)
def blot(device: torch.device) -> Float[Tensor, "1 4 s s"]:
    """A soft round shadow: black, alpha up to 1."""
    across = torch.linspace(-1, 1, 33)
    alpha = (1 - (across[:, None] ** 2 + across**2)).clamp(0) ** 1.5
    return F.pad(alpha[None, None], (0, 0, 0, 0, 3, 0)).to(device)


@dataclass(frozen=True)
class Floor:
    """A ground ready to be sampled. levels: ever more blurred by distance, each wrapped by one texel on every side."""

    ground: Ground
    levels: tuple[Float[Tensor, "1 3 _ _"], ...]
    haze: Float[Tensor, "3 1 1"]

    @classmethod
    def of(cls, ground: Ground, device: torch.device) -> "Floor":
        """Level k is for depth 2^k, where a pixel covers 2^k times the width and 4^k times the length that it covers at depth 1."""
        levels, size = [], ground.texture.shape[1:]
        for k in range(GROUND_LEVELS):
            small = max(1, size[0] // 4**k), max(1, size[1] // 2**k)
            level = F.adaptive_avg_pool2d(ground.texture[None], small)
            levels.append(F.pad(level, (1, 1, 1, 1), mode="circular").to(device))
        return cls(ground, tuple(levels), torch.tensor(ground.haze)[:, None, None].to(device))

    def tiled(self, k: int, looks: Looks, window: Window) -> Float[Tensor, "T 3 h w"]:
        """One level over a window."""
        level, share = self.levels[k], 1 / looks.linear(2, window).clamp(min=1e-3) / self.ground.tile
        points = torch.empty(len(share), window.bottom - window.top, window.right - window.left, 2, device=share.device)
        for axis, texels in enumerate((level.shape[-1], level.shape[-2])):
            periods = points[..., axis].copy_(looks.linear(axis, window) * share)
            periods.sub_(periods.floor()).mul_(2 - 4 / texels).add_(2 / texels - 1)  # past the texel that wraps around
        return sample(level, points, "border")


def _level_rows(looks: Looks) -> list[tuple[int, int]]:
    """Rows of the frame in which each level of a floor is seen in any frame; (0, 0) where it is not."""
    height, width = looks.size
    v = (np.arange(height) + 0.5 - height / 2) / height
    ends = np.array([-1, 1])[:, None, None] * width / height / 2
    across, down, middle = looks.matrices[:, 2].T
    nearness = across * ends + down * v[:, None] + middle
    least, most = nearness.min((0, 2)), nearness.max((0, 2))
    found = []
    for k in range(GROUND_LEVELS):
        low = 2.0 ** -(k + 1) if k < GROUND_LEVELS - 1 else -2 / height
        high = 2.0 ** -(k - 1) if k else np.inf
        rows = np.flatnonzero((most >= low) & (least <= high))
        found.append((int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0))
    return found


def paint_floor(canvas: Float[Tensor, "T 3 H W"], looks: Looks, floor: Floor) -> None:
    """The ground, its levels blended by depth, fading to its haze and ending softly at the horizon."""
    spans, (height, width) = _level_rows(looks), looks.size
    window = Window(min((a for a, b in spans if b), default=0), max(b for _, b in spans), 0, width)
    if window.empty:
        return
    nearness = looks.linear(2, window)
    patch = torch.zeros(len(canvas), 4, window.bottom - window.top, width, device=canvas.device)
    for k, (first, last) in enumerate(spans):
        if last:
            band = Window(first, last, 0, width)
            level = looks.linear(2, band).clamp(min=1e-3).log2().neg().clamp(0, GROUND_LEVELS - 1)
            weight = (1 - (level - k).abs()).clamp(0)[:, None]
            patch[:, :3, first - window.top : last - window.top].addcmul_(floor.tiled(k, looks, band), weight)
    haze = (1 - floor.ground.haze_start * nearness).clamp(0, 1)[:, None]
    edge = (nearness * (height / 2) + 0.5).clamp(0, 1)
    patch[:, :3].lerp_(floor.haze.expand_as(patch[:, :3]), haze).mul_(edge[:, None])
    patch[:, 3] = edge
    lay(canvas, window, patch)
