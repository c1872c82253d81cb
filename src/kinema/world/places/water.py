"""Places by, on and under water: beach, sea, underwater."""

import itertools

import numpy as np

from kinema.world.places import motifs as m
from kinema.world.places.brush import Canvas, Color, Real, Tile, darken, lighten, mix, noise_tile, pick, rgb, vary, wander
from kinema.world.places.nature import blue_sky
from kinema.world.places.scene import Layer, Scene

Rng = np.random.Generator


def water_tile(rng: Rng, px: int, color: Color, crest: Color, strength: Real = 0.6) -> Tile:
    """Water with long soft ripples across."""
    tile = Tile(px, 4.0, color)
    tile.mottle(rng, (5, 3), darken(color, 0.25), 0.4)
    tile.mottle(rng, (12, 4), crest, strength)
    for _ in range(26):
        x, z = rng.uniform(0, 4, 2)
        tile.spot(x, z, rng.uniform(0.12, 0.3), 0.045, rgb("#ffffff"), 0.6, 0.8)
    return tile


def palm(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, side: int) -> None:
    """A palm that leans to one side."""
    m.shadow(canvas, u, v, size * 0.2)
    bend = [(u + side * size * 0.26 * t * t, v - size * 0.8 * t) for t in np.linspace(0, 1, 9)]
    for i, (low, high) in enumerate(itertools.pairwise(bend)):
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


def shore_tile(rng: Rng, px: int, sand: Color, shallow: Color, deep: Color) -> Tile:
    """Sand up to a wavy shore at z = 2.6, then water; twelve units deep, so that the next shore drowns in the haze."""
    tile = Tile(px, 12.0, sand, detail=0.3)
    tile.mottle(rng, 16, lighten(sand, 0.45), 0.5)
    tile.mottle(rng, 26, mix(sand, rgb("#d9a860"), 0.6), 0.4)
    for _ in range(14):
        x, z = rng.uniform(0, 12), rng.uniform(1.0, 2.3)
        tile.spot(x, z, 0.05, 0.05, pick(rng, ("#ff9a7a", "#ffffff", "#f5b8c8")), 0.9)
    phases = rng.uniform(0, 2 * np.pi, 2)
    line = 2.6 + 0.09 * np.sin(tile.x * (2 * np.pi * 5 / 12) + phases[0]) + 0.05 * np.sin(tile.x * (2 * np.pi * 9 / 12) + phases[1])
    beyond = tile.z[:, None] - line
    tile.blend(darken(mix(sand, rgb("#c89858"), 0.5), 0.05), 0.7 * (beyond / 0.3 + 1.2))
    tile.blend(shallow, beyond / 0.08 + 0.5)
    tile.blend(deep, (beyond - 0.3) / 2.5)
    ripples = noise_tile(rng, tile.rows, tile.columns, (40, 10)) * (beyond > 0.35)
    tile.blend(lighten(shallow, 0.35), 0.45 * ripples)
    for start, width, strength in ((0.0, 0.13, 0.95), (0.45, 0.06, 0.6), (0.95, 0.06, 0.45)):
        tile.blend(rgb("#ffffff"), strength * np.clip((width - np.abs(beyond - start)) / 0.05 + 0.5, 0, 1))
    tile.across(11.6, 12.4, sand, soft=0.5)  # meets its own beginning
    return tile


def umbrella(canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
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
    things = m.standing(px, 2.5, 0.85)
    side = int(rng.choice([-1, 1]))
    base = m.foot(2.5)
    for u in (side * rng.uniform(0.36, 0.46), side * rng.uniform(0.9, 1.2), -side * rng.uniform(1.1, 1.4), side * rng.uniform(1.6, 1.9)):
        palm(rng, things, u, base, rng.uniform(0.54, 0.68), -int(np.sign(u)))
    umbrella(
        things, -side * rng.uniform(0.34, 0.42), base, rng.uniform(0.26, 0.32), pick(rng, ("#ff4f5e", "#ff9a2e", "#2aa7e0", "#8a5be0"))
    )
    deep = vary(rng, rgb("#1d86d6"), 0.02)
    tile = shore_tile(rng, px, sand, vary(rng, rgb("#4fd8d8"), 0.02), deep)
    layers = [*blue_sky(rng, px, "#38a5f2", "#d2f2ff"), island(rng, px, 24.0), things.layer(2.5)]
    return Scene("beach", tuple(layers), tile.ground(mix(deep, rgb("#2f9ee0"), 0.5), 6.0), m.HORIZON)


def island(rng: Rng, px: int, depth: Real) -> Layer:
    """A small far island with palms."""
    canvas = m.standing(px, depth, 0.4)
    base, u = m.foot(depth), rng.uniform(0.35, 0.9) * rng.choice([-1, 1])
    canvas.puffs([(u - 0.12, base, 0.08), (u + 0.03, base, 0.11), (u + 0.17, base, 0.07)], rgb("#9ad67a"), rgb("#57a860"), rgb("#2f7a62"))
    palm(rng, canvas, u + 0.02, base - 0.08, 0.18, 1)
    return canvas.layer(depth)


def sailboat(canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
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
    for u in m.flank(rng, 2):
        sailboat(boats, u, m.foot(14.0), rng.uniform(0.12, 0.18), pick(rng, ("#ff6f5e", "#ffc531", "#8fd8ff")))
    tile = water_tile(rng, px, water, rgb("#58c4f2"))
    layers = [*blue_sky(rng, px, "#49a8f0", "#e2f5ff"), island(rng, px, 20.0), boats.layer(14.0)]
    return Scene("sea", tuple(layers), tile.ground(mix(water, rgb("#8fd4f5"), 0.35), 3.0), m.HORIZON)


def coral(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
    """A branching coral."""
    for angle in np.linspace(-2.5, -0.64, 5) + rng.uniform(-0.12, 0.12, 5):
        reach = size * rng.uniform(0.75, 1.0)
        middle = (u + np.cos(angle) * reach * 0.5, v + np.sin(angle) * reach * 0.55)
        tip = (u + np.cos(angle) * reach * 0.65, v + np.sin(angle) * reach)
        canvas.stroke([(u, v), middle, tip], size * 0.2, darken(color, 0.22))
        canvas.stroke(
            [(u - 0.01 * size, v), (middle[0] - size * 0.03, middle[1]), (tip[0] - size * 0.03, tip[1])], size * 0.09, lighten(color, 0.25)
        )


def weed(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
    """A few waving blades of seaweed."""
    for shift in (-0.1, 0.0, 0.1):
        phase, tall = rng.uniform(0, 6), size * rng.uniform(0.7, 1.0)
        t = np.linspace(0, 1, 9)
        path = [(u + shift * size + 0.05 * size * np.sin(phase + 5 * a), v - tall * a) for a in t]
        for i, part in enumerate(itertools.pairwise(path)):
            canvas.stroke(list(part), size * (0.11 - 0.009 * i), mix(darken(color, 0.3), lighten(color, 0.2), i / 7))


def rays(px: int, rng: Rng, color: Color) -> Layer:
    """Shafts of light that fall in from the surface."""
    canvas = Canvas(px / 2, m.WIDE, 1.7, (0, -0.35))
    reach = np.clip((canvas.v + 1.2) / 1.6, 0, 1)[:, None]
    slanted = canvas.u[None] - 0.35 * (canvas.v[:, None] + 1.2) * np.sign(canvas.u[None] + 0.1)
    wave = wander(rng, m.WIDE, 9)(slanted) + 0.5 * wander(rng, m.WIDE, 17)(slanted)
    canvas.paint((slice(None), slice(None)), 0.32 * np.clip(wave, 0, 1) * (1 - reach) ** 1.2, color)
    return canvas.layer(45.0, bleed="tlr")


def draw_underwater(rng: Rng, px: int) -> Scene:
    horizon, sand = 0.05, vary(rng, rgb("#e0cf9a"), 0.02)
    deep = vary(rng, rgb("#1272c4"), 0.03)
    reef = m.standing(px, 5.0, 0.5, horizon)
    for i, u in enumerate([*m.flank(rng, 4), *m.spread(rng, 7)]):
        if i == 1 or (i and rng.uniform() < 0.5):
            weed(rng, reef, u, m.foot(5.0, horizon), rng.uniform(0.22, 0.4), pick(rng, ("#37b36a", "#2f9a7a", "#6cc04a")))
        else:
            coral(rng, reef, u, m.foot(5.0, horizon), rng.uniform(0.16, 0.25), pick(rng, ("#ff6f7d", "#ff9a4d", "#f765b0", "#a86be8")))
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
