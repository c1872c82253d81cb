"""Where a clip shows its subjects: boxes in pixels, seen through a view, as the share of each latent cell that they cover.

Training may count these cells more than the rest (`task.focus`): what is small in the picture is otherwise small in the loss.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinema.data.clips import Clip, View
from kinema.errors import InputError
from kinema.media.video import VideoInfo
from kinema.shapes import SPACE_STRIDE, TIME_STRIDE

Boxes = Float[Tensor, "N T 4"]
"""Left, top, right, bottom of each subject in pixels, frame by frame; they may reach beyond the frame."""


def focus_of(clip: Clip, info: VideoInfo, view: View) -> Float[Tensor, "t h w"] | None:
    """The share of each latent cell that subjects cover; None where nothing is known of them.

    Raises InputError where the boxes are fewer than the clip's frames.
    """
    boxes = clip.boxes()
    if boxes is None:
        return None
    chosen = boxes[:, view.start : view.start + (view.frames - 1) * view.stride + 1 : view.stride]
    if chosen.shape[1] < view.frames:
        raise InputError(f"{clip.id} has boxes of {boxes.shape[1]} frames, and {info.frames} frames: give one box a frame for each subject")
    return coverage(through(chosen, info.height, info.width, view), *view.size)


def through(boxes: Boxes, height: int, width: int, view: View) -> Boxes:
    """Boxes of a clip of height x width in pixels of the view, which is resized and cut as `clips.fitted` does."""
    (tall, wide), (top, left) = view.placed(height, width)
    across, down = wide / width, tall / height
    return boxes * boxes.new_tensor([across, down, across, down]) - boxes.new_tensor([left, top, left, top])


def coverage(boxes: Boxes, height: int, width: int) -> Float[Tensor, "t h w"]:
    """The share of each cell that the box of some subject covers, a mean over the frames of its latent frame."""
    left, top, right, bottom = boxes.unbind(-1)
    shares = torch.einsum("nth,ntw->nthw", overlap(top, bottom, height), overlap(left, right, width)).amax(0)
    return torch.cat([shares[:1], rearrange(shares[1:], "(t four) h w -> t four h w", four=TIME_STRIDE).mean(1)])


def overlap(low: Float[Tensor, "N T"], high: Float[Tensor, "N T"], size: int) -> Float[Tensor, "N T cells"]:
    """The share of each cell along one axis that lies between the two."""
    edge = torch.arange(0, size, SPACE_STRIDE, dtype=low.dtype)
    reach = torch.minimum(high[..., None], edge + SPACE_STRIDE) - torch.maximum(low[..., None], edge)
    return (reach / SPACE_STRIDE).clamp(0, 1)
