"""Weather as overlays: particles that fall, rise or drift in front of the frames.

Every particle is a product of a bump across and a bump down, so that drawing all of them is one small matrix product
a frame: exact to a fraction of a pixel, the same on CPU and CUDA, and a pure function of the random numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError

FPS = 12
Paths = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # u, v, half width, half height: each [F n], in frame heights
Overlay = Callable[[int, int, int, np.random.Generator, str], Tensor | None]


@dataclass(frozen=True, kw_only=True)
class Weather:
    """An overlay and the words for it."""

    phrases: tuple[str, ...]  # "in the rain"; empty for clear weather
    atmosphere: tuple[str, ...]
    overlay: Overlay  # (frames, height, width, random numbers, device) -> premultiplied RGBA [F 4 H W]


def splat(paths: Paths, height: int, width: int, device: str) -> Float[Tensor, "F H W"]:
    """The sum of the particles' bumps, each 1 at its middle and 0.61 at its half width."""
    u, v, half_u, half_v = (torch.from_numpy(np.ascontiguousarray(p, np.float32)).to(device)[..., None] for p in paths)
    across = (torch.arange(width, device=device) + 0.5 - width / 2) / height
    down = (torch.arange(height, device=device) + 0.5) / height - 0.5
    smallest = 0.45 / height  # below half a pixel a bump would flicker
    half_u, half_v = half_u.clamp(min=smallest), half_v.clamp(min=smallest)
    columns = torch.exp(-0.5 * ((across - u) / half_u) ** 2)  # [F n W]
    rows = torch.exp(-0.5 * ((down - v) / half_v) ** 2)  # [F n H]
    return torch.bmm(rows.transpose(1, 2), columns)


def tinted(alpha: Float[Tensor, "F H W"], color: tuple[float, float, float]) -> Float[Tensor, "F 4 H W"]:
    """Premultiplied RGBA of one colour."""
    return torch.stack([alpha * c for c in color] + [alpha], 1)


def over(top: Float[Tensor, "F 4 H W"], below: Float[Tensor, "F 4 H W"]) -> Float[Tensor, "F 4 H W"]:
    return top + below * (1 - top[:, 3:])


def seconds(frames: int) -> np.ndarray:
    """The time of each frame [F 1]."""
    return np.arange(frames)[:, None] / FPS


def wrap(position: np.ndarray, span: float) -> np.ndarray:
    """Positions that leave on one side enter on the other; `span` is wider than the frame."""
    return (position + span / 2) % span - span / 2


def fall(
    rng: np.random.Generator, frames: int, aspect: float, count: int, speed: tuple[float, float], drift: float, sway: float
) -> tuple[np.ndarray, ...]:
    """Particles that fall (speed in frame heights a second) with a drift to the side and a sway: u, v [F n] and turn [F n]."""
    t, n = seconds(frames), round(count * aspect)
    start_u, start_v = rng.uniform(-0.6, 0.6, n) * aspect, rng.uniform(-0.6, 0.6, n)
    velocity, phase, beat = rng.uniform(*speed, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(2.0, 4.0, n)
    turn = phase + beat * t
    return wrap(start_u + drift * velocity * t + sway * np.sin(turn), 1.2 * aspect), wrap(start_v + velocity * t, 1.2), turn


def rain(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> Tensor:
    """Slanted streaks under a grey-blue veil."""
    aspect = width / height
    u, v, _ = fall(rng, frames, aspect, 46, (1.5, 2.3), 0.12, 0.0)
    along = np.linspace(-0.026, 0.026, 3)
    u, v = (np.concatenate([base + slope * a for a in along], 1) for base, slope in ((u, 0.12), (v, 1.0)))
    size = np.ones_like(u)
    streaks = (0.75 * splat((u, v, 0.0035 * size, 0.013 * size), height, width, device)).clamp(0, 0.75)
    veil = torch.full((frames, height, width), 0.14, device=device)
    return over(tinted(streaks, (0.85, 0.92, 1.0)), tinted(veil, (0.35, 0.42, 0.52)))


def snowfall(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> Tensor:
    """Round flakes, near ones larger and faster."""
    aspect = width / height
    total: Tensor | float = 0.0
    for count, radius, speed in ((40, 0.006, (0.1, 0.16)), (22, 0.0105, (0.18, 0.28))):
        u, v, _ = fall(rng, frames, aspect, count, speed, 0.25, 0.02)
        size = np.broadcast_to(radius * rng.uniform(0.8, 1.2, u.shape[1]), u.shape)
        total = total + splat((u, v, size, size), height, width, device)
    return tinted((1.5 * torch.as_tensor(total)).clamp(0, 0.95), (1.0, 1.0, 1.0))


def fog(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> Tensor:
    """A pale veil with slow banks of mist."""
    aspect, t, n = width / height, seconds(frames), 7
    u = wrap(rng.uniform(-1, 1, n) * aspect + rng.uniform(0.04, 0.1, n) * rng.choice([-1, 1]) * t, 2.6 * aspect)
    v = np.broadcast_to(rng.uniform(-0.1, 0.4, n), u.shape)
    banks = splat((u, v, np.full_like(u, 0.32), np.full_like(u, 0.09)), height, width, device)
    down = torch.linspace(0, 1, height, device=device)[None, :, None]
    return tinted((0.22 + 0.1 * torch.sin(down * torch.pi) + 0.22 * banks).clamp(0, 0.62), (0.9, 0.93, 0.96))


def flutter(codes: tuple[tuple[float, float, float], ...], size: float, count: int) -> Overlay:
    """Leaves, petals or confetti that tumble down in several colours."""

    def overlay(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> Tensor:
        picture = torch.zeros(frames, 4, height, width, device=device)
        for color in codes:
            u, v, turn = fall(rng, frames, width / height, count, (0.16, 0.34), 0.3, 0.05)
            half_u, half_v = size * (0.45 + 0.55 * np.abs(np.cos(turn))), size * (0.45 + 0.55 * np.abs(np.sin(0.8 * turn)))
            alpha = splat((u, v, half_u, half_v), height, width, device).mul_(2.2).sub_(0.35).clamp_(0, 0.96)
            picture.mul_((1 - alpha)[:, None])
            for channel, share in enumerate((*color, 1.0)):
                picture[:, channel].add_(alpha, alpha=share)
        return picture

    return overlay


def bubbles(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> Tensor:
    """Rising bubbles with a bright rim and a glint."""
    u, v, _ = fall(rng, frames, width / height, 16, (0.12, 0.3), 0.0, 0.02)
    size = np.broadcast_to(rng.uniform(0.009, 0.022, u.shape[1]), u.shape)
    body = splat((u, -v, size, size), height, width, device)
    rim = torch.exp(-(((body - 0.35) / 0.16) ** 2))
    glint = splat((u - 0.5 * size, -v - 0.5 * size, 0.35 * size, 0.35 * size), height, width, device)
    alpha = 0.62 * rim * (body > 0.02) + 0.16 * (body > 0.35) + 0.9 * glint
    return tinted(alpha.clamp(0, 0.9), (0.92, 0.99, 1.0))


def fireflies(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> Tensor:
    """Small lights that wander and pulse."""
    t, aspect = seconds(frames), width / height
    n = round(16 * aspect)
    phase, beat = rng.uniform(0, 2 * np.pi, (2, n)), rng.uniform(0.5, 1.2, (2, n))
    u = rng.uniform(-0.5, 0.5, n) * aspect + 0.07 * np.sin(phase[0] + beat[0] * t)
    v = rng.uniform(-0.35, 0.4, n) + 0.06 * np.sin(phase[1] + beat[1] * t)
    size = np.full_like(u, 0.011)
    pulse = torch.from_numpy((0.65 + 0.35 * np.sin(3 * t + 2)).astype(np.float32)).to(device)[..., None]
    halo = 0.4 * splat((u, v, 2.8 * size, 2.8 * size), height, width, device) * pulse
    core = 1.4 * splat((u, v, size, size), height, width, device) * pulse
    return over(tinted(core.clamp(0, 1), (1.0, 1.0, 0.72)), tinted(halo.clamp(0, 0.6), (1.0, 0.9, 0.3)))


def nothing(frames: int, height: int, width: int, rng: np.random.Generator, device: str) -> None:
    """Clear weather."""


LEAVES = ((0.93, 0.5, 0.1), (0.82, 0.25, 0.1), (0.97, 0.75, 0.18))
PETALS = ((1.0, 0.72, 0.84), (1.0, 0.88, 0.93))
PAPERS = ((1.0, 0.28, 0.35), (1.0, 0.83, 0.2), (0.25, 0.65, 1.0), (0.35, 0.85, 0.4))

WEATHERS: dict[str, Weather] = {
    "clear": Weather(phrases=(), atmosphere=("clear",), overlay=nothing),
    "rain": Weather(phrases=("in the rain", "while it is raining", "on a rainy day"), atmosphere=("rainy", "wet and rainy"), overlay=rain),
    "snow": Weather(phrases=("in falling snow", "while it is snowing", "as snow falls"), atmosphere=("snowy", "wintry"), overlay=snowfall),
    "fog": Weather(phrases=("in the fog", "in thick mist", "on a foggy day"), atmosphere=("foggy", "misty"), overlay=fog),
    "falling leaves": Weather(
        phrases=("while leaves are falling", "among falling leaves", "as autumn leaves drift down"),
        atmosphere=("autumnal", "windy and autumnal"),
        overlay=flutter(LEAVES, 0.02, 6),
    ),
    "petals": Weather(
        phrases=("among falling petals", "while pink petals drift by"),
        atmosphere=("spring-like", "gentle and spring-like"),
        overlay=flutter(PETALS, 0.016, 11),
    ),
    "confetti": Weather(
        phrases=("in a rain of confetti", "while colorful confetti falls"),
        atmosphere=("festive", "joyful and festive"),
        overlay=flutter(PAPERS, 0.016, 7),
    ),
    "bubbles": Weather(phrases=("among rising bubbles", "with bubbles rising"), atmosphere=("bubbly", "playful"), overlay=bubbles),
    "fireflies": Weather(
        phrases=("among fireflies", "with fireflies glowing around"), atmosphere=("magical", "enchanted"), overlay=fireflies
    ),
}


def weather_overlay(
    name: str, frames: int, height: int, width: int, rng: np.random.Generator, device: str = "cpu"
) -> Float[Tensor, "F 4 H W"] | None:
    """Premultiplied RGBA to lay over the frames, or None in clear weather; a pure function of its arguments.

    Raises InputError for an unknown weather.
    """
    if name not in WEATHERS:
        raise InputError(f"weather={name!r} is unknown: use one of {', '.join(WEATHERS)}")
    return WEATHERS[name].overlay(frames, height, width, rng, device)
