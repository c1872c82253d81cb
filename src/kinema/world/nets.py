"""What the judges learn on top of the frozen backbone's two maps of features.

`Finder`: where in a frame subjects are, after Zhou et al. 2019 (arXiv 1904.07850): a heat map of their middles, and their boxes.
`Glimpse`: a map to one vector, by attention over its cells.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinema.media.imagenet import LAST, MIDDLE

FOLD = 2  # cells of the finer map along one side of a coarse cell
MOMENTUM = 0.05  # share of a running mean that one batch renews


@dataclass(frozen=True, kw_only=True)
class GlimpseConfig:
    """Size of the network."""

    cell: int = 256  # width of a cell's vector
    width: int = 512  # D of what comes out
    looks: int = 4  # places at which it looks at once
    dropout: float = 0.2


class Glimpse(nn.Module):
    """Maps of features to one vector a frame: what was seen at the places worth a look, and on the whole."""

    def __init__(self, config: GlimpseConfig):
        super().__init__()
        channels = LAST + FOLD**2 * MIDDLE
        self.norm = nn.BatchNorm2d(channels, affine=False, momentum=MOMENTUM)
        self.drop = nn.Dropout(config.dropout)
        self.enter, self.attention = nn.Linear(channels, config.cell), nn.Linear(config.cell, config.looks)
        self.gather = nn.Linear((config.looks + 1) * config.cell, config.width)
        self.leave = nn.LayerNorm(config.width)

    def forward(self, middle: Float[Tensor, "B 112 h16 w16"], last: Float[Tensor, "B 320 h32 w32"]) -> Float[Tensor, "B D"]:
        fine = rearrange(middle, "B c (h y) (w x) -> B (c y x) h w", y=FOLD, x=FOLD)
        cells = rearrange(self.norm(torch.cat([last, fine], 1)), "B c h w -> B (h w) c")
        cells = F.gelu(self.enter(self.drop(cells)))
        looks = self.attention(cells).float().softmax(dim=1).to(cells.dtype)
        seen = torch.einsum("B p n, B p d -> B n d", looks, cells)
        whole = cells.mean(dim=1, keepdim=True)
        vector = rearrange(torch.cat([seen, whole], dim=1), "B n d -> B (n d)")
        return self.leave(F.gelu(self.gather(self.drop(vector))).float())


class Found(NamedTuple):
    """What a Finder says of every cell of the finer map."""

    heat: Float[Tensor, "B h w"]  # logit: the middle of a subject
    boxes: Float[Tensor, "B 4 h w"]  # x and y of its middle against the cell's own, logarithms of width and height; all in cells


class Finder(nn.Module):
    """Where subjects are, whoever they are."""

    def __init__(self, width: int = 128, dropout: float = 0.1):
        super().__init__()
        self.norm = nn.BatchNorm2d(MIDDLE + LAST, affine=False, momentum=MOMENTUM)
        self.enter, self.drop = nn.Conv2d(MIDDLE + LAST, width, 1), nn.Dropout2d(dropout)
        self.near, self.leave = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 5, 1)
        assert self.leave.bias is not None
        nn.init.constant_(self.leave.bias[:1], -3.0)  # few cells are a middle

    def forward(self, middle: Float[Tensor, "B 112 h16 w16"], last: Float[Tensor, "B 320 h32 w32"]) -> Found:
        coarse = F.interpolate(last, size=middle.shape[-2:], mode="bilinear", align_corners=False)
        cells = F.gelu(self.enter(self.drop(self.norm(torch.cat([middle, coarse], 1)))))
        heat, boxes = self.leave(cells + F.gelu(self.near(cells))).float().split((1, 4), dim=1)
        return Found(heat[:, 0], boxes)


def best_boxes(found: Found, count: int, cell: float) -> tuple[Float[Tensor, "B k 4"], Float[Tensor, "B k"]]:
    """The `count` hottest cells, each no cooler than the eight around it: their boxes (left, top, right, bottom) and heat in [0, 1].

    cell: its side in pixels.
    """
    heat = found.heat.sigmoid()
    peaks = heat * (F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat)
    hot, places = peaks.flatten(1).topk(count, dim=1)
    row, column = places // heat.shape[2], places % heat.shape[2]
    x, y, width, height = found.boxes.flatten(2).gather(2, places[:, None].expand(-1, 4, -1)).unbind(1)
    middle = torch.stack([column + 0.5 + x, row + 0.5 + y], dim=-1)
    half = torch.stack([width, height], dim=-1).clamp(-1, 4).exp() / 2
    return torch.cat([middle - half, middle + half], dim=-1) * cell, hot
