"""How a frozen backbone is shown frames: whole, and pieces of them enlarged."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

SEEN = 192  # pixels of a whole frame's height
SIDE = 128  # pixels of a piece
ROOM = 1.2  # side of a piece in sides of the box inside


def fitted(frames: UInt8[Tensor, "T 3 H W"], size: int = SEEN) -> Float[Tensor, "T 3 size w"]:
    """Frames in [0, 1], `size` pixels high, the width a multiple of 32 near that which keeps the aspect."""
    height, width = frames.shape[-2:]
    wide = max(32, round(width / height * size / 32) * 32)
    return F.interpolate(frames.float() / 255, size=(size, wide), mode="bilinear", antialias=True, align_corners=False)


def cut(
    frames: UInt8[Tensor, "n 3 H W"], middles: Float[Tensor, "n 2"], sides: Float[Tensor, " n"], mirrored: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, "n 3 SIDE SIDE"]:
    """Squares out of frames, in [0, 1]; beyond a frame its edge runs on. middles (x, y) and sides in pixels."""
    height, width = frames.shape[-2:]
    maps = torch.zeros(len(frames), 2, 3, device=frames.device)
    size = torch.tensor([width, height], device=frames.device)
    maps[:, 0, 0], maps[:, 1, 1] = sides / width, sides / height
    maps[:, :, 2] = middles / size * 2 - 1
    if mirrored is not None:
        maps[:, 0, 0] *= 1 - 2 * mirrored.float()
    grid = F.affine_grid(maps, [len(frames), 3, SIDE, SIDE], align_corners=False)
    return F.grid_sample(frames.float() / 255, grid, padding_mode="border", align_corners=False)


def middles_and_sides(boxes: Float[Tensor, "n 4"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    """Middles and longer sides of boxes (left, top, right, bottom)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)
