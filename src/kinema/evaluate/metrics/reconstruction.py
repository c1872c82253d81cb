"""How near a video is to the one it should equal, frame by frame: for autoencoders, and for a student beside its teacher."""

import math

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.errors import InputError
from kinema.evaluate.direction import opencv
from kinema.evaluate.metrics.clip import Clip
from kinema.vae.perceptual import PerceptualDistance

BEST_PSNR = 100.0  # dB said of equal videos
WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian
STEADY_1, STEADY_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
PERCEIVED = 8  # frames at which the perceptual distance is taken, evenly spread


def compared(clip: Clip) -> tuple[UInt8[Tensor, "T H W 3"], UInt8[Tensor, "T H W 3"]]:
    """The video and its reference. Raises InputError where their shapes differ."""
    assert clip.reference is not None
    if clip.frames.shape != clip.reference.shape:
        raise InputError(
            f"the video has the shape {tuple(clip.frames.shape)}, its reference {tuple(clip.reference.shape)}: they must be one"
        )
    return clip.frames, clip.reference


def psnr(clip: Clip) -> float:
    """Peak signal to noise over all pixels of the video, dB; 100 for equal ones."""
    ours, theirs = compared(clip)
    error = float((ours.float() - theirs.float()).square().mean())
    return min(BEST_PSNR, 10 * math.log10(255**2 / error)) if error else BEST_PSNR


def ssim(clip: Clip) -> float:
    """Structural similarity of luma, Gaussian window of 11 pixels, mean over frames (Wang et al. 2004); 1 for equal ones."""
    ours, theirs = compared(clip)
    cv2 = opencv()
    pairs = zip(ours.numpy(), theirs.numpy(), strict=True)
    return float(np.mean([ssim_of(*(cv2.cvtColor(some, cv2.COLOR_RGB2GRAY).astype(np.float64) for some in pair)) for pair in pairs]))


def ssim_of(ours: Float[np.ndarray, "h w"], theirs: Float[np.ndarray, "h w"]) -> float:
    """Of two grey pictures; windows that reach beyond the frame do not count."""
    edge = WINDOW // 2

    def mean(picture: np.ndarray) -> np.ndarray:
        return opencv().GaussianBlur(picture, (WINDOW, WINDOW), SIGMA)[edge:-edge, edge:-edge]

    a, b = mean(ours), mean(theirs)
    spread = mean(ours * ours) - a * a + mean(theirs * theirs) - b * b
    common = mean(ours * theirs) - a * b
    return float(((2 * a * b + STEADY_1) * (2 * common + STEADY_2) / ((a * a + b * b + STEADY_1) * (spread + STEADY_2))).mean())


def lpips_hed(clip: Clip) -> float:
    """Perceptual distance with LPIPS's published weights on HED's VGG16, mean of 8 frames; not comparable with LPIPS; 0 for equal ones."""
    return perceived(clip, clip.judges.perceptual)


def lpips(clip: Clip) -> float:
    """LPIPS (Zhang et al. 2018) with torchvision's VGG16, mean of 8 frames; 0 for equal ones."""
    return perceived(clip, clip.judges.published("vgg16"))


@torch.inference_mode()
def perceived(clip: Clip, distance: PerceptualDistance) -> float:
    places = torch.linspace(0, len(clip.frames) - 1, PERCEIVED).round().long()
    pictures = (rearrange(some[places], "T H W c -> T c H W").float() / 127.5 - 1 for some in compared(clip))
    return float(distance(*pictures).mean())
