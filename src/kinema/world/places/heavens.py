"""Places above: the sky, the night sky, space, the moon; subjects float in most of them."""

import numpy as np

from kinema.world.places import motifs as m
from kinema.world.places.brush import Canvas, Color, Real, Tile, darken, lighten, mix, pick, rgb, vary
from kinema.world.places.scene import Layer, Scene

Rng = np.random.Generator


def draw_sky(rng: Rng, px: int) -> Scene:
    top, low = vary(rng, rgb("#2f8ef0"), 0.03), vary(rng, rgb("#bfe6ff"), 0.02)
    sun = (rng.uniform(0.15, 0.45) * rng.choice([-1, 1]), rng.uniform(-0.42, -0.3), 0.075, rgb("#fff2a8"))
    layers = [
        m.sky(px, [(-1.2, darken(top, 0.15)), (-0.5, top), (0.45, low), (1.2, lighten(low, 0.4))], sun),
        m.disc_layer(px, *sun),
        m.clouds(rng, px, 6, (-0.75, 0.05), (0.3, 0.45), m.WHITE_CLOUD, 40.0),
        m.clouds(rng, px, 5, (0.2, 0.4), (0.6, 0.9), m.WHITE_CLOUD, 20.0),
        m.clouds(rng, px, 6, (0.58, 0.95), (1.0, 1.3), m.WHITE_CLOUD, 7.0),
    ]
    return Scene("sky", tuple(layers), None, 0.6)


def moon(px: int, u: Real, v: Real, radius: Real, color: Color, depth: Real = 45.0) -> Layer:
    """A full moon with a halo and a few grey spots."""
    canvas = Canvas(px, radius * 6, radius * 6, (u, v))
    canvas.glow(u, v, radius * 1.35, color, 0.5)
    canvas.disc(u, v, radius, color, shaded=0.35)
    for du, dv, size in ((-0.3, -0.2, 0.22), (0.35, 0.15, 0.28), (-0.1, 0.45, 0.16), (0.3, -0.45, 0.12)):
        canvas.disc(u + du * radius, v + dv * radius, size * radius, darken(color, 0.16), 0.7)
    return canvas.layer(depth)


def draw_night(rng: Rng, px: int) -> Scene:
    top = vary(rng, rgb("#0d1442"), 0.015)
    dark = (rgb("#6a78b8"), rgb("#4c5a9c"), rgb("#2c3670"))
    horizon = 0.3
    side = rng.choice([-1, 1])
    layers = [
        m.sky(px, [(-1.2, darken(top, 0.4)), (-0.4, top), (0.1, rgb("#2f3a8c")), (0.45, vary(rng, rgb("#6a62b8"), 0.03))]),
        m.stars(rng, px, 150, 0.35),
        moon(px, side * rng.uniform(0.2, 0.4), rng.uniform(-0.36, -0.24), 0.1, rgb("#fff3c4")),
        m.clouds(rng, px, 5, (-0.1, 0.25), (0.35, 0.55), dark),
        m.hills(rng, px, 22.0, (0.02, 0.16), 4, rgb("#262d66"), rgb("#3a4288"), horizon, 0.6),
        m.hills(rng, px, 12.0, (-0.08, 0.06), 3, rgb("#1b2154"), rgb("#11153c"), horizon + 0.1, 1.2),
    ]
    return Scene("night sky", tuple(layers), None, horizon)


def planet(canvas: Canvas, u: Real, v: Real, radius: Real, color: Color, ringed: bool) -> None:
    """A glossy planet with two bands, or with a ring."""
    canvas.glow(u, v, radius * 1.25, lighten(color, 0.3), 0.35)
    if ringed:
        ring(canvas, u, v, radius, lighten(color, 0.5), front=False)
    canvas.disc(u, v, radius, color, shaded=1.0)
    for at, half in ((-0.3, 0.1), (0.25, 0.13)):
        width = np.sqrt(1 - at * at) * radius * 0.96
        canvas.ellipse(u, v + at * radius, width, half * radius, lighten(color, 0.45), 0.4)
    if ringed:
        ring(canvas, u, v, radius, lighten(color, 0.5), front=True)


def ring(canvas: Canvas, u: Real, v: Real, radius: Real, color: Color, front: bool) -> None:
    angles = np.linspace(0, np.pi, 25) + (0 if front else np.pi)
    path = [(u + np.cos(a) * radius * 1.75, v + np.sin(a) * radius * 0.42 - np.cos(a) * radius * 0.3) for a in angles]
    canvas.stroke(path, radius * 0.2, darken(color, 0.1))
    canvas.stroke(path, radius * 0.08, lighten(color, 0.5))


def draw_space(rng: Rng, px: int) -> Scene:
    canvas = Canvas(px / 2, m.WIDE, m.TALL)
    canvas.fill([(-1.3, rgb("#070720")), (0, vary(rng, rgb("#120d38"), 0.015)), (1.3, rgb("#0a0a28"))])
    for u in m.spread(rng, 8):
        canvas.glow(u, rng.uniform(-0.6, 0.6), rng.uniform(0.18, 0.36), pick(rng, ("#6a2fa8", "#2b4fc0", "#b03a8c", "#1f7a9c")), 0.5)
    worlds = Canvas(px, m.WIDE, 1.6)
    codes = rng.permutation(["#ff8a4c", "#4cb0ff", "#e86aa8", "#f2c14e", "#58c98c"])
    side = rng.choice([-1, 1])
    planet(worlds, side * rng.uniform(0.24, 0.34), rng.uniform(-0.34, -0.24), rng.uniform(0.1, 0.13), rgb(codes[0]), True)
    planet(worlds, -side * rng.uniform(0.3, 0.42), rng.uniform(0.2, 0.34), rng.uniform(0.12, 0.17), rgb(codes[1]), False)
    planet(worlds, -side * rng.uniform(0.25, 0.4), rng.uniform(-0.4, -0.25), rng.uniform(0.035, 0.06), rgb(codes[2]), False)
    planet(worlds, side * rng.uniform(0.9, 1.3), rng.uniform(-0.1, 0.4), rng.uniform(0.14, 0.22), rgb(codes[3]), False)
    planet(worlds, -side * rng.uniform(1.0, 1.5), rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.16), rgb(codes[4]), True)
    layers = (canvas.layer(50.0, bleed="tblr"), m.stars(rng, px, 230, m.TALL / 2), worlds.layer(25.0))
    return Scene("space", layers, None, 0.0)


def draw_moon(rng: Rng, px: int) -> Scene:
    gray = vary(rng, rgb("#b4b4c2"), 0.015)
    tile = Tile(px, 4.0, gray)
    tile.mottle(rng, 5, lighten(gray, 0.35), 0.45)
    tile.mottle(rng, 9, darken(gray, 0.3), 0.3)
    for _ in range(9):
        x, z, r = *rng.uniform(0, 4, 2), rng.uniform(0.12, 0.36)
        tile.spot(x, z, r * 1.15, r * 1.15, lighten(gray, 0.5), 0.8, 0.25)
        tile.spot(x + 0.02, z - 0.03, r, r, darken(gray, 0.3), 0.9, 0.35)
        tile.spot(x + 0.05, z - 0.08, r * 0.75, r * 0.7, gray, 0.8, 0.7)
    earth = Canvas(px, 0.7, 0.7, (rng.uniform(0.18, 0.36) * rng.choice([-1, 1]), rng.uniform(-0.36, -0.27)))
    u, v = earth.left + 0.35, earth.top + 0.35
    earth.glow(u, v, 0.14, rgb("#6fb8ff"), 0.4)
    earth.disc(u, v, 0.115, rgb("#2f86e0"), shaded=0.8)
    for du, dv, size in ((-0.4, -0.25, 0.36), (-0.2, 0.35, 0.26), (0.42, 0.05, 0.3), (0.2, -0.5, 0.2)):
        earth.ellipse(u + du * 0.115, v + dv * 0.115, size * 0.115, size * 0.1, rgb("#5cc06a"), 0.9)
    earth.ellipse(u + 0.01, v - 0.02, 0.07, 0.014, rgb("#ffffff"), 0.7)
    layers = [
        m.sky(px, [(-1.2, rgb("#05050f")), (m.HORIZON, vary(rng, rgb("#16163a"), 0.01))]),
        m.stars(rng, px, 170, m.HORIZON),
        earth.layer(46.0),
        m.hills(rng, px, 22.0, (0.03, 0.12), 5, darken(gray, 0.35), darken(gray, 0.2)),
        m.hills(rng, px, 12.0, (-0.01, 0.05), 4, darken(gray, 0.05), gray),
    ]
    return Scene("moon", tuple(layers), tile.ground(mix(gray, rgb("#8888a0"), 0.4), 3.5), m.HORIZON)
