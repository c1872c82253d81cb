"""How frames look, and whether what is in them stays itself."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinema.curation.filters import aesthetic, clarity, quality
from kinema.evaluate.metrics.clip import Clip

ROOM = 0.1  # frame heights around the found subject that count as subject
NEAR = 4  # lines to either side with which a seam is compared
GRID = 8  # pixels of a latent cell: tiles meet at its multiples
PERSISTENT = 0.3  # a line's step is what all but this share of its pixels reach: an edge of the scene seldom runs the whole way
NO_EDGES = 8.0  # pixels of blur said of a picture without any edge


def brisque(clip: Clip) -> float:
    """Technical quality without a reference: about 0 (clean) to 100 (ruined), median of 3 frames (Mittal et al. 2012)."""
    return quality.brisque(clip.frames.numpy())


def colour_contrast(clip: Clip) -> float:
    """Half colourfulness, half contrast, [0, 1]: a stand-in for an aesthetic predictor that knows nothing of composition."""
    return aesthetic.colour_contrast(clip.frames.numpy())


def laion_aesthetic(clip: Clip) -> float:
    """LAION's predictor on CLIP ViT-L/14, 1 to 10, the lowest of 4 frames (Schuhmann 2022)."""
    return clip.judges.published("laion").score(clip.frames.numpy())


def edge_blur(clip: Clip) -> float:
    """Sharpness: the blur of the sharper edges, in pixels of a frame (Zhuo & Sim 2011); 8 where there is no edge at all."""
    return min(NO_EDGES, clarity.blur(clip.frames.numpy()) or NO_EDGES)


def subject_consistency_effnet(clip: Clip) -> float:
    """VBench's arithmetic with EfficientNet-Lite0's vectors of the found subject's cells: mean over frames of half the cosine to the
    frame before and half that to the first, [0, 1]."""
    return consistency(cells(clip, inside=True))


def background_consistency_effnet(clip: Clip) -> float:
    """The same with the cells outside the found subject."""
    return consistency(cells(clip, inside=False))


def consistency(vectors: Float[Tensor, "n d"]) -> float:
    """Of vectors that follow one another: 1 where all point the same way."""
    unit = F.normalize(vectors.float(), dim=-1)
    before, first = (unit[1:] * unit[:-1]).sum(dim=1), unit[1:] @ unit[0]
    return float((before.clamp(min=0) + first.clamp(min=0)).mean() / 2)


@torch.inference_mode()
def cells(clip: Clip, inside: bool) -> Float[Tensor, "LOOKS 112"]:
    """Mean of the backbone's finer cells within or without the found subject's box; of all cells where none are."""
    maps = clip.sight.middle
    height, width = maps.shape[-2:]
    aspect = clip.frames.shape[2] / clip.frames.shape[1]
    left, top, right, bottom = (clip.sight.boxes[:, 0] + torch.tensor([-ROOM, -ROOM, ROOM, ROOM])).T[..., None, None]
    x, y = (torch.arange(width) + 0.5) / width * aspect, ((torch.arange(height) + 0.5) / height)[:, None]
    chosen = ((x > left) & (x < right) & (y > top) & (y < bottom)) == inside
    chosen = torch.where(chosen.any(dim=(1, 2), keepdim=True), chosen, True)
    return (maps * chosen[:, None]).sum(dim=(2, 3)) / chosen.sum(dim=(1, 2))[:, None]


def subject_consistency_dino(clip: Clip) -> float:
    """VBench's subject consistency: DINO's class token (Caron et al. 2021), here of 9 evenly spread frames, [0, 1]."""
    return consistency(clip.judges.published("dino").features(clip.looked))


def background_consistency_clip(clip: Clip) -> float:
    """VBench's background consistency: CLIP's image vector (Radford et al. 2021), here of 9 evenly spread frames, [0, 1]."""
    return consistency(clip.judges.published("clip").features(clip.looked))


def imaging_quality_musiq(clip: Clip) -> float:
    """VBench's imaging quality: MUSIQ's opinion score over 100, here of 9 evenly spread frames (Ke et al. 2021), [0, 1]."""
    return clip.judges.published("musiq").score(clip.looked) / 100


def seams(clip: Clip) -> float:
    """Artefacts at the seams of tiles: straight lines across the whole frame where tiles can meet (every 8 pixels, a latent cell), at which
    brightness steps more than beside them. The strongest line's excess, less that of the strongest line where no tiles can meet, which
    is what straight edges of the scene reach anyway; in levels of 255; 0: none. Found in 9 evenly spread frames."""
    luma = clip.looked.float().mean(dim=1)
    return max(grid_excess(luma.diff(dim=2).abs()), grid_excess(luma.diff(dim=1).abs().mT))


def grid_excess(steps: Float[Tensor, "LOOKS h w"]) -> float:
    """Of the lines between columns: how far the strongest on the grid stands above the strongest off it."""
    excess = line_excess(np.quantile(steps.flatten(0, 1).numpy(), PERSISTENT, axis=0))
    on = np.arange(len(excess)) % GRID == GRID - 1
    return max(0.0, float(excess[on].max(initial=0) - excess[~on].max(initial=0)))


def line_excess(steps: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How far each line stands above the steepest near it; 0 for those that do not."""
    near = np.stack([np.roll(steps, shift) for shift in range(-NEAR, NEAR + 1) if shift]).max(axis=0)
    excess = np.maximum(steps - near, 0)
    excess[:NEAR] = excess[len(excess) - NEAR :] = 0
    return excess
