"""Places under a roof: living room, kitchen, library, stage, and plain studio walls."""

import numpy as np

from kinema.world.places import motifs as m
from kinema.world.places.brush import Canvas, Color, Real, Tile, darken, lighten, mix, pick, ramp, rgb, vary
from kinema.world.places.built import window
from kinema.world.places.scene import Layer, Scene

Rng = np.random.Generator
HORIZON, WALL = -0.09, 4.6  # screen v of the eye line indoors; depth of the back wall


def floor_tile(rng: Rng, px: int, wood: Color, gap: Real = 0.5) -> Tile:
    """Boards that run away from the camera, each in its own tone, eight units a side."""
    tile = Tile(px, 8.0, wood)
    for x in np.arange(0, 8, gap):
        tone = lighten(wood, rng.uniform(0, 0.16)) if rng.uniform() < 0.5 else darken(wood, rng.uniform(0, 0.12))
        tile.along(x, x + gap, tone, soft=0.02)
        tile.along(x - 0.02, x + 0.02, darken(wood, 0.32), 0.7)
    return tile


def backing(px: int, color: Color) -> Layer:
    """What lies behind everything, in one colour."""
    canvas = Canvas(px / 8, m.WIDE, m.TALL)
    canvas.fill([(-1, color), (1, color)])
    return canvas.layer(50.0, bleed="tblr")


def wall(px: int, top: Color, low: Color, skirting: Color) -> Canvas:
    """A wall that fills the frame down to its skirting board."""
    base = m.foot(WALL, HORIZON)
    canvas = Canvas(px, m.WIDE, base + m.TALL / 2, (0, (base - m.TALL / 2) / 2))
    canvas.fill([(-0.7, top), (base, low)])
    canvas.box(-m.WIDE, base - 0.035, m.WIDE, base + 0.1, lighten(skirting, 0.3), skirting)
    return canvas


def sofa(canvas: Canvas, u: Real, v: Real, width: Real, color: Color) -> None:
    """A plump sofa with two cushions."""
    m.shadow(canvas, u, v, width * 0.55)
    tall = width * 0.42
    canvas.box(u - width * 0.45, v - tall, u + width * 0.45, v - 0.02, lighten(color, 0.18), color, 0.05)
    for way in (-1, 1):
        at = u + way * width * 0.2
        canvas.box(at - width * 0.19, v - tall * 0.52, at + width * 0.19, v - tall * 0.14, lighten(color, 0.32), color, 0.03)
        arm = u + way * width * 0.46
        canvas.box(arm - width * 0.08, v - tall * 0.68, arm + width * 0.08, v - 0.015, lighten(color, 0.22), darken(color, 0.14), 0.04)
    canvas.box(u - width * 0.4, v - tall * 0.2, u + width * 0.4, v - 0.015, color, darken(color, 0.2), 0.02)


def view_window(rng: Rng, canvas: Canvas, u: Real, v: Real, width: Real, height: Real, drape: Color) -> None:
    """A big window on sky and hill, with curtains at both sides."""
    canvas.box(u - width / 2, v - height / 2, u + width / 2, v + height / 2, rgb("#ffffff"), rgb("#e6e0da"), 0.015)
    left, right, top, low = u - width * 0.44, u + width * 0.44, v - height * 0.43, v + height * 0.43
    canvas.box(left, top, right, low, rgb("#7cc6f5"), rgb("#dff4ff"))
    canvas.box(left, low - height * 0.24, right, low, rgb("#8fd068"), rgb("#6cb84e"))
    canvas.disc(u + rng.uniform(-0.2, 0.2) * width, v - height * 0.16, height * 0.08, rgb("#ffffff"), 0.9)
    canvas.box(u - 0.009, top, u + 0.009, low, rgb("#ffffff"))
    canvas.box(left, v - 0.008, right, v + 0.008, rgb("#ffffff"))
    for way in (-1, 1):
        for i in range(3):
            at = u + way * (width * 0.56 - i * width * 0.07)
            canvas.box(
                at - width * 0.05,
                v - height * 0.6,
                at + width * 0.05,
                v + height * 0.62,
                lighten(drape, 0.2 - 0.12 * (i % 2)),
                darken(drape, 0.08),
                0.02,
            )
    canvas.stroke([(u - width * 0.68, v - height * 0.6), (u + width * 0.68, v - height * 0.6)], 0.018, rgb("#a8703e"))


def floor_lamp(canvas: Canvas, u: Real, v: Real, size: Real) -> None:
    canvas.glow(u, v - size * 0.88, size * 0.34, rgb("#fff0b0"), 0.6)
    canvas.stroke([(u, v), (u, v - size * 0.8)], 0.012, rgb("#6d5a50"))
    canvas.ellipse(u, v, size * 0.1, size * 0.025, rgb("#6d5a50"))
    canvas.polygon(
        [(u - size * 0.16, v - size * 0.75), (u - size * 0.1, v - size), (u + size * 0.1, v - size), (u + size * 0.16, v - size * 0.75)],
        rgb("#fff2c8"),
        rgb("#ffd98a"),
    )


def plant(rng: Rng, canvas: Canvas, u: Real, v: Real, size: Real) -> None:
    """A house plant in a pot."""
    for angle in np.linspace(-2.7, -0.44, 6):
        tip = (u + np.cos(angle) * size * 0.4, v - size * 0.3 + np.sin(angle) * size * 0.65)
        middle = (u + np.cos(angle) * size * 0.16, v - size * 0.3 + np.sin(angle) * size * 0.4)
        canvas.stroke([(u, v - size * 0.25), middle, tip], size * 0.11, vary(rng, rgb("#3f9f52"), 0.04))
    canvas.polygon(
        [(u - size * 0.17, v - size * 0.34), (u + size * 0.17, v - size * 0.34), (u + size * 0.12, v), (u - size * 0.12, v)],
        rgb("#f08a5a"),
        rgb("#c8623a"),
    )


def draw_room(rng: Rng, px: int) -> Scene:
    paint = pick(rng, ("#f6d9b8", "#cfe3d2", "#f5cfc8", "#cfdcee", "#efe0a8"))
    back = wall(px, lighten(paint, 0.12), darken(paint, 0.05), rgb("#f2ece4"))
    side = int(rng.choice([-1, 1]))
    view_window(rng, back, side * rng.uniform(0.24, 0.32), -0.25, 0.36, 0.34, pick(rng, ("#e8705f", "#5f9fd0", "#f0b04a", "#8f7fd0")))
    for u in (-side * 0.28, -side * 1.2, side * 1.25):
        back.box(u - 0.1, -0.36, u + 0.1, -0.2, rgb("#b87a48"), rgb("#8f5a34"), 0.01)
        back.box(
            u - 0.08, -0.34, u + 0.08, -0.22, pick(rng, ("#8fd0f0", "#ffd27a", "#f6a8b8")), pick(rng, ("#5fb87a", "#f08a5a", "#7a8fe0"))
        )
    things, base = m.standing(px, 4.2, 0.85, HORIZON), m.foot(4.2, HORIZON)
    sofa(things, -side * rng.uniform(0.22, 0.32), base, 0.56, pick(rng, ("#5f8fd8", "#e8735f", "#56b08c", "#a57fd8", "#f0a848")))
    floor_lamp(things, side * rng.uniform(0.12, 0.2), base, 0.46)
    plant(rng, things, side * rng.uniform(0.42, 0.52), base, 0.26)
    plant(rng, things, -side * rng.uniform(1.0, 1.2), base, 0.3)
    sofa(things, side * rng.uniform(1.2, 1.4), base, 0.5, pick(rng, ("#e8c24a", "#d87f9c", "#5fb0b8")))
    tile = floor_tile(rng, px, vary(rng, rgb("#c98d56"), 0.02))
    rug = pick(rng, ("#f07a6a", "#6fa8e0", "#f5c65a", "#8fcfa8"))
    for share, tone in ((1.0, rug), (0.8, lighten(rug, 0.45)), (0.68, rug)):
        tile.spot(0, 1.6, 1.35 * share, 0.72 * share, tone, soft=0.06)
    layers = (backing(px, paint), back.layer(WALL, bleed="tlr"), things.layer(4.2))
    return Scene("room", layers, tile.ground(rgb("#c08a58"), 7.0), HORIZON)


def fridge(canvas: Canvas, u: Real, v: Real, width: Real, height: Real, color: Color) -> None:
    canvas.box(u - width / 2, v - height, u + width / 2, v, lighten(color, 0.35), darken(color, 0.12), 0.03)
    canvas.box(u - width / 2, v - height * 0.66, u + width / 2, v - height * 0.64, darken(color, 0.35))
    for low, high in ((0.7, 0.85), (0.4, 0.6)):
        canvas.stroke([(u - width * 0.34, v - height * low), (u - width * 0.34, v - height * high)], 0.016, rgb("#8f98a8"))


def stove(canvas: Canvas, u: Real, v: Real, width: Real, height: Real) -> None:
    """An oven with a window, knobs, and a pot on top."""
    canvas.box(u - width / 2, v - height, u + width / 2, v, rgb("#eef1f5"), rgb("#c2c9d4"), 0.012)
    canvas.box(u - width * 0.36, v - height * 0.66, u + width * 0.36, v - height * 0.15, rgb("#4a5060"), rgb("#2c3040"), 0.015)
    canvas.glow(u, v - height * 0.36, width * 0.16, rgb("#ffae4a"), 0.7)
    for at in (-0.3, -0.1, 0.1, 0.3):
        canvas.disc(u + at * width, v - height * 0.83, 0.014, rgb("#e8503c"))
    canvas.box(u - width * 0.52, v - height - 0.012, u + width * 0.52, v - height + 0.012, rgb("#3a3f4c"))
    canvas.box(u - width * 0.26, v - height - 0.1, u + width * 0.26, v - height - 0.01, rgb("#ff7060"), rgb("#c23a34"), 0.02)
    canvas.box(u - width * 0.3, v - height - 0.118, u + width * 0.3, v - height - 0.092, rgb("#ff9a8a"), rgb("#d8503f"), 0.01)
    canvas.disc(u, v - height - 0.128, 0.016, rgb("#3a3f4c"))


def cupboards(canvas: Canvas, left: Real, right: Real, top: Real, low: Real, color: Color) -> None:
    """A row of cupboard doors."""
    count = max(1, round((right - left) / 0.2))
    step = (right - left) / count
    canvas.box(left, top, right, low, darken(color, 0.12))
    for i in range(count):
        at = left + i * step
        canvas.box(at + 0.008, top + 0.01, at + step - 0.008, low - 0.01, lighten(color, 0.28), color, 0.014)
        canvas.disc(at + step * (0.82 if i % 2 == 0 else 0.18), (top * 0.4 + low * 0.6), 0.011, rgb("#fff6e0"))


def draw_kitchen(rng: Rng, px: int) -> Scene:
    paint = pick(rng, ("#fff0cc", "#dff2ee", "#ffe2d6", "#e6eefc"))
    wood = pick(rng, ("#4fb0a8", "#f0a04a", "#6f9fe0", "#e87a6a", "#8fbf5f"))
    back = wall(px, lighten(paint, 0.2), paint, rgb("#e0d8cc"))
    for u in np.arange(-m.WIDE / 2, m.WIDE / 2, 0.12):
        back.box(u, -0.2, u + 0.112, -0.09, lighten(paint, 0.55), mix(paint, wood, 0.12), 0.01)
    side = int(rng.choice([-1, 1]))
    for left in np.arange(-2.2, 2.2, 1.1):
        cupboards(back, left, left + 0.62, -0.48, -0.26, wood)
        window(back, left + 0.86, -0.33, 0.32, 0.26, rgb("#8fd4f8"))
    units = m.standing(px, 4.3, 0.6, HORIZON)
    floor = m.foot(4.3, HORIZON)
    cupboards(units, -m.WIDE / 2, m.WIDE / 2, floor - 0.17, floor - 0.015, wood)
    units.box(-m.WIDE / 2, floor - 0.2, m.WIDE / 2, floor - 0.165, rgb("#fbf3e6"), rgb("#d8c8b0"), 0.01)
    units.box(-m.WIDE / 2, floor - 0.018, m.WIDE / 2, floor, darken(wood, 0.5))
    stove(units, side * rng.uniform(0.1, 0.18), floor, 0.26, 0.205)
    fridge(units, -side * rng.uniform(0.3, 0.38), floor, 0.25, 0.46, pick(rng, ("#e6ecf2", "#ffd8d0", "#d0eadf")))
    fridge(units, side * rng.uniform(1.2, 1.5), floor, 0.25, 0.46, rgb("#e6ecf2"))
    stove(units, -side * rng.uniform(1.2, 1.5), floor, 0.26, 0.205)
    tile = Tile(px, 8.0, rgb("#fffaf0"))
    board = (np.floor(tile.x[None] / 0.5) + np.floor(tile.z[:, None] / 0.5)) % 2
    tile.blend(mix(rgb("#fffaf0"), wood, 0.5), board)
    layers = (backing(px, paint), back.layer(WALL, bleed="tlr"), units.layer(4.3, bleed="lr"))
    return Scene("kitchen", layers, tile.ground(mix(rgb("#fffaf0"), wood, 0.25), 2.4), HORIZON)


BOOKS = ("#d8503f", "#3f7fc8", "#f0b03f", "#4fa060", "#8f5fc0", "#f5e8d0", "#e87fa0", "#3fa0a8")


def books(rng: Rng, canvas: Canvas, left: Real, right: Real, row: Real) -> None:
    """A row of books of several widths and heights that stands on v = row."""
    widths = rng.uniform(0.036, 0.06, 30)
    edges = left + np.concatenate([[0], np.cumsum(widths)])
    edges = edges[edges < right - 0.01]
    count = len(edges) - 1
    colors = np.stack([pick(rng, BOOKS) for _ in range(count)], 1)
    canvas.spines(edges, row - rng.uniform(0.1, 0.15, count), row, colors)


def shelf(rng: Rng, canvas: Canvas, left: Real, right: Real, rows: list[Real], wood: Color) -> None:
    """A bookcase whose boards lie at the given v, with books on each."""
    canvas.box(left, rows[0] - 0.2, right, rows[-1] + 0.03, darken(wood, 0.45), darken(wood, 0.55))
    for row in rows:
        books(rng, canvas, left + 0.03, right - 0.03, row)
        canvas.box(left, row, right, row + 0.026, lighten(wood, 0.2), wood)
    for u in (left, right):
        canvas.box(u - 0.02, rows[0] - 0.22, u + 0.02, rows[-1] + 0.06, lighten(wood, 0.2), wood)


def draw_library(rng: Rng, px: int) -> Scene:
    wood = vary(rng, rgb("#8f5530"), 0.02)
    back, base = wall(px, rgb("#6d4630"), rgb("#7d5238"), wood), m.foot(WALL, HORIZON)
    rows = [base - 0.03 - 0.19 * i for i in range(5, -1, -1)]
    width = m.WIDE / 6
    for i in range(6):
        shelf(rng, back, -m.WIDE / 2 + i * width, -m.WIDE / 2 + (i + 1) * width, rows, wood)
    things, floor = m.standing(px, 4.2, 0.85, HORIZON), m.foot(4.2, HORIZON)
    side = int(rng.choice([-1, 1]))
    floor_lamp(things, side * rng.uniform(0.36, 0.46), floor, 0.44)
    at = -side * rng.uniform(0.28, 0.4)
    things.stroke([(at, floor), (at + 0.1, floor - 0.6)], 0.024, lighten(wood, 0.45))
    things.stroke([(at + 0.16, floor), (at + 0.24, floor - 0.6)], 0.024, lighten(wood, 0.45))
    for i in range(1, 7):
        t = i / 7
        things.stroke([(at + 0.1 * t, floor - 0.6 * t), (at + 0.16 + 0.08 * t, floor - 0.6 * t)], 0.018, lighten(wood, 0.35))
    tile = floor_tile(rng, px, vary(rng, rgb("#a8683c"), 0.02))
    rug = pick(rng, ("#a83a3a", "#2f5f8f", "#3f7a52"))
    tile.along(-0.52, 0.52, rgb("#e8c878"))
    tile.along(-0.44, 0.44, rug)
    return Scene("library", (backing(px, wood), back.layer(WALL, bleed="tlr"), things.layer(4.2)), tile.ground(wood, 7.0), HORIZON)


def drapes(canvas: Canvas, left: Real, right: Real, top: Real, low: Real, color: Color, folds: Real) -> None:
    """Hanging velvet: soft vertical folds."""
    window_ = canvas.window(left, top, right, low)
    u, v = canvas.u[window_[1]], canvas.v[window_[0], None]
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * folds * u + 0.5 * np.sin(2.3 * np.pi * folds * u))
    tone = np.clip(wave * (1 - 0.25 * np.clip((v - top) / (low - top), 0, 1)), 0, 1)
    light = ramp(tone, [(0, darken(color, 0.6)), (0.55, color), (1, lighten(color, 0.25))])
    inside = np.clip((u - left) * canvas.px + 0.5, 0, 1) * np.clip((right - u) * canvas.px + 0.5, 0, 1)
    down = np.clip((v - top) * canvas.px + 0.5, 0, 1) * np.clip((low - v) * canvas.px + 0.5, 0, 1)
    canvas.paint(window_, down * inside, light)


def beams(px: int, rng: Rng, floor: Real) -> Layer:
    """Cones of light from above."""
    canvas = Canvas(px / 2, 3.2, 1.4, (0, floor - 0.68))
    for u, code in zip((-0.75, -0.28, 0.28, 0.75), rng.permutation(["#fff2b8", "#ffd0f0", "#c8e6ff", "#fff2b8"]), strict=True):
        top, target = floor - 1.1, u * 0.55
        share = np.clip((canvas.v[:, None] - top) / (floor - top), 0, 1)
        away = np.abs(canvas.u[None] - (u + (target - u) * share)) / (0.03 + 0.2 * share)
        canvas.paint(
            (slice(None), slice(None)), 0.34 * np.exp(-(away**2) * 1.6) * (canvas.v[:, None] < floor) * (1 - 0.55 * share), rgb(code)
        )
    return canvas.layer(4.0, bleed="t")


def draw_stage(rng: Rng, px: int) -> Scene:
    red = pick(rng, ("#c8202c", "#c01f3c", "#b3202a", "#a8206a"))
    gold = rgb("#f5c451")
    back, base = wall(px, darken(red, 0.5), darken(red, 0.35), rgb("#5a3020")), m.foot(WALL, HORIZON)
    drapes(back, -m.WIDE, m.WIDE, -1.3, base - 0.02, darken(red, 0.3), rng.uniform(7, 9))
    front = Canvas(px, 3.6, 1.9, (0, -0.75))
    depth = 3.9
    low = m.foot(depth, HORIZON)
    for way in (-1, 1):
        a, b = sorted((way * 0.4, way * 1.8))
        drapes(front, a, b, -1.5, low, red, 6.5)
        front.box(min(way * 0.4, way * 0.46), -1.5, max(way * 0.4, way * 0.46), low, lighten(red, 0.3), red, 0.03)
    drapes(front, -1.8, 1.8, -1.5, -0.36, red, 5.0)
    for u in np.arange(-1.8, 1.8, 0.2):
        front.ellipse(u + 0.1, -0.36, 0.105, 0.06, lighten(red, 0.05))
        front.stroke([(u + 0.1 + 0.1 * np.cos(t), -0.35 + 0.058 * np.sin(t)) for t in np.linspace(0, np.pi, 7)], 0.018, gold)
    tile = floor_tile(rng, px, vary(rng, rgb("#b06a34"), 0.02), 0.4)
    tile.spot(0, 1.6, 1.3, 0.8, rgb("#ffe6a8"), 0.6, 0.7)
    layers = (backing(px, darken(red, 0.5)), back.layer(WALL, bleed="tlr"), beams(px, rng, base), front.layer(depth, bleed="tlr"))
    return Scene("stage", layers, tile.ground(rgb("#7d4526"), 5.0), HORIZON)


def draw_plain(rng: Rng, px: int, name: str, code: str) -> Scene:
    color = vary(rng, rgb(code), 0.02)
    canvas = Canvas(px / 2, m.WIDE, m.TALL)
    canvas.fill([(-1.2, darken(color, 0.12)), (-0.3, color), (0.25, lighten(color, 0.06)), (1.2, darken(color, 0.08))])
    canvas.glow(rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.05), rng.uniform(0.4, 0.6), lighten(color, 0.45), 0.55)
    return Scene(name, (canvas.layer(50.0, bleed="tblr"),), None, HORIZON)
