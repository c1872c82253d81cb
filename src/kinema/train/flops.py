"""How many floating-point operations a transformer's step takes: matrix products and attention, two a multiplication and addition.

Biases, norms, activations and recomputation are not counted, as is usual for model FLOPs.
"""

from kinema.dit.layers import SINUSOID
from kinema.dit.model import DiTConfig
from kinema.dit.refiner import MLP_RATIO

BACKWARD = 2  # a backward pass differentiates each product twice


def forward_flops(config: DiTConfig, batch: int, tokens: int, text: int, given: bool = True) -> float:
    """Of one forward pass.

    tokens: L of video; text: padded text tokens; given: whether frames may be given, which doubles the modulation of video.
    """
    D, hidden, both, vectors = config.width, config.hidden, tokens + text, 1 + given
    patch = config.patch[0] * config.patch[1] * config.patch[2]
    embed = tokens * config.in_channels * patch * D + tokens * D * config.out_channels * patch + 2 * D * D  # and the last modulation
    conditions = vectors * (scalar(D) + pooled(config))  # what is given has time 0
    double = both * (4 * D * D + 2 * D * hidden) + (vectors + 1) * 6 * D * D + 2 * both * both * D
    single = both * (4 * D * D + 2 * D * hidden) + vectors * 3 * D * D + 2 * both * both * D
    macs = embed + conditions + refiner(config, text) + config.double_blocks * double + config.single_blocks * single
    return 2.0 * batch * macs


def training_flops(config: DiTConfig, batch: int, tokens: int, text: int) -> float:
    """Of one forward and backward pass."""
    return (1 + BACKWARD) * forward_flops(config, batch, tokens, text)


def scalar(width: int) -> int:
    return SINUSOID * width + width * width


def pooled(config: DiTConfig) -> int:
    return config.pooled_width * config.width + config.width**2


def refiner(config: DiTConfig, text: int) -> int:
    D = config.width
    block = text * (4 * D * D + 2 * MLP_RATIO * D * D) + 2 * D * D + 2 * text * text * D
    condition = scalar(D) + config.text_width * D + D * D
    return text * config.text_width * D + condition + config.refiner_blocks * block
