"""Places that people built outdoors: street, city by day and night, farm, castle, sports field."""

import numpy as np

from kinema.world.places import motifs as m
from kinema.world.places.brush import Canvas, Color, Real, Tile, darken, lighten, mix, pick, rgb, vary
from kinema.world.places.nature import blue_sky, grass_tile
from kinema.world.places.scene import Layer, Scene

Rng = np.random.Generator
WALLS = ("#ff9a86", "#ffd27a", "#8fd0f0", "#b7e08a", "#f6b0d0", "#fff0d8", "#c7b2f0")
ROOFS = ("#c8503c", "#8a5a8a", "#4f76b0", "#b86a3a")


def window(canvas: Canvas, u: Real, v: Real, width: Real, height: Real, glass: Color, frame: Color = rgb("#ffffff")) -> None:
    """A pane around (u, v) in a frame, with a glint."""
    canvas.box(u - width / 2, v - height / 2, u + width / 2, v + height / 2, frame, darken(frame, 0.08), width * 0.14)
    canvas.box(u - width * 0.36, v - height * 0.38, u + width * 0.36, v + height * 0.38, lighten(glass, 0.3), glass, width * 0.08)


def house(rng: Rng, canvas: Canvas, u: Real, v: Real, width: Real, height: Real) -> None:
    """A two-storey house with a gable, a door and windows."""
    wall, roof = pick(rng, WALLS), pick(rng, ROOFS)
    left, right, eaves = u - width / 2, u + width / 2, v - height
    canvas.box(left, eaves, right, v, lighten(wall, 0.15), darken(wall, 0.1))
    canvas.box(right - width * 0.12, eaves, right, v, darken(wall, 0.1), darken(wall, 0.2))
    canvas.polygon([(left - 0.03, eaves), (u, eaves - width * 0.45), (right + 0.03, eaves)], lighten(roof, 0.12), darken(roof, 0.15))
    glass = rgb("#7cc4ea")
    for at in (-0.24, 0.24):
        window(canvas, u + at * width, v - height * 0.72, width * 0.24, height * 0.26, glass)
    side = rng.choice([-1, 1])
    canvas.box(
        u + side * 0.24 * width - 0.11 * width,
        v - height * 0.42,
        u + side * 0.24 * width + 0.11 * width,
        v,
        darken(roof, 0.1),
        darken(roof, 0.3),
        0.02,
    )
    window(canvas, u - side * 0.22 * width, v - height * 0.28, width * 0.28, height * 0.26, glass)


def lamp(canvas: Canvas, u: Real, v: Real, size: Real) -> None:
    """A street lamp."""
    canvas.stroke([(u, v), (u, v - size * 0.9)], size * 0.035, rgb("#3f4658"))
    canvas.box(u - size * 0.05, v - size * 0.04, u + size * 0.05, v, rgb("#3f4658"))
    canvas.disc(u, v - size * 0.92, size * 0.075, rgb("#fff3c0"), shaded=0.4)
    canvas.polygon([(u - size * 0.09, v - size * 0.96), (u, v - size * 1.04), (u + size * 0.09, v - size * 0.96)], rgb("#3f4658"))


def road_tile(rng: Rng, px: int, asphalt: Color, pavement: Color, paint: Color) -> Tile:
    """A road across with a broken centre line, a kerb and a pavement behind it, eight units deep."""
    tile = Tile(px, 8.0, asphalt)
    tile.mottle(rng, 10, lighten(asphalt, 0.16), 0.4)
    for x in np.arange(8):
        tile.block(x + 0.15, 1.24, x + 0.72, 1.38, paint, 0.95)
    tile.across(3.5, 8.0, pavement)
    tile.across(3.42, 3.62, lighten(pavement, 0.45))
    return tile


def draw_street(rng: Rng, px: int) -> Scene:
    asphalt, pavement = vary(rng, rgb("#6d7282"), 0.015), vary(rng, rgb("#cfc8c0"), 0.015)
    row, base = m.standing(px, 6.0, 0.62), m.foot(6.0)
    left = -m.WIDE / 2
    while left < m.WIDE / 2:
        width = rng.uniform(0.3, 0.4)
        house(rng, row, left + width / 2, base, width * 0.98, rng.uniform(0.24, 0.32))
        left += width
    front, at = m.standing(px, 4.6, 0.5), m.foot(4.6)
    for i, u in enumerate(m.spread(rng, 10, jitter=0.3)):
        if i % 2:
            lamp(front, u, at, 0.4)
        else:
            m.tree(rng, front, u, at, rng.uniform(0.26, 0.34), pick(rng, m.LEAF_GREENS))
    layers = [
        *blue_sky(rng, px),
        m.tree_line(rng, px, 14.0, 20, 0.22, m.LEAF_GREENS, rgb("#d5ecf5"), 0.3),
        row.layer(6.0, bleed="lr"),
        front.layer(4.6),
    ]
    return Scene("street", tuple(layers), road_tile(rng, px, asphalt, pavement, rgb("#ffffff")).ground(pavement, 5.0), m.HORIZON)


def tower(
    rng: Rng, canvas: Canvas, u: Real, base: Real, width: Real, height: Real, wall: Color, lights: tuple[Color, Color], lit: Real
) -> None:
    """A high-rise with a grid of windows; a share `lit` of them takes the first of two colours."""
    left, right, top = u - width / 2, u + width / 2, base - height
    canvas.box(left, top, right, base, lighten(wall, 0.15), wall, 0.012)
    canvas.box(right - width * 0.2, top, right, base, darken(wall, 0.1), darken(wall, 0.2), 0.012)
    columns, rows = max(2, round(width / 0.08)), int((height - 0.04) / 0.08)
    lit_up = rng.uniform(size=(rows, columns)) < lit
    colors = np.where(lit_up, lights[0][:, None, None], lights[1][:, None, None])
    canvas.panes(left, top + 0.02, right, top + 0.02 + 0.08 * rows, colors, (0.56, 0.54))
    if rng.uniform() < 0.4:
        canvas.stroke([(u, top), (u, top - 0.09)], 0.012, darken(wall, 0.2))


def skyline(
    rng: Rng,
    px: int,
    depth: Real,
    count: int,
    heights: tuple[Real, Real],
    codes: tuple[str, ...],
    haze: Color,
    share: Real,
    lights: tuple[Color, Color],
    lit: Real,
) -> Canvas:
    """A row of high-rises."""
    canvas = m.standing(px, depth, heights[1] + 0.15)
    for u in m.spread(rng, count, jitter=0.5):
        wall = mix(pick(rng, codes), haze, share)
        panes = mix(lights[0], haze, share * 0.6), mix(lights[1], haze, share)
        tower(rng, canvas, u, m.foot(depth), m.WIDE / count * rng.uniform(0.75, 1.0), rng.uniform(*heights), wall, panes, lit)
    return canvas


def zebra_tile(rng: Rng, px: int, asphalt: Color, pavement: Color, paint: Color) -> Tile:
    """A wide road with a zebra crossing and a pavement."""
    tile = Tile(px, 8.0, asphalt)
    tile.mottle(rng, 10, lighten(asphalt, 0.16), 0.4)
    for x in np.arange(0, 8, 0.8):
        tile.block(x, 1.15, x + 0.4, 2.9, paint, 0.92)
    tile.across(4.2, 8.0, pavement)
    tile.across(4.1, 4.35, lighten(pavement, 0.4))
    return tile


def draw_city(rng: Rng, px: int) -> Scene:
    haze = rgb("#d5e9f7")
    codes = ("#7f9fc8", "#9ab4d4", "#c79a86", "#d8c2a8", "#8aa0ae", "#b3a0c0")
    glass = (rgb("#d8f0ff"), rgb("#5f86b4"))
    far = skyline(rng, px, 20.0, 17, (0.22, 0.42), codes, haze, 0.6, glass, 0.3)
    near = skyline(rng, px, 8.0, 11, (0.24, 0.5), codes, haze, 0.08, glass, 0.45)
    front = m.standing(px, 5.4, 0.3)
    for u in m.spread(rng, 9):
        m.tree(rng, front, u, m.foot(5.4), rng.uniform(0.15, 0.2), pick(rng, m.LEAF_GREENS))
    tile = zebra_tile(rng, px, vary(rng, rgb("#686e7e"), 0.015), rgb("#c8ccd2"), rgb("#f7f7f7"))
    layers = [*blue_sky(rng, px, "#58acf0", "#e6f4ff"), far.layer(20.0), near.layer(8.0), front.layer(5.4)]
    return Scene("city", tuple(layers), tile.ground(rgb("#ccd2d8"), 5.0), m.HORIZON)


NEONS = ("#ff3fa4", "#28e0ff", "#b05cff", "#ffe14a", "#3dff9a")


def signs(rng: Rng, canvas: Canvas, base: Real) -> None:
    """Glowing upright signs in neon colours."""
    for u in m.spread(rng, 8):
        color, v, tall = pick(rng, NEONS), base - rng.uniform(0.16, 0.32), rng.uniform(0.06, 0.1)
        canvas.glow(u, v, 0.11, color, 0.55)
        canvas.box(u - 0.032, v - tall, u + 0.032, v + tall, lighten(color, 0.5), color, 0.02)
        canvas.box(u - 0.014, v - tall * 0.7, u + 0.014, v + tall * 0.7, lighten(color, 0.85), radius=0.01)


def draw_night_city(rng: Rng, px: int) -> Scene:
    haze = rgb("#3a2a78")
    codes = ("#2a2f6a", "#342a70", "#23305e", "#3d2f6e")
    panes = (rgb("#ffd873"), rgb("#27306e"))
    far = skyline(rng, px, 20.0, 17, (0.22, 0.42), codes, haze, 0.45, panes, 0.4)
    near = skyline(rng, px, 8.0, 11, (0.24, 0.5), codes, haze, 0.0, panes, 0.55)
    signs(rng, near, m.foot(8.0))
    tile = Tile(px, 8.0, rgb("#262850"))
    tile.mottle(rng, 9, rgb("#34346e"), 0.6)
    for x in np.arange(0, 8, 0.8):
        tile.spot(x + rng.uniform(0, 0.8), rng.uniform(2.5, 7), 0.22, 1.6, pick(rng, NEONS), 0.4, 1.0)
        tile.block(x + 0.15, 1.24, x + 0.6, 1.36, rgb("#c9c9f0"), 0.8)
    layers = [
        m.sky(px, [(-1.2, rgb("#0a0a2c")), (-0.5, vary(rng, rgb("#161448"), 0.01)), (m.HORIZON, vary(rng, rgb("#7a3f9c"), 0.03))]),
        m.stars(rng, px, 60, -0.35, 0.8),
        far.layer(20.0),
        near.layer(8.0),
    ]
    return Scene("night city", tuple(layers), tile.ground(rgb("#4a3488"), 4.5), m.HORIZON)


def barn(canvas: Canvas, u: Real, v: Real, size: Real, color: Color) -> None:
    """A red barn with a gambrel roof, white trim and a big door."""
    m.shadow(canvas, u, v, size * 0.6)
    wall = [(-0.5, 0), (-0.5, 0.45), (-0.36, 0.72), (0, 0.9), (0.36, 0.72), (0.5, 0.45), (0.5, 0)]
    canvas.polygon([(u + a * size, v - b * size) for a, b in wall], lighten(color, 0.12), darken(color, 0.15))
    roof = [(u + a * size, v - b * size) for a, b in [(-0.56, 0.42), (-0.4, 0.74), (0, 0.95), (0.4, 0.74), (0.56, 0.42)]]
    canvas.stroke(roof, size * 0.09, rgb("#6f5a66"))
    white = rgb("#fff6ea")
    canvas.box(u - 0.2 * size, v - 0.38 * size, u + 0.2 * size, v, white)
    canvas.box(u - 0.165 * size, v - 0.345 * size, u + 0.165 * size, v, darken(color, 0.12), darken(color, 0.3))
    for way in (-1, 1):
        canvas.stroke([(u - way * 0.165 * size, v - 0.345 * size), (u + way * 0.165 * size, v)], size * 0.035, white)
    canvas.box(u - 0.1 * size, v - 0.68 * size, u + 0.1 * size, v - 0.5 * size, white)
    canvas.box(u - 0.065 * size, v - 0.65 * size, u + 0.065 * size, v - 0.53 * size, rgb("#5a3038"))


def silo(canvas: Canvas, u: Real, v: Real, size: Real) -> None:
    canvas.box(u - 0.13 * size, v - 0.9 * size, u + 0.13 * size, v, rgb("#dfe4ea"), rgb("#b4bcc8"))
    canvas.box(u + 0.04 * size, v - 0.9 * size, u + 0.13 * size, v, rgb("#b7bfcb"), rgb("#98a2b2"))
    canvas.ellipse(u, v - 0.9 * size, 0.13 * size, 0.11 * size, rgb("#c8d2de"), shaded=0.7)


def fence(canvas: Canvas, v: Real, size: Real) -> None:
    """A white fence all across."""
    for height in (0.4, 0.75):
        canvas.box(-m.WIDE / 2, v - size * (height + 0.09), m.WIDE / 2, v - size * (height - 0.09), rgb("#ffffff"), rgb("#e2ddd4"))
    for u in np.arange(-m.WIDE / 2, m.WIDE / 2, size * 1.5):
        canvas.box(u, v - size, u + size * 0.24, v, rgb("#ffffff"), rgb("#d8d2c8"), size * 0.08)


def draw_farm(rng: Rng, px: int) -> Scene:
    color = vary(rng, rgb("#8cc63f"), 0.03)
    haze = mix(color, rgb("#e6f2c0"), 0.45)
    yard, base = m.standing(px, 8.0, 0.6), m.foot(8.0)
    side = rng.choice([-1, 1])
    middle = side * rng.uniform(0.05, 0.3)
    for u in m.spread(rng, 7):
        if abs(u - middle) > 0.4:
            m.tree(rng, yard, u, base, rng.uniform(0.2, 0.3), pick(rng, m.LEAF_GREENS))
    silo(yard, middle + side * 0.3, base, rng.uniform(0.42, 0.48))
    barn(yard, middle, base, rng.uniform(0.4, 0.48), vary(rng, rgb("#d33a2f"), 0.02))
    rail = m.standing(px, 5.5, 0.15)
    fence(rail, m.foot(5.5), 0.075)
    tile = grass_tile(rng, px, color)
    layers = [
        *blue_sky(rng, px, "#4fb0f2", "#e8f7ff"),
        m.hills(rng, px, 20.0, (0.03, 0.14), rng.uniform(2, 4), rgb("#e8d05a"), rgb("#c8d87a")),
        m.hills(rng, px, 13.0, (0.0, 0.06), rng.uniform(2, 4), mix(color, rgb("#4f9a3a"), 0.3), haze),
        yard.layer(8.0),
        rail.layer(5.5, bleed="lr"),
    ]
    return Scene("farm", tuple(layers), tile.ground(haze, 3.0), m.HORIZON)


def turret(canvas: Canvas, u: Real, v: Real, width: Real, height: Real, wall: Color, roof: Color) -> None:
    """A round castle tower with a cone and a flag."""
    half, top = width / 2, v - height
    canvas.box(u - half, top, u + half, v, lighten(wall, 0.12), wall)
    canvas.box(u + half * 0.3, top, u + half, v, darken(wall, 0.12), darken(wall, 0.18))
    canvas.box(u - half * 1.2, top, u + half * 1.2, top + width * 0.22, lighten(wall, 0.25), wall, 0.01)
    tip = top - width * 1.25
    canvas.polygon([(u - half * 1.3, top), (u, tip), (u + half * 1.3, top)], lighten(roof, 0.15), roof)
    canvas.polygon([(u + half * 0.3, top), (u, tip), (u + half * 1.3, top)], darken(roof, 0.1), darken(roof, 0.22))
    canvas.stroke([(u, tip), (u, tip - 0.06)], 0.008, rgb("#6d5a50"))
    canvas.polygon([(u, tip - 0.06), (u + 0.055, tip - 0.042), (u, tip - 0.024)], rgb("#ff4f6d"))
    canvas.box(u - half * 0.25, top + height * 0.3, u + half * 0.25, top + height * 0.3 + 0.055, rgb("#4a4a68"), radius=half * 0.25)


def castle(rng: Rng, canvas: Canvas, u: Real, v: Real, wall: Color, roof: Color) -> None:
    """A castle of five towers, a wall with battlements and a gate."""
    m.shadow(canvas, u, v, 0.6)
    turret(canvas, u - 0.14, v, 0.14, rng.uniform(0.4, 0.46), wall, roof)
    turret(canvas, u + 0.15, v, 0.13, rng.uniform(0.34, 0.4), wall, roof)
    top = v - 0.22
    for i in range(9):
        at = u - 0.4 + 0.1 * i
        canvas.box(at - 0.03, top - 0.035, at + 0.03, top + 0.02, lighten(wall, 0.2), wall)
    canvas.box(u - 0.42, top, u + 0.42, v, lighten(wall, 0.12), darken(wall, 0.06))
    turret(canvas, u - 0.44, v, 0.17, rng.uniform(0.28, 0.34), wall, roof)
    turret(canvas, u + 0.44, v, 0.17, rng.uniform(0.28, 0.34), wall, roof)
    canvas.box(u - 0.085, v - 0.17, u + 0.085, v + 0.05, rgb("#8a5a3a"), rgb("#5f3a26"), 0.085)
    canvas.box(u - 0.085, v - 0.02, u + 0.085, v, rgb("#5f3a26"))


def draw_castle(rng: Rng, px: int) -> Scene:
    color = vary(rng, rgb("#7cc653"), 0.025)
    haze = mix(color, rgb("#e0f5d0"), 0.45)
    keep, base = m.standing(px, 9.0, 0.85), m.foot(9.0)
    u = rng.uniform(-0.2, 0.2)
    roof = pick(rng, ("#4f7be0", "#8a5be0", "#e0507a", "#3aa0b8"))
    castle(rng, keep, u, base, vary(rng, rgb("#cfc8dc"), 0.02), roof)
    for at in m.spread(rng, 8):
        if abs(float(at - u)) > 0.62:
            m.tree(rng, keep, at, base, rng.uniform(0.2, 0.3), pick(rng, m.LEAF_GREENS))
    tile = grass_tile(rng, px, color, 12)
    layers = [
        *blue_sky(rng, px, "#5f9cf0", "#fbe9f7"),
        m.hills(rng, px, 22.0, (0.04, 0.16), rng.uniform(2, 4), mix(color, rgb("#8fc0e0"), 0.55), mix(color, rgb("#d8ecf0"), 0.6)),
        keep.layer(9.0),
    ]
    return Scene("castle", tuple(layers), tile.ground(haze, 3.0), m.HORIZON)


def goal(canvas: Canvas, u: Real, v: Real, width: Real, height: Real) -> None:
    """A football goal with a net."""
    for i in range(1, 12):
        at = u - width / 2 + width * i / 12
        canvas.stroke([(at, v), (at, v - height)], 0.005, rgb("#ffffff"), 0.45)
    for i in range(1, 6):
        canvas.stroke([(u - width / 2, v - height * i / 6), (u + width / 2, v - height * i / 6)], 0.005, rgb("#ffffff"), 0.45)
    canvas.stroke([(u - width / 2, v), (u - width / 2, v - height), (u + width / 2, v - height), (u + width / 2, v)], 0.022, rgb("#ffffff"))


def stands(rng: Rng, px: int, depth: Real) -> Layer:
    """Rows of spectators as soft dots under a roof."""
    canvas = m.standing(px, depth, 0.42)
    base = m.foot(depth)
    canvas.box(-m.WIDE / 2, base - 0.3, m.WIDE / 2, base, rgb("#7d8cae"), rgb("#5d6c92"))
    crowd = Canvas(px, 0.6, 0.3, (0, base - 0.17))
    for row in range(4):
        for u in np.arange(-0.27, 0.3, 0.06):
            color = pick(rng, ("#ff6f61", "#ffd35c", "#6fd0ff", "#ffffff", "#8fe08a", "#c79af5"))
            crowd.disc(u + 0.03 * (row % 2) - 0.015, base - 0.075 - 0.054 * row, 0.025, color, 0.75, shaded=0.4)
    for u in np.arange(-m.WIDE / 2, m.WIDE / 2 + 0.6, 0.6):
        canvas.stamp(crowd, u)
    canvas.box(-m.WIDE / 2, base - 0.36, m.WIDE / 2, base - 0.295, rgb("#f5f7fb"), rgb("#c2cada"))
    canvas.box(-m.WIDE / 2, base - 0.045, m.WIDE / 2, base, rgb("#2f6fd8"), rgb("#2456b0"))
    return canvas.layer(depth, bleed="lr")


def draw_field(rng: Rng, px: int) -> Scene:
    color = vary(rng, rgb("#4fae3c"), 0.025)
    tile = Tile(px, 8.0, color)
    for x in np.arange(0, 8, 1.6):
        tile.along(x, x + 0.8, lighten(color, 0.17), 1.0)
    white = rgb("#ffffff")
    tile.ring(0.0, 2.3, 1.15, 0.1, white, 0.95)
    tile.across(4.9, 5.1, white, 0.95)
    goals = m.standing(px, 7.0, 0.4)
    goal(goals, rng.uniform(-0.25, 0.25), m.foot(7.0), 0.55, 0.2)
    layers = [*blue_sky(rng, px, "#4aa3f0", "#dcf1ff"), stands(rng, px, 12.0), goals.layer(7.0)]
    return Scene("sports field", tuple(layers), tile.ground(mix(color, rgb("#8fd07a"), 0.4), 5.0), m.HORIZON)
