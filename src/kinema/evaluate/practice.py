"""Pictures for the recogniser to learn from, made on the device that learns: a sprite, anywhere, over anything, in any state.

Everything is drawn per batch from the bank of all sprite frames; nothing is stored. Pictures are float in [0, 1].
"""

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from kinema.world.light import LIGHTS, apply_light
from kinema.world.sprites import SpriteBank, SpritePack
from kinema.world.style import STYLES

LARGE = 96  # pixels of the larger bank, the other has half; a sprite is drawn from the one nearer to its size on the picture
LARGE_SCALES, SMALL_SCALES = (0.55, 1.15), (0.24, 0.6)  # height of a sprite's tile in frame heights
TURNED, SQUEEZED, GREY, CODED, LOW_RES, CLUTTERED = 0.12, 0.12, 0.15, 0.5, 0.4, 0.3  # shares of pictures (low_res: of batches)


def halved(bank: SpriteBank) -> SpriteBank:
    """Every frame at half the size."""
    small = [F.avg_pool2d(frames.float(), 2).round().to(torch.uint8) for frames in bank.frames.split(512)]
    return SpriteBank(torch.cat(small), bank.starts, bank.counts)


@dataclass(frozen=True)
class Sprites:
    """The frames at two sizes, on the device that learns: 1.2 GB for the whole pack."""

    large: SpriteBank
    small: SpriteBank

    @classmethod
    def of(cls, pack: SpritePack, device: torch.device | str) -> "Sprites":
        large = pack.all_frames(LARGE, device)
        return cls(large, halved(large))

    @property
    def device(self) -> torch.device:
        return self.large.frames.device


def uniform(count: int, low: float, high: float, device: torch.device) -> Float[Tensor, "B 1 1 1"]:
    return torch.empty(count, 1, 1, 1, device=device).uniform_(low, high)


def chance(count: int, share: float, device: torch.device) -> Float[Tensor, "B 1 1 1"]:
    """1 for about `share` of the pictures, 0 for the others."""
    return (torch.rand(count, 1, 1, 1, device=device) < share).float()


def placements(count: int, scales: tuple[float, float], device: torch.device) -> Float[Tensor, "B 2 3"]:
    """Random maps from picture to sprite coordinates (both in [-1, 1]): size, place, mirror, turn, squeeze.

    At least half of the sprite stays in the picture.
    """
    draw = lambda low, high: uniform(count, low, high, device).flatten()  # noqa: E731
    scale = torch.exp(draw(math.log(scales[0]), math.log(scales[1])))
    angle = draw(-0.2, 0.2) + chance(count, TURNED, device).flatten() * draw(-math.pi, math.pi)
    squeeze = 1 - chance(count, SQUEEZED, device).flatten() * draw(0.0, 0.6)
    mirror = draw(-1.0, 1.0).sign()
    reach = 1 - 0.4 * scale  # how far the middle may lie from the picture's middle
    x, y = draw(-1.0, 1.0) * reach, draw(-1.0, 1.0) * reach
    cos, sin = angle.cos() / scale, angle.sin() / scale
    across = mirror / squeeze
    rows = [cos * across, sin * across, -(cos * x + sin * y) * across, -sin, cos, sin * x - cos * y]
    return rearrange(torch.stack(rows), "(r c) B -> B r c", r=2)


def drawn(bank: SpriteBank, picks: Int[Tensor, "B"], maps: Float[Tensor, "B 2 3"], size: int) -> Float[Tensor, "B 4 h w"]:
    """Bank frames placed on empty pictures: premultiplied RGBA in [0, 1]."""
    grid = F.affine_grid(maps, [len(picks), 4, size, size], align_corners=False)
    return F.grid_sample(bank.frames[picks].float() / 255, grid, align_corners=False)


def pick_frames(bank: SpriteBank, subjects: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """A random frame of each subject, as a place in the bank."""
    moment = torch.rand(len(subjects), device=subjects.device)
    return bank.starts[subjects] + (moment * bank.counts[subjects]).long()


def clouds(count: int, cells: int, size: int, channels: int, device: torch.device) -> Float[Tensor, "B c h w"]:
    """Smooth noise in [0, 1] with about `cells` lumps across."""
    coarse = torch.rand(count, channels, cells, cells, device=device)
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)


def patches(count: int, size: int, device: torch.device) -> Float[Tensor, "B 3 h w"]:
    """Two colours that meet along a hard wavy edge: a horizon, a hill, a wall."""
    height = torch.linspace(0, 1, size, device=device)[:, None]
    rough = clouds(count, 5, size, 1, device) * uniform(count, 0.0, 1.0, device)
    inside = (height * uniform(count, 0.0, 2.0, device) + rough > uniform(count, 0.3, 1.3, device)).float()
    return torch.lerp(clouds(count, 2, size, 3, device), clouds(count, 2, size, 3, device), inside)


def backgrounds(sprites: Sprites, count: int, size: int) -> Float[Tensor, "B 3 h w"]:
    """Plain colours, gradients, noise of several sizes, patches, and enlarged pieces of other sprites."""
    device = sprites.device
    plain = torch.rand(count, 3, 1, 1, device=device)
    base = torch.lerp(plain, patches(count, size, device), chance(count, 0.6, device))
    for cells in (2, 6, 16, 48):
        strength = uniform(count, 0.0, 0.5, device) * chance(count, 0.5, device)
        base = base + strength * (clouds(count, cells, size, 3, device) - 0.5)
    subjects = torch.randint(len(sprites.small.starts), (count,), device=device)
    clutter = drawn(sprites.small, pick_frames(sprites.small, subjects), placements(count, (1.5, 4.0), device), size)
    clutter = clutter * chance(count, CLUTTERED, device)
    return (base * (1 - clutter[:, 3:]) + clutter[:, :3]).clamp(0, 1)


def staged(pictures: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
    """A third of the pictures in one of the world's lights, a quarter in one of its styles; which ones differs from batch to batch."""
    lit, styled = random.randrange(3), random.randrange(4)
    pictures[lit::3] = apply_light(pictures[lit::3], random.choice(list(LIGHTS)))
    pictures[styled::4] = STYLES[random.choice(list(STYLES))].apply(pictures[styled::4])
    return pictures.clamp(0, 1)


def graded(pictures: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
    """Another light: gain a channel, gamma, contrast, saturation down to grey, a vignette."""
    count, device = len(pictures), pictures.device
    gain = torch.empty(count, 3, 1, 1, device=device).uniform_(0.75, 1.25) * uniform(count, 0.6, 1.25, device)
    lit = (pictures * gain).clamp(1e-4, 1) ** torch.exp(uniform(count, -0.4, 0.4, device))
    grey = lit.mean(dim=1, keepdim=True)
    saturation = uniform(count, 0.5, 1.4, device) * (1 - chance(count, GREY, device))
    lit = torch.lerp(grey.expand_as(lit), lit, saturation)
    return ((lit - 0.5) * uniform(count, 0.7, 1.25, device) + 0.5 + uniform(count, -0.1, 0.1, device)).clamp(0, 1)


def softened(pictures: Float[Tensor, "B 3 h w"], size: int) -> Float[Tensor, "B 3 h w"]:
    """Down to `size` pixels and back, as a small video is seen."""
    small = F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, size=pictures.shape[-2:], mode="bilinear", align_corners=False)


def cosines(device: torch.device) -> Float[Tensor, "8 8"]:
    """The orthonormal 8-point discrete cosine transform."""
    place = torch.arange(8, device=device).float()
    rows = torch.cos(math.pi / 8 * (place + 0.5) * place[:, None]) * 0.5
    rows[0] /= math.sqrt(2)
    return rows


def coded(pictures: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
    """What a coarse block codec leaves: 8x8 cosine coefficients rounded, the finer the detail the coarser."""
    count, device = len(pictures), pictures.device
    basis = cosines(device)
    blocks = rearrange(pictures, "B c (h y) (w x) -> B c h w y x", y=8, x=8)
    order = torch.arange(8, device=device)
    step = uniform(count, 0.002, 0.03, device)[..., None, None] * (1 + order[:, None] + order)
    rounded = ((basis @ blocks @ basis.T) / step).round() * step
    return rearrange(basis.T @ rounded @ basis, "B c h w y x -> B c (h y) (w x)").clamp(0, 1)


def worn(pictures: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
    """The states in which a video may show its subject."""
    count, device = len(pictures), pictures.device
    pictures = graded(staged(pictures))
    if torch.rand(()) < LOW_RES:
        pictures = softened(pictures, int(torch.randint(40, pictures.shape[-1], ())))
    pictures = torch.lerp(pictures, coded(pictures), chance(count, CODED, device))
    return pictures + torch.randn_like(pictures) * uniform(count, 0.0, 0.04, device)


def practice_batch(sprites: Sprites, count: int, size: int) -> tuple[Float[Tensor, "B 3 h w"], Int[Tensor, "B"]]:
    """Pictures of size x size in about [0, 1], and which subject each shows. count: even."""
    device = sprites.device
    subjects = torch.randint(len(sprites.large.starts), (count,), device=device)
    halves = zip((sprites.large, sprites.small), (LARGE_SCALES, SMALL_SCALES), subjects.chunk(2), strict=True)
    layers = [drawn(bank, pick_frames(bank, some), placements(len(some), scales, device), size) for bank, scales, some in halves]
    layer = torch.cat(layers)
    pictures = layer[:, :3] + (1 - layer[:, 3:]) * backgrounds(sprites, count, size)
    return worn(pictures), subjects
