"""What is known of a face frame by frame, as a door of the transformer: numbers a frame -> something added to every token of its latent."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.shapes import TIME_STRIDE


def grouped(track: Float[Tensor, "B T *c"]) -> Float[Tensor, "B t 4 *c"]:
    """The frames of each latent; the first, which stands alone, is repeated. T: 1 + a multiple of 4."""
    led = torch.cat([track[:, :1].repeat_interleave(TIME_STRIDE - 1, 1), track], 1)
    return led.unflatten(1, (-1, TIME_STRIDE))


class TrackAdapter(nn.Module):
    """Numbers a frame through the channels door; fresh, it adds zero."""

    def __init__(self, values: int, width: int, hidden: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_STRIDE * (values + 1), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.out = nn.Linear(hidden, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, track: Float[Tensor, "B T c"], known: Bool[Tensor, " B"], tokens: int) -> Float[Tensor, "B L D"]:
        """known: which samples have a track; the others' is not read. tokens: of the video, L."""
        said = known[:, None, None].to(track).expand(*track.shape[:2], 1)
        found = self.out(self.mlp(rearrange(grouped(torch.cat([track * said, said], 2)), "B t f c -> B t (f c)")))
        return found.repeat_interleave(tokens // found.shape[1], 1)
