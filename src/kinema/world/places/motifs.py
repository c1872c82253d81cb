"""Things that several places share: skies, clouds, hills, trees, stones."""

from collections.abc import Sequence

import numpy as np

from kinema.world.places.brush import Canvas, Color, Real, darken, lighten, mix, pick, rgb, vary, wander
from kinema.world.places.scene import GROUND_Y, Layer

Rng = np.random.Generator
WIDE, TALL = 4.4, 2.6  # frame heights that a backdrop covers: a wide frame, zoomed out and panned, stays inside
HORIZON = -0.06


def foot(depth: Real, horizon: Real = HORIZON) -> Real:
    """Screen v where something at a depth stands on the ground."""
    return GROUND_Y / depth + horizon


def spread(rng: Rng, count: int, span: Real = WIDE, jitter: Real = 0.7) -> list[Real]:
    """Positions u, one in each of `count` equal slots of a span, moved at random within."""
    slot = span / count
    return [float(-span / 2 + (i + 0.5 + jitter * rng.uniform(-0.5, 0.5)) * slot) for i in range(count)]


def flank(rng: Rng, outside: int) -> list[Real]:
    """Positions u: one to the left and one to the right of the middle, both in sight, and others outside the frame at rest."""
    side = rng.choice([-1.0, 1.0])
    near = [side * rng.uniform(0.2, 0.32), -side * rng.uniform(0.3, 0.45)]
    far = [way * rng.uniform(0.75, WIDE / 2) for way in (-1, 1) for _ in range((outside + 1) // 2)]
    return [float(u) for u in (*near, *far)]


def sky(px: int, stops: Sequence[tuple[Real, Color]], sun: tuple[Real, Real, Real, Color] | None = None, glow: Real = 0.8) -> Layer:
    """A vertical gradient at half resolution, with a sun (u, v, radius, colour) and its glow."""
    canvas = Canvas(px / 2, WIDE, TALL)
    canvas.fill(stops)
    if sun:
        u, v, radius, color = sun
        canvas.glow(u, v, radius * 3.5, lighten(color, 0.3), 0.55 * glow)
        canvas.glow(u, v, radius * 1.5, lighten(color, 0.5), glow)
    return canvas.layer(50.0, bleed="tblr")


def disc_layer(px: int, u: Real, v: Real, radius: Real, color: Color, depth: Real = 48.0) -> Layer:
    """The sharp disc of a sun or moon."""
    canvas = Canvas(px, radius * 2.2 + 4 / px, radius * 2.2 + 4 / px, (u, v))
    canvas.disc(u, v, radius, color)
    return canvas.layer(depth)


def cloud(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, colors: tuple[Color, Color, Color], alpha: Real = 1.0) -> None:
    """A heap of five to seven balls with a flat foot, `size` frame heights wide; colours are light, base, shade."""
    count = int(rng.integers(5, 8))
    discs = []
    for i in range(count):
        at = (i + 0.5) / count * 2 - 1
        radius = size * (0.1 + 0.13 * (1 - at * at)) * rng.uniform(0.85, 1.15)
        discs.append((u + at * size * 0.4, v - radius * 0.75, radius))
    discs.append((u, v - size * 0.1, size * 0.17))
    canvas.puffs(discs, *colors, alpha)


def clouds(
    rng: Rng,
    px: int,
    count: int,
    band: tuple[Real, Real],
    size: tuple[Real, Real],
    colors: tuple[Color, Color, Color],
    depth: Real = 40.0,
) -> Layer:
    """Clouds in a band of v, smaller towards the horizon."""
    top = band[0] - 0.75 * size[1]
    canvas = Canvas(px, WIDE, band[1] + 0.05 - top, (0, (band[1] + 0.05 + top) / 2))
    for u in spread(rng, count):
        height = rng.uniform(0, 1) ** 0.7
        cloud(rng, canvas, u, band[0] + (band[1] - band[0]) * height, rng.uniform(*size) * (1.1 - 0.5 * height), colors)
    return canvas.layer(depth)


WHITE_CLOUD = (rgb("#ffffff"), rgb("#f3f8ff"), rgb("#b9d3ee"))


def hills(
    rng: Rng,
    px: int,
    depth: Real,
    rise: tuple[Real, Real],
    bumps: Real,
    crest: Color,
    low: Color,
    horizon: Real = HORIZON,
    floor: Real | None = None,
) -> Layer:
    """Rolling hills, `rise` frame heights (lowest, highest) above the horizon, down to the ground or to v = floor."""
    line = wander(rng, WIDE, bumps)
    floor = foot(depth, horizon) if floor is None else floor
    canvas = Canvas(px, WIDE, rise[1] + 0.1 + floor - horizon, (0, (floor + horizon - rise[1]) / 2))
    middle, half = (rise[0] + rise[1]) / 2, (rise[1] - rise[0]) / 2
    canvas.ridge(lambda u: horizon - middle - half * line(u), [(0, lighten(crest, 0.12)), (0.03, crest), (max(rise[1], 0.06), low)], floor)
    return canvas.layer(depth, bleed="lr")


def standing(px: int, depth: Real, height: Real, horizon: Real = HORIZON, width: Real = WIDE, below: Real = 0.08) -> Canvas:
    """A canvas for things that stand on the ground at a depth and reach `height` frame heights up."""
    base = foot(depth, horizon)
    return Canvas(px, width, height + below, (0, base + (below - height) / 2))


def shadow(canvas: Canvas, u: Real, v: Real, half: Real, strength: Real = 0.28) -> None:
    """A soft dark ellipse where something stands."""
    canvas.ellipse(u, v, half, half * 0.16, rgb("#14301c"), strength * 0.6)
    canvas.ellipse(u, v, half * 0.75, half * 0.1, rgb("#14301c"), strength)


LEAF_GREENS = ("#4caf3f", "#3fa447", "#62b83c", "#2f9a52")


def crown(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
    """The leaves of a round tree: a heap of balls about `size` wide around (u, v)."""
    discs = [(u, v, size * 0.36)]
    for turn in np.linspace(0, 2 * np.pi, 6, endpoint=False) + rng.uniform(0, 1):
        reach = size * rng.uniform(0.24, 0.32)
        discs.append((u + np.cos(turn) * reach, v + np.sin(turn) * reach * 0.8, size * rng.uniform(0.19, 0.26)))
    canvas.puffs(discs, lighten(color, 0.38), color, darken(color, 0.42))


def tree(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, color: Color, bark: Color = rgb("#8a5a36")) -> None:
    """A round tree that stands at (u, v), `size` frame heights tall."""
    shadow(canvas, u, v, size * 0.24)
    width = size * 0.055
    canvas.polygon(
        [(u - width * 1.5, v), (u - width * 0.8, v - size * 0.5), (u + width * 0.8, v - size * 0.5), (u + width * 1.5, v)],
        darken(bark, 0.35),
        bark,
    )
    crown(rng, canvas, u, v - size * 0.64, size * 0.72, color)


def fir(canvas: Canvas, u: Real, v: Real, size: Real, color: Color, snowy: Real = 0.0) -> None:
    """A fir of four tiers; `snowy` whitens the tips of its tiers."""
    shadow(canvas, u, v, size * 0.2)
    canvas.box(u - size * 0.035, v - size * 0.16, u + size * 0.035, v, rgb("#6f4a30"), rgb("#5a3a26"))
    for i, (low, high, half) in enumerate([(0.1, 0.5, 0.27), (0.3, 0.68, 0.22), (0.5, 0.85, 0.165), (0.7, 1.0, 0.105)]):
        left, right, top = (u - half * size, v - low * size), (u + half * size, v - low * size), (u, v - high * size)
        belly = [
            (u + half * size * 0.5, v - (low - 0.045) * size),
            (u, v - (low - 0.06) * size),
            (u - half * size * 0.5, v - (low - 0.045) * size),
        ]
        tone = lighten(color, 0.05 * i)
        canvas.polygon([top, right, *belly, left], mix(lighten(tone, 0.18), rgb("#ffffff"), 0.6 * snowy), darken(tone, 0.25))
        for way in (-1, 1) if snowy else ():
            tip = (u + way * half * size * 0.93, v - (low + 0.025) * size)
            inner = (u + way * half * size * 0.5, v - (low * 0.52 + high * 0.48) * size)
            canvas.stroke([tip, inner], 0.07 * size, rgb("#f6faff"), snowy)


def bush(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
    """A low heap of leaves, `size` frame heights wide, that stands at (u, v)."""
    shadow(canvas, u, v, size * 0.5, 0.2)
    discs = [(u + at * size * 0.36, v - size * (0.2 - 0.06 * abs(at)), size * rng.uniform(0.17, 0.23)) for at in (-0.9, -0.3, 0.3, 0.9)]
    canvas.puffs(discs, lighten(color, 0.35), color, darken(color, 0.4))


def tree_line(
    rng: Rng, px: int, depth: Real, count: int, size: Real, codes: Sequence[str], haze: Color, share: Real, horizon: Real = HORIZON
) -> Layer:
    """A row of round trees far off, blended by `share` into the haze."""
    canvas = standing(px, depth, size * 1.4, horizon)
    for u in spread(rng, count):
        color = mix(pick(rng, codes), haze, share)
        crown(rng, canvas, u, foot(depth, horizon) - size * 0.36, size * rng.uniform(0.8, 1.15), color)
    return canvas.layer(depth)


def tufts(rng: Rng, px: int, color: Color, horizon: Real = HORIZON, flowers: Sequence[str] = ()) -> Layer:
    """Grass tufts close to the camera, left and right of the middle, some with a flower."""
    depth = 1.15
    canvas = standing(px, depth, 0.16, horizon, 3.6)
    base = foot(depth, horizon)
    for u in spread(rng, 9, 3.6):
        for lean in rng.uniform(-1, 1, 5):
            root, height = u + 0.02 * lean, rng.uniform(0.05, 0.085)
            tip = (root + 0.035 * lean, base - height)
            canvas.polygon([(root - 0.011, base), tip, (root + 0.011, base)], lighten(color, 0.22), darken(color, 0.12))
        if flowers and rng.uniform() < 0.7:
            flower(canvas, u + rng.uniform(-0.03, 0.03), base - rng.uniform(0.06, 0.1), 0.02, pick(rng, flowers), base)
    return canvas.layer(depth)


def flower(canvas: Canvas, u: Real, v: Real, size: Real, color: Color, base: Real) -> None:
    """A five-petalled flower on a stem down to v = base."""
    canvas.stroke([(u, v), (u, base)], size * 0.35, rgb("#3f9a3f"))
    for turn in np.arange(5) * (2 * np.pi / 5) - np.pi / 2:
        canvas.disc(u + np.cos(turn) * size * 0.6, v + np.sin(turn) * size * 0.6, size * 0.5, color)
    canvas.disc(u, v, size * 0.4, rgb("#ffd23f"))


def stone(canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
    """A rounded boulder, `size` frame heights wide."""
    shadow(canvas, u, v, size * 0.55)
    canvas.puffs(
        [
            (u, v - size * 0.22, size * 0.36),
            (u - size * 0.25, v - size * 0.14, size * 0.24),
            (u + size * 0.27, v - size * 0.12, size * 0.2),
        ],
        lighten(color, 0.35),
        color,
        darken(color, 0.4),
    )


def stars(rng: Rng, px: int, count: int, low: Real, strength: Real = 1.0, depth: Real = 49.0) -> Layer:
    """Stars above v = low, few of them big; a wide backdrop of points soft enough to move without flicker."""
    canvas = Canvas(px, WIDE, low + TALL / 2, (0, (low - TALL / 2) / 2))
    for _ in range(count):
        u, v, size = (
            rng.uniform(-0.48, 0.48) * WIDE,
            rng.uniform(0.04 - TALL / 2, low - 0.04),
            rng.choice([0.006, 0.008, 0.013], p=[0.55, 0.3, 0.15]),
        )
        tint = vary(rng, rgb("#fff6dd"), 0.08)
        if size > 0.01:
            canvas.glow(u, v, size * 1.7, tint, 0.35 * strength)
        canvas.disc(u, v, size, tint, strength * rng.uniform(0.65, 1.0))
    return canvas.layer(depth)


def rounded_peak(canvas: Canvas, u: Real, base: Real, half: Real, height: Real, color: Color, snow: Color | None, rng: Rng) -> None:
    """A mountain with a lit left side, a shaded right side and a snow cap when `snow` is given."""
    top, bend = (u, base - height), rng.uniform(-0.12, 0.12) * half
    canvas.polygon([top, (u - half, base), (u + half, base)], lighten(color, 0.22), color)
    right = [
        top,
        (u + bend + 0.1 * half, base - 0.55 * height),
        (u + bend - 0.05 * half, base - 0.28 * height),
        (u + bend + 0.15 * half, base),
    ]
    canvas.polygon([*right, (u + half, base)], darken(color, 0.16), darken(color, 0.3))
    if snow is None:
        return
    line = [(-0.36, 0.36), (-0.2, 0.27), (-0.1, 0.36), (0.03, 0.25), (0.14, 0.37), (0.24, 0.28), (0.36, 0.36)]
    cap = [top] + [(u + a * half, base - (1 - b) * height) for a, b in line]
    canvas.polygon(cap, snow, snow)
    shaded = [top] + [(u + a * half, base - (1 - b) * height) for a, b in line[3:]]
    canvas.polygon(shaded, mix(snow, rgb("#8fb0e0"), 0.4), mix(snow, rgb("#8fb0e0"), 0.55))
