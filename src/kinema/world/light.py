"""Light as a colour grade on finished frames: cheap, differentiable, the same on CPU and CUDA."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError

RGB = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Light:
    """A grade: saturation, then gain and lift per channel, then contrast, then light that varies over the frame."""

    phrases: tuple[str, ...]  # "at golden sunset"
    lighting: tuple[str, ...]  # sentences for the caption's lighting field
    atmosphere: tuple[str, ...]  # words for the caption's atmosphere field
    gain: RGB = (1.0, 1.0, 1.0)
    lift: RGB = (0.0, 0.0, 0.0)
    saturation: float = 1.0
    contrast: float = 0.0  # 0 changes nothing, 1 is strong
    edge: RGB = (1.0, 1.0, 1.0)  # factor at the corners; 1 at the middle
    left: RGB = (1.0, 1.0, 1.0)  # factor at the left border, fading to the middle
    right: RGB = (1.0, 1.0, 1.0)


LIGHTS: dict[str, Light] = {
    "daylight": Light(
        phrases=("in daylight", "on a bright day", "by day"),
        lighting=("Bright natural daylight.", "Clear daylight."),
        atmosphere=("cheerful and fresh", "bright and lively"),
    ),
    "golden sunset": Light(
        phrases=("at sunset", "in the golden evening light", "during a golden sunset"),
        lighting=("Warm golden sunset light.", "Low golden evening sun."),
        atmosphere=("warm and dreamy", "romantic and calm"),
        gain=(1.08, 0.88, 0.66),
        lift=(0.08, 0.025, 0.0),
        saturation=1.05,
        edge=(0.92, 0.78, 0.74),
    ),
    "pink dawn": Light(
        phrases=("at dawn", "in the pink morning light", "at sunrise"),
        lighting=("Soft pink light of dawn.", "Rosy sunrise light."),
        atmosphere=("tender and quiet", "soft and hopeful"),
        gain=(0.98, 0.78, 0.88),
        lift=(0.1, 0.04, 0.1),
        saturation=0.9,
    ),
    "overcast": Light(
        phrases=("on a cloudy day", "under a gray sky", "in overcast light"),
        lighting=("Flat gray light of an overcast day.", "Soft light under clouds."),
        atmosphere=("calm and muted", "quiet and a little gloomy"),
        gain=(0.76, 0.8, 0.86),
        lift=(0.05, 0.055, 0.065),
        saturation=0.5,
    ),
    "moonlit night": Light(
        phrases=("at night", "by moonlight", "on a moonlit night"),
        lighting=("Cool blue moonlight.", "Dim moonlight at night."),
        atmosphere=("mysterious and quiet", "silent and magical"),
        gain=(0.4, 0.52, 0.82),
        lift=(0.015, 0.03, 0.1),
        saturation=0.72,
        contrast=0.15,
        edge=(0.55, 0.6, 0.75),
    ),
    "neon glow": Light(
        phrases=("in neon light", "lit by neon signs", "in pink and blue neon light"),
        lighting=("Pink and cyan neon light from both sides.", "Colorful neon glow."),
        atmosphere=("electric and modern", "vivid and energetic"),
        gain=(0.95, 0.82, 1.05),
        lift=(0.03, 0.0, 0.06),
        saturation=1.2,
        contrast=0.3,
        left=(1.3, 0.62, 1.15),
        right=(0.58, 1.05, 1.3),
    ),
    "bright studio": Light(
        phrases=("in bright studio light", "under studio lights"),
        lighting=("Even bright studio light.", "Clean studio lighting."),
        atmosphere=("clean and polished", "crisp and simple"),
        gain=(1.06, 1.06, 1.06),
        lift=(0.02, 0.02, 0.02),
        edge=(0.9, 0.9, 0.92),
    ),
    "starlight": Light(
        phrases=("by starlight", "in the light of the stars"),
        lighting=("Pale starlight.", "Cool light from far stars."),
        atmosphere=("vast and silent", "wondrous and still"),
        gain=(0.95, 0.97, 1.04),
        edge=(0.85, 0.85, 0.92),
    ),
    "underwater light": Light(
        phrases=("in blue underwater light", "in light that falls through the water"),
        lighting=("Blue light that falls through the water.", "Soft underwater light."),
        atmosphere=("dreamy and weightless", "calm and deep"),
        gain=(0.86, 0.98, 1.03),
        lift=(0.0, 0.02, 0.03),
    ),
    "firelight": Light(
        phrases=("in the glow of lava", "in red firelight"),
        lighting=("Red glow of lava.", "Hot orange firelight."),
        atmosphere=("fiery and dangerous", "wild and hot"),
        gain=(1.1, 0.88, 0.78),
        lift=(0.04, 0.01, 0.0),
        contrast=0.15,
        edge=(0.8, 0.7, 0.7),
    ),
    "soft light": Light(
        phrases=("in soft light", "in gentle light"),
        lighting=("Soft diffuse light.", "Gentle even light."),
        atmosphere=("calm and gentle", "peaceful"),
        gain=(0.95, 0.95, 0.96),
        lift=(0.045, 0.04, 0.04),
        saturation=0.95,
        contrast=-0.12,
    ),
    "warm lamp": Light(
        phrases=("in warm lamp light", "by lamplight", "in cozy light"),
        lighting=("Warm lamp light.", "A cozy yellow lamp glow."),
        atmosphere=("cozy and homely", "warm and snug"),
        gain=(1.05, 0.88, 0.66),
        lift=(0.035, 0.015, 0.0),
        contrast=0.1,
        edge=(0.66, 0.54, 0.48),
    ),
    "spotlight": Light(
        phrases=("in a spotlight", "under a bright spotlight"),
        lighting=("A single bright spotlight in the dark.", "A strong spotlight."),
        atmosphere=("dramatic and tense", "theatrical"),
        gain=(1.1, 1.08, 1.0),
        contrast=0.25,
        edge=(0.14, 0.13, 0.2),
    ),
}


def find_light(name: str) -> Light:
    """Raises InputError for an unknown light."""
    if name not in LIGHTS:
        raise InputError(f"light={name!r} is unknown: use one of {', '.join(LIGHTS)}")
    return LIGHTS[name]


def _falloff(light: Light, height: int, width: int) -> Tensor:
    """The factor [3 H W] by which light varies over the frame."""
    v = torch.linspace(-1, 1, height)[None, :, None]
    u = torch.linspace(-1, 1, width)[None, None, :]
    edge, left, right = (torch.tensor(color)[:, None, None] for color in (light.edge, light.left, light.right))
    far = ((u**2 + v**2) / 2).clamp(0, 1) ** 0.8
    sides = (left - 1) * (-u).clamp(min=0) + (right - 1) * u.clamp(min=0)
    return (1 + (edge - 1) * far) * (1 + sides)


@lru_cache(maxsize=64)
def _grade(name: str, height: int, width: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Colour matrix [3 3], lift [3 1 1] and falloff [3 H W] of a light."""
    light = find_light(name)
    luma = torch.tensor([[0.299, 0.587, 0.114]]).expand(3, 3)
    matrix = torch.tensor(light.gain)[:, None] * (light.saturation * torch.eye(3) + (1 - light.saturation) * luma)
    lift = torch.tensor(light.lift)[:, None, None]
    return matrix.to(device), lift.to(device), _falloff(light, height, width).to(device)


def apply_light(frames: Float[Tensor, "F 3 H W"], name: str) -> Float[Tensor, "F 3 H W"]:
    """Frames in [0, 1] as a light of LIGHTS shows them, in [0, 1]."""
    light = find_light(name)
    if name == "daylight":
        return frames
    matrix, lift, falloff = _grade(name, *frames.shape[-2:], str(frames.device))
    graded = torch.matmul(matrix, frames.flatten(2)).view_as(frames)
    graded.add_(lift).mul_(falloff).clamp_(0, 1)
    if light.contrast:
        bend = (graded - 0.5).mul_(graded).mul_(1 - graded)
        graded.add_(bend, alpha=2 * light.contrast)
    return graded
