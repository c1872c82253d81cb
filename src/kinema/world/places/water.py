"""Places by, on and under water: beach, sea, underwater."""

import numpy as np

from kinema.world.places import motifs as m
from kinema.world.places.brush import Canvas, Color, Tile, darken, lighten, mix, pick, rgb, vary, wander
from kinema.world.places.nature import OUTDOOR, blue_sky
from kinema.world.places.scene import Layer, Place, Scene

Rng = np.random.Generator


def water_tile(rng: Rng, px: int, color: Color, crest: Color, strength: float = 0.6) -> Tile:
    """Water with long soft ripples across."""
    tile = Tile(px, 4.0, color)
    tile.mottle(rng, (5, 3), darken(color, 0.25), 0.4)
    tile.mottle(rng, (12, 4), crest, strength)
    for _ in range(16):
        x, z = rng.uniform(0, 4, 2)
        tile.spot(x, z, rng.uniform(0.12, 0.3), 0.03, rgb("#ffffff"), 0.5, 0.8)
    return tile


def palm(rng: Rng, canvas: Canvas, u: float, v: float, size: float, side: int) -> None:
    """A palm that leans to one side."""
    m.shadow(canvas, u, v, size * 0.2)
    bend = [(u + side * size * 0.26 * t * t, v - size * 0.8 * t) for t in np.linspace(0, 1, 9)]
    for i, (low, high) in enumerate(zip(bend[:-1], bend[1:], strict=True)):
        canvas.stroke([low, high], size * (0.075 - 0.004 * i), rgb("#a8703e") if i % 2 else rgb("#8f5a30"))
    top = bend[-1]
    green = vary(rng, rgb("#3aa648"), 0.03)
    for layer, tone in ((1.0, darken(green, 0.3)), (0.92, green)):
        for angle in np.linspace(-2.9, -0.24, 6) + rng.uniform(-0.1, 0.1):
            reach, drop = size * 0.4 * layer, size * 0.26
            tip = (top[0] + np.cos(angle) * reach, top[1] + np.sin(angle) * reach * 0.55 + drop * abs(np.cos(angle)))
            middle = (top[0] + np.cos(angle) * reach * 0.55, top[1] + np.sin(angle) * reach * 0.6 - size * 0.03)
            leaf_width = size * 0.055
            canvas.polygon([top, (middle[0], middle[1] - leaf_width), tip, (middle[0], middle[1] + leaf_width)], lighten(tone, 0.15), tone)
    for at in (-0.03, 0.03):
        canvas.disc(top[0] + at * size, top[1] + 0.03 * size, 0.035 * size, rgb("#7a4a28"), shaded=0.8)


def sea_strip(px: int, near: float, top: Color, low: Color, horizon: float = m.HORIZON) -> Layer:
    """The sea from the horizon down to where the shore begins at depth `near`, with a rim of foam."""
    floor = m.foot(near, horizon)
    canvas = Canvas(px, m.WIDE, floor - horizon + 0.06, (0, (floor + horizon) / 2))
    canvas.ridge(lambda u: np.full_like(u, horizon), [(0, top), (floor - horizon, low)], floor)
    line = wander(np.random.default_rng(3), m.WIDE, 6)
    canvas.ridge(lambda u: floor - 0.016 + 0.004 * line(u), [(0, rgb("#ffffff")), (0.02, rgb("#f3fbff"))], floor + 0.004)
    return canvas.layer(near)


def umbrella(canvas: Canvas, u: float, v: float, size: float, color: Color) -> None:
    """A striped beach umbrella."""
    m.shadow(canvas, u, v, size * 0.4)
    canvas.stroke([(u, v), (u, v - size * 0.7)], size * 0.04, rgb("#f5efe2"))
    top, rim = v - size, v - size * 0.6
    for i in range(6):
        a, b = (-1 + i / 3) * 0.52 * size, (-1 + (i + 1) / 3) * 0.52 * size
        tone = rgb("#ffffff") if i % 2 else color
        shoulder = [(u + t * 0.85, top + 0.1 * size + 0.16 * size * (t / (0.52 * size)) ** 2) for t in (a, b)]
        canvas.polygon(
            [(u, top), shoulder[0], (u + a, rim), (u + (a + b) / 2, rim + 0.03 * size), (u + b, rim), shoulder[1]], tone, darken(tone, 0.14)
        )


def draw_beach(rng: Rng, px: int) -> Scene:
    sand = vary(rng, rgb("#f6dca0"), 0.02)
    things = m.standing(px, 5.0, 0.85)
    side = int(rng.choice([-1, 1]))
    base = m.foot(5.0)
    for u in (side * rng.uniform(0.38, 0.5), side * rng.uniform(0.9, 1.2), -side * rng.uniform(1.1, 1.4), side * rng.uniform(1.6, 1.9)):
        palm(rng, things, u, base, rng.uniform(0.5, 0.66), -int(np.sign(u)))
    umbrella(things, -side * rng.uniform(0.3, 0.45), base, rng.uniform(0.2, 0.26), pick(rng, ("#ff4f5e", "#ff9a2e", "#2aa7e0", "#8a5be0")))
    tile = Tile(px, 4.0, sand)
    tile.mottle(rng, 6, lighten(sand, 0.45), 0.5)
    tile.mottle(rng, 10, darken(mix(sand, rgb("#d9a860"), 0.6), 0.05), 0.4)
    layers = [
        *blue_sky(rng, px, "#38a5f2", "#d2f2ff"),
        sea_strip(px, 5.2, vary(rng, rgb("#1d7fd0"), 0.02), rgb("#4fd6d8")),
        things.layer(5.0),
    ]
    return Scene("beach", tuple(layers), tile.ground(mix(sand, rgb("#ffffff"), 0.3), 3.0), m.HORIZON)


def island(rng: Rng, px: int, depth: float) -> Layer:
    """A small far island with palms."""
    canvas = m.standing(px, depth, 0.4)
    base, u = m.foot(depth), rng.uniform(0.3, 0.9) * rng.choice([-1, 1])
    canvas.puffs([(u - 0.12, base, 0.08), (u + 0.03, base, 0.11), (u + 0.17, base, 0.07)], rgb("#9ad67a"), rgb("#57a860"), rgb("#2f7a62"))
    palm(rng, canvas, u + 0.02, base - 0.08, 0.18, 1)
    return canvas.layer(depth)


def sailboat(canvas: Canvas, u: float, v: float, size: float, color: Color) -> None:
    canvas.polygon([(u, v - size), (u, v - size * 0.22), (u + size * 0.42, v - size * 0.22)], rgb("#ffffff"), rgb("#dfe9f5"))
    canvas.polygon(
        [(u - size * 0.04, v - size * 0.85), (u - size * 0.04, v - size * 0.22), (u - size * 0.3, v - size * 0.22)],
        color,
        darken(color, 0.15),
    )
    canvas.polygon(
        [(u - size * 0.42, v - size * 0.17), (u + size * 0.5, v - size * 0.17), (u + size * 0.34, v + 0.01), (u - size * 0.3, v + 0.01)],
        rgb("#c9564a"),
        rgb("#8f342e"),
    )


def draw_sea(rng: Rng, px: int) -> Scene:
    water = vary(rng, rgb("#1f86d8"), 0.025)
    boats = m.standing(px, 14.0, 0.3)
    for u in m.spread(rng, 3):
        sailboat(boats, u, m.foot(14.0), rng.uniform(0.13, 0.2), pick(rng, ("#ff6f5e", "#ffc531", "#8fd8ff")))
    tile = water_tile(rng, px, water, rgb("#58c4f2"))
    layers = [*blue_sky(rng, px, "#49a8f0", "#e2f5ff"), island(rng, px, 20.0), boats.layer(14.0)]
    return Scene("sea", tuple(layers), tile.ground(mix(water, rgb("#8fd4f5"), 0.35), 3.0), m.HORIZON)


def coral(rng: Rng, canvas: Canvas, u: float, v: float, size: float, color: Color) -> None:
    """A branching coral."""
    for angle in np.linspace(-2.5, -0.64, 5) + rng.uniform(-0.12, 0.12, 5):
        reach = size * rng.uniform(0.75, 1.0)
        middle = (u + np.cos(angle) * reach * 0.5, v + np.sin(angle) * reach * 0.55)
        tip = (u + np.cos(angle) * reach * 0.65, v + np.sin(angle) * reach)
        canvas.stroke([(u, v), middle, tip], size * 0.2, darken(color, 0.22))
        canvas.stroke(
            [(u - 0.01 * size, v), (middle[0] - size * 0.03, middle[1]), (tip[0] - size * 0.03, tip[1])], size * 0.09, lighten(color, 0.25)
        )


def weed(rng: Rng, canvas: Canvas, u: float, v: float, size: float, color: Color) -> None:
    """A few waving blades of seaweed."""
    for shift in (-0.1, 0.0, 0.1):
        phase, tall = rng.uniform(0, 6), size * rng.uniform(0.7, 1.0)
        t = np.linspace(0, 1, 9)
        path = [(u + shift * size + 0.05 * size * np.sin(phase + 5 * a), v - tall * a) for a in t]
        for i, part in enumerate(zip(path[:-1], path[1:], strict=True)):
            canvas.stroke(list(part), size * (0.11 - 0.009 * i), mix(darken(color, 0.3), lighten(color, 0.2), i / 7))


def rays(px: int, rng: Rng, color: Color) -> Layer:
    """Shafts of light that fall in from the surface."""
    canvas = Canvas(px / 2, m.WIDE, 1.7, (0, -0.35))
    reach = np.clip((canvas.v + 1.2) / 1.6, 0, 1)[:, None]
    slanted = canvas.u[None] - 0.35 * (canvas.v[:, None] + 1.2) * np.sign(canvas.u[None] + 0.1)
    wave = wander(rng, m.WIDE, 9)(slanted) + 0.5 * wander(rng, m.WIDE, 17)(slanted)
    canvas.paint((slice(None), slice(None)), 0.32 * np.clip(wave, 0, 1) * (1 - reach) ** 1.2, color)
    return canvas.layer(45.0)


def draw_underwater(rng: Rng, px: int) -> Scene:
    horizon, sand = 0.05, vary(rng, rgb("#e0cf9a"), 0.02)
    deep = vary(rng, rgb("#1272c4"), 0.03)
    reef = m.standing(px, 5.0, 0.5, horizon)
    for u in m.spread(rng, 9):
        if rng.uniform() < 0.5:
            weed(rng, reef, u, m.foot(5.0, horizon), rng.uniform(0.22, 0.4), pick(rng, ("#37b36a", "#2f9a7a", "#6cc04a")))
        else:
            coral(rng, reef, u, m.foot(5.0, horizon), rng.uniform(0.14, 0.22), pick(rng, ("#ff6f7d", "#ff9a4d", "#f765b0", "#a86be8")))
    rocks = m.standing(px, 9.0, 0.35, horizon)
    for u in m.spread(rng, 7):
        m.stone(rocks, u, m.foot(9.0, horizon), rng.uniform(0.2, 0.42), mix(rgb("#4f7fb0"), deep, 0.45))
    tile = Tile(px, 4.0, mix(sand, rgb("#6fc3d6"), 0.35))
    tile.mottle(rng, 6, rgb("#f4ecc0"), 0.45)
    tile.mottle(rng, (12, 6), rgb("#6fb3c0"), 0.45)
    layers = [
        m.sky(px, [(-1.2, rgb("#a8f0f5")), (-0.6, rgb("#4cc4ee")), (-0.1, mix(deep, rgb("#2aa0e2"), 0.6)), (0.3, deep)]),
        rays(px, rng, rgb("#e6ffff")),
        m.hills(rng, px, 18.0, (0.05, 0.2), 4, mix(deep, rgb("#2f9ad8"), 0.4), deep, horizon),
        rocks.layer(9.0),
        reef.layer(5.0),
    ]
    return Scene("underwater", tuple(layers), tile.ground(mix(deep, rgb("#58b4dc"), 0.45), 2.6), horizon)


PLACES = (
    Place(
        name="beach", draw=draw_beach, has_ground=True, lights=("daylight", "golden sunset", "pink dawn", "overcast", "moonlit night"), weathers=("clear", "rain"),
        phrases=("on the beach", "on a sandy beach", "at the seaside", "on a tropical beach with palm trees", "on the sand by the sea"),
        background=("A sandy beach with palm trees and a blue sea.", "A tropical beach, palms, an umbrella and turquoise water.",
                    "Golden sand in front of the sea."), places_match=("beach",),
    ),
    Place(
        name="sea", draw=draw_sea, has_ground=True, lights=OUTDOOR, weathers=("clear", "rain", "fog"),
        phrases=("on the sea", "on the water", "on the open ocean", "on blue sea waves", "out at sea"),
        background=("A wide blue sea with small sailboats at the horizon.", "Open water with gentle waves and a far island.", "The open ocean under a bright sky."),
        places_match=("sea",),
    ),
    Place(
        name="underwater", draw=draw_underwater, has_ground=False, lights=("daylight", "soft light"), weathers=("bubbles", "clear"),
        phrases=("under water", "underwater", "under the sea", "at the bottom of the sea", "in a coral reef"),
        background=("A coral reef under water with seaweed and shafts of light.", "Deep blue water over a sandy sea floor with corals.",
                    "An underwater world of corals and seaweed."), places_match=("underwater",),
    ),
)  # fmt: skip
