"""The critic: tells patches of real clips from patches of reconstructions, by look and by motion.

A PatchGAN (Isola et al. 2016, arXiv 1611.07004) in three axes: every output number judges a patch of 38 pixels and 21 frames
at three levels. It serves images too, as clips of one frame, and has no batch statistics: one sample never sees another.
"""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
GROUPS = 8


class PatchCritic(nn.Module):
    """Convolutions that halve the picture each time, and the frames from the second on."""

    def __init__(self, width: int = 48, levels: int = 3):
        """width: channels of the first level, a multiple of 8; each further level doubles them, up to eight times."""
        super().__init__()
        widths = [3, *(width * min(2**level, 8) for level in range(levels))]
        self.strides = [1 if level == 0 else 2 for level in range(levels)]  # in time
        self.convs = nn.ModuleList(
            nn.Conv3d(a, b, 4, (t, 2, 2), bias=False) for (a, b), t in zip(pairwise(widths), self.strides, strict=True)
        )
        self.norms = nn.ModuleList([nn.Identity(), *(nn.GroupNorm(GROUPS, b) for b in widths[2:])])
        self.score = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, clip: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B 1 _ _ _"]:
        """A score a patch; clip: in about [-1, 1], sides of 16 pixels or more, any number of frames."""
        for conv, norm, time_stride in zip(self.convs, self.norms, self.strides, strict=True):
            clip = F.leaky_relu(norm(conv(surround(clip, time_stride))), SLOPE)
        return self.score(clip)


def surround(clip: Float[Tensor, "B C T H W"], time_stride: int) -> Float[Tensor, "B C _ _ _"]:
    """Pad for a kernel of four: one position a side in the picture, its copies in time; the last window of a stride is filled."""
    before, after = (1, 2) if time_stride == 1 else (1, 1 + clip.shape[2] % 2)
    return F.pad(F.pad(clip, (1, 1, 1, 1, 0, 0)), (0, 0, 0, 0, before, after), mode="replicate")
