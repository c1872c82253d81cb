"""Places on land: meadow, flower field, forests, parks, mountains, snow, desert, volcano."""

import numpy as np

from kinema.world.places import motifs as m
from kinema.world.places.brush import Canvas, Color, Real, Tile, darken, lighten, mix, pick, rgb, vary
from kinema.world.places.scene import Scene

Rng = np.random.Generator


def blue_sky(rng: Rng, px: int, top: str = "#3d9bf0", low: str = "#cdeeff", horizon: Real = m.HORIZON) -> list:
    """A clear sky, a sun somewhere and a few clouds."""
    tops = (vary(rng, rgb(top), 0.03), vary(rng, rgb(low), 0.015))
    sky = m.sky(px, [(-1.2, darken(tops[0], 0.12)), (-0.5, tops[0]), (horizon, tops[1])])
    return [sky, m.clouds(rng, px, int(rng.integers(5, 8)), (-0.75, horizon - 0.14), (0.45, 0.75), m.WHITE_CLOUD)]


def grass_tile(rng: Rng, px: int, color: Color, flowers: int = 0, codes: tuple[str, ...] = ("#ffffff", "#ffe14d")) -> Tile:
    """Mottled grass, four units a side, with a scatter of small flowers."""
    tile = Tile(px, 4.0, color)
    tile.mottle(rng, 5, lighten(color, 0.28), 0.45)
    tile.mottle(rng, 9, darken(color, 0.22), 0.4)
    for _ in range(flowers):
        x, z = rng.uniform(0, 4, 2)
        tile.spot(x, z, 0.028, 0.045, pick(rng, codes), 0.9)
    return tile


def draw_grass(rng: Rng, px: int) -> Scene:
    color = vary(rng, rgb("#6cc43c"), 0.035)
    haze = mix(color, rgb("#dff6c8"), 0.45)
    trees = m.standing(px, 7.0, 0.5)
    for i, u in enumerate(m.flank(rng, int(rng.integers(4, 7)))):
        if i == 0 or rng.uniform() < 0.6:
            m.tree(rng, trees, u, m.foot(7.0), rng.uniform(0.24, 0.38), pick(rng, m.LEAF_GREENS))
        else:
            m.bush(rng, trees, u, m.foot(7.0), rng.uniform(0.16, 0.24), pick(rng, m.LEAF_GREENS))
    layers = [
        *blue_sky(rng, px),
        m.hills(rng, px, 22.0, (0.05, 0.2), rng.uniform(2, 4), mix(color, rgb("#8fd0c0"), 0.5), mix(color, rgb("#c8ecd8"), 0.6)),
        m.hills(rng, px, 13.0, (0.02, 0.11), rng.uniform(2, 4), mix(color, rgb("#9be070"), 0.3), haze),
        trees.layer(7.0),
        m.tufts(rng, px, color, flowers=("#ffffff", "#ffe14d", "#ff8fb3")),
    ]
    return Scene("grass", tuple(layers), grass_tile(rng, px, color, 26).ground(haze, 3.0), m.HORIZON)


def tulip_tile(rng: Rng, px: int, codes: list[str]) -> Tile:
    """Rows of flowers that run away from the camera, one colour a row, with earth and green between."""
    tile = Tile(px, 4.0, rgb("#5aa63a"))
    width = 4.0 / (2 * len(codes))
    for i, code in enumerate(2 * codes):
        middle = (i + 0.5) * width
        color = vary(rng, rgb(code), 0.02)
        tile.along(middle - width * 0.36, middle + width * 0.36, color, soft=width * 0.2)
        tile.along(middle - width * 0.14, middle + width * 0.14, lighten(color, 0.3), 0.6, soft=width * 0.2)
    tile.mottle(rng, (24, 8), rgb("#3c8a35"), 0.22)
    return tile


def windmill(canvas: Canvas, u: Real, v: Real, size: Real, turn: Real) -> None:
    """A tower mill with four sails."""
    m.shadow(canvas, u, v, size * 0.28)
    canvas.polygon(
        [(u - 0.17 * size, v), (u - 0.1 * size, v - 0.6 * size), (u + 0.1 * size, v - 0.6 * size), (u + 0.17 * size, v)],
        rgb("#fff4e0"),
        rgb("#d8b795"),
    )
    canvas.polygon(
        [(u, v - 0.6 * size), (u + 0.1 * size, v - 0.6 * size), (u + 0.17 * size, v), (u + 0.03 * size, v)], rgb("#e2c4a2"), rgb("#bf9870")
    )
    canvas.polygon(
        [(u - 0.14 * size, v - 0.57 * size), (u, v - 0.78 * size), (u + 0.14 * size, v - 0.57 * size)], rgb("#d5503c"), rgb("#a83428")
    )
    canvas.box(u - 0.045 * size, v - 0.16 * size, u + 0.045 * size, v, rgb("#7c4a2c"), radius=0.03 * size)
    hub = (u, v - 0.6 * size)
    for angle in turn + np.arange(4) * np.pi / 2:
        along, aside = np.array([np.cos(angle), np.sin(angle)]) * size, np.array([-np.sin(angle), np.cos(angle)]) * size
        corners = [along * 0.06, along * 0.46, along * 0.46 + aside * 0.1, along * 0.1 + aside * 0.1]
        canvas.polygon([(hub[0] + a, hub[1] + b) for a, b in corners], rgb("#ffffff"), rgb("#e6dccb"))
        canvas.stroke([hub, (hub[0] + along[0] * 0.47, hub[1] + along[1] * 0.47)], 0.018 * size, rgb("#7c4a2c"))
    canvas.disc(*hub, 0.035 * size, rgb("#7c4a2c"))


def draw_flowers(rng: Rng, px: int) -> Scene:
    codes = list(rng.permutation(["#f2384f", "#ffcc26", "#ff7fb0", "#9a5be0", "#ff8a2b", "#fff3f0"]))
    haze = rgb("#f0c8c0")
    mill = m.standing(px, 8.0, 0.75)
    middle = rng.uniform(0.24, 0.36) * rng.choice([-1, 1])
    for u in m.spread(rng, 7):
        if abs(u - middle) > 0.25:
            m.bush(rng, mill, u, m.foot(8.0), rng.uniform(0.14, 0.22), pick(rng, m.LEAF_GREENS))
    windmill(mill, middle, m.foot(8.0), rng.uniform(0.46, 0.54), rng.uniform(0.2, 1.4))
    layers = [
        *blue_sky(rng, px, "#4aa5f5", "#dff3ff"),
        m.tree_line(rng, px, 14.0, 22, 0.13, m.LEAF_GREENS, rgb("#cfeacc"), 0.35),
        mill.layer(8.0),
        m.tufts(rng, px, rgb("#58ab3c"), flowers=codes),
    ]
    return Scene("flower field", tuple(layers), tulip_tile(rng, px, codes).ground(haze, 4.0), m.HORIZON)


def forest_floor(rng: Rng, px: int, color: Color, spots: tuple[str, ...]) -> Tile:
    """Moss with soft blots and fallen leaves."""
    tile = Tile(px, 4.0, color)
    tile.mottle(rng, 5, lighten(color, 0.22), 0.5)
    tile.mottle(rng, 8, darken(color, 0.35), 0.45)
    for _ in range(40):
        x, z = rng.uniform(0, 4, 2)
        tile.spot(x, z, rng.uniform(0.03, 0.05), 0.05, pick(rng, spots), 0.7)
    return tile


def trunks(rng: Rng, px: int, depth: Real, count: int, bark: Color, width: Real) -> Canvas:
    """Tall stems that leave the frame at the top."""
    canvas = m.standing(px, depth, 1.3)
    base = m.foot(depth)
    for u in m.spread(rng, count, jitter=0.6):
        half = width * rng.uniform(0.7, 1.2)
        lean = rng.uniform(-0.04, 0.04)
        m.shadow(canvas, u, base, half * 2.4)
        left = [(u - half * 1.7, base), (u - half, base - 0.08), (u - half * 0.8 + lean, base - 1.3)]
        right = [(u + half * 0.8 + lean, base - 1.3), (u + half, base - 0.08), (u + half * 1.7, base)]
        canvas.polygon([*left, *right], bark)
        canvas.polygon([(u + half * 0.1, base), (u + half * 0.1 + lean, base - 1.3), *right], darken(bark, 0.3))
        canvas.polygon(
            [(u - half, base - 0.08), left[2], (u - half * 0.45 + lean, base - 1.3), (u - half * 0.55, base - 0.08)], lighten(bark, 0.25)
        )
    return canvas


def canopy(rng: Rng, canvas: Canvas, v: Real, codes: tuple[str, ...], haze: Color, share: Real) -> None:
    """Leaves that hang in from above v."""
    for u in m.spread(rng, 11):
        m.crown(rng, canvas, u, v - 0.2 + rng.uniform(-0.05, 0.05), rng.uniform(0.55, 0.7), mix(pick(rng, codes), haze, share))


def draw_forest(rng: Rng, px: int) -> Scene:
    haze, leaf = vary(rng, rgb("#bfe6a0"), 0.03), ("#2f8a3c", "#3a9a3f", "#227a44", "#4aa63a")
    far = trunks(rng, px, 14.0, 17, mix(rgb("#6d6a48"), haze, 0.5), 0.022)
    canopy(rng, far, -0.3, leaf, haze, 0.35)
    near = trunks(rng, px, 6.0, 7, vary(rng, rgb("#7d5636"), 0.03), 0.05)
    for u in m.spread(rng, 8):
        m.bush(rng, near, u, m.foot(6.0), rng.uniform(0.14, 0.24), pick(rng, leaf))
    canopy(rng, near, -0.42, leaf, haze, 0.0)
    sky = m.sky(px, [(-1.2, rgb("#2f7a3c")), (-0.45, rgb("#6fba58")), (-0.15, rgb("#e6f7b8")), (0.1, haze)])
    floor = forest_floor(rng, px, vary(rng, rgb("#5c8a34"), 0.02), ("#8fae3c", "#a8884a", "#3f6e2c"))
    layers = (sky, m.tree_line(rng, px, 24.0, 26, 0.16, leaf, haze, 0.6), far.layer(14.0, bleed="t"), near.layer(6.0, bleed="t"))
    return Scene("forest", layers, floor.ground(mix(haze, rgb("#5c8a34"), 0.35), 3.0), m.HORIZON)


def wood_park(
    rng: Rng, px: int, place: str, codes: tuple[str, ...], leaves: tuple[str, ...], ground: Color, sky_low: str, bark: Color
) -> Scene:
    """A park of coloured trees with fallen leaves or petals: autumn and blossom."""
    haze = mix(ground, rgb(sky_low), 0.5)
    trees = m.standing(px, 6.0, 0.75)
    for u in m.spread(rng, int(rng.integers(6, 8)), jitter=0.5):
        m.tree(rng, trees, u, m.foot(6.0), rng.uniform(0.42, 0.58), pick(rng, codes), bark)
    layers = [
        *blue_sky(rng, px, "#63b3f2", sky_low),
        m.tree_line(rng, px, 22.0, 24, 0.2, codes, rgb(sky_low), 0.5),
        m.tree_line(rng, px, 12.0, 18, 0.22, codes, rgb(sky_low), 0.22),
        trees.layer(6.0),
    ]
    return Scene(place, tuple(layers), forest_floor(rng, px, ground, leaves).ground(haze, 3.0), m.HORIZON)


def draw_autumn(rng: Rng, px: int) -> Scene:
    codes = ("#f28a1e", "#e8551f", "#f7b52c", "#d63c25")
    return wood_park(rng, px, "autumn park", codes, codes, vary(rng, rgb("#c98a3a"), 0.03), "#ffeccb", rgb("#6f4630"))


def draw_blossom(rng: Rng, px: int) -> Scene:
    codes = ("#ff9cc4", "#ffb3d1", "#f783b5", "#ffc9de")
    return wood_park(rng, px, "cherry blossom park", codes, codes, vary(rng, rgb("#8fcb6a"), 0.03), "#fde7f3", rgb("#6d4a4e"))


def draw_mountain(rng: Rng, px: int) -> Scene:
    color = vary(rng, rgb("#6f86b8"), 0.03)
    grass = vary(rng, rgb("#84c452"), 0.03)
    haze = mix(grass, rgb("#dff0e0"), 0.5)
    far, near = m.standing(px, 24.0, 0.75), m.standing(px, 15.0, 0.75)
    for u in m.spread(rng, 6):
        m.rounded_peak(
            far, u, m.foot(24.0), rng.uniform(0.38, 0.5), rng.uniform(0.26, 0.4), mix(color, rgb("#cfe4ff"), 0.5), rgb("#f4f9ff"), rng
        )
    for u in m.spread(rng, 5, jitter=0.5):
        m.rounded_peak(near, u, m.foot(15.0), rng.uniform(0.42, 0.56), rng.uniform(0.34, 0.52), color, rgb("#ffffff"), rng)
    firs = m.standing(px, 8.0, 0.3)
    for u in m.spread(rng, 16, jitter=1.0):
        m.fir(firs, u, m.foot(8.0), rng.uniform(0.1, 0.19), pick(rng, ("#2f7a52", "#3a8a55", "#2a6b4c")))
    tile = grass_tile(rng, px, grass, 14)
    for _ in range(5):
        x, z = rng.uniform(0, 4, 2)
        tile.spot(x, z, 0.12, 0.1, rgb("#a9adb5"), 0.9)
        tile.spot(x - 0.03, z + 0.03, 0.07, 0.05, rgb("#d3d6dc"), 0.8, 0.8)
    layers = [*blue_sky(rng, px, "#3c8fe6", "#d4ecff"), far.layer(24.0), near.layer(15.0), firs.layer(8.0)]
    return Scene("mountain", tuple(layers), tile.ground(haze, 3.5), m.HORIZON)


def draw_snow(rng: Rng, px: int) -> Scene:
    haze = rgb("#eef5ff")
    firs = m.standing(px, 6.5, 0.6)
    for u in [*m.flank(rng, 6), *m.spread(rng, 5)]:
        m.fir(firs, u, m.foot(6.5), rng.uniform(0.26, 0.46), pick(rng, ("#2f7f6a", "#35906f", "#2c7272")), 0.85)
    far = m.standing(px, 15.0, 0.3)
    for u in m.spread(rng, 22, jitter=1.0):
        m.fir(far, u, m.foot(15.0), rng.uniform(0.1, 0.17), mix(rgb("#3f8a80"), haze, 0.45), 0.7)
    tile = Tile(px, 4.0, rgb("#f2f7ff"))
    tile.mottle(rng, 4, rgb("#c3d8f5"), 0.55)
    tile.mottle(rng, 7, rgb("#ffffff"), 0.6)
    sky = m.sky(px, [(-1.2, rgb("#6ea8de")), (-0.5, vary(rng, rgb("#9cc8ee"), 0.03)), (m.HORIZON, rgb("#eaf4ff"))])
    layers = [
        sky,
        m.clouds(rng, px, 6, (-0.75, -0.2), (0.5, 0.8), (rgb("#ffffff"), rgb("#f0f5fc"), rgb("#bfd2ea"))),
        m.hills(rng, px, 24.0, (0.06, 0.22), rng.uniform(2, 4), rgb("#dfeafa"), rgb("#b9cfee")),
        far.layer(15.0),
        m.hills(rng, px, 12.0, (-0.02, 0.05), rng.uniform(2, 4), rgb("#ffffff"), rgb("#d3e2f7")),
        firs.layer(6.5),
    ]
    return Scene("snow", tuple(layers), tile.ground(haze, 3.0), m.HORIZON)


def cactus(canvas: Canvas, u: Real, v: Real, size: Real, color: Color, side: int) -> None:
    """A saguaro with two arms."""
    m.shadow(canvas, u, v, size * 0.25)
    for shift, width, tone in ((0.0, 0.17, darken(color, 0.25)), (-0.02, 0.12, color), (-0.045, 0.04, lighten(color, 0.35))):
        at = u + shift * size
        canvas.stroke([(at, v - size * 0.02), (at, v - size * 0.9)], width * size, tone)
        for way, low, high in ((side, 0.42, 0.72), (-side, 0.3, 0.55)):
            arm = at + way * 0.24 * size
            canvas.stroke([(at, v - low * size), (arm, v - low * size), (arm, v - high * size)], width * 0.75 * size, tone)


def draw_desert(rng: Rng, px: int) -> Scene:
    sand = vary(rng, rgb("#efc06a"), 0.025)
    haze = mix(sand, rgb("#fff0cc"), 0.5)
    plants = m.standing(px, 6.5, 0.5)
    for i, u in enumerate(m.flank(rng, 6)):
        if i == 0 or rng.uniform() < 0.75:
            cactus(plants, u, m.foot(6.5), rng.uniform(0.2, 0.34), vary(rng, rgb("#3f9a4e"), 0.03), int(rng.choice([-1, 1])))
        else:
            m.stone(plants, u, m.foot(6.5), rng.uniform(0.1, 0.2), vary(rng, rgb("#c9824a"), 0.03))
    tile = Tile(px, 4.0, sand)
    tile.mottle(rng, (10, 3), lighten(sand, 0.35), 0.55)
    tile.mottle(rng, (14, 4), mix(sand, rgb("#c07a3a"), 0.6), 0.35)
    sun = (rng.uniform(-0.4, 0.4), -0.36, 0.065, rgb("#fff0a0"))
    layers = [
        m.sky(px, [(-1.2, rgb("#3a8fd6")), (-0.5, vary(rng, rgb("#62b8ee"), 0.03)), (m.HORIZON, rgb("#ffeec4"))], sun),
        m.disc_layer(px, *sun),
        m.hills(rng, px, 25.0, (0.06, 0.2), rng.uniform(2, 3), mix(sand, rgb("#e8906a"), 0.35), mix(sand, rgb("#ffdcb0"), 0.5)),
        m.hills(rng, px, 14.0, (0.0, 0.12), rng.uniform(2, 3), lighten(sand, 0.12), mix(sand, rgb("#d9964a"), 0.45)),
        plants.layer(6.5),
    ]
    return Scene("desert", tuple(layers), tile.ground(haze, 3.0), m.HORIZON)


def volcano(rng: Rng, px: int, depth: Real) -> Canvas:
    """A cone with a glowing crater, streams of lava and smoke."""
    canvas = m.standing(px, depth, 1.0)
    u, base, height, half = rng.uniform(-0.35, 0.35), m.foot(depth), rng.uniform(0.25, 0.31), rng.uniform(0.55, 0.7)
    top, rim = base - height, 0.11
    canvas.glow(u, top - 0.04, 0.2, rgb("#ff7a2a"), 0.8)
    for i in range(5):
        size = 0.16 + 0.05 * i
        m.cloud(
            rng,
            canvas,
            u + rng.uniform(-0.04, 0.04) + 0.03 * i,
            top - 0.02 - 0.09 * i,
            size * 1.5,
            (rgb("#a58a90"), rgb("#6d5560"), rgb("#3d2c38")),
        )
    canvas.polygon([(u - half, base), (u - rim, top), (u + rim, top), (u + half, base)], rgb("#7a4a48"), rgb("#43272f"))
    canvas.polygon([(u + 0.02, top), (u + rim, top), (u + half, base), (u + 0.12, base)], rgb("#54333a"), rgb("#2d1a24"))
    canvas.ellipse(u, top, rim, 0.026, rgb("#ffb030"))
    for start, way in ((-0.05, -0.9), (0.0, 0.1), (0.055, 0.8)):
        bend = rng.uniform(-0.03, 0.03)
        path = [
            (u + start, top + 0.01),
            (u + start + way * 0.06 + bend, top + height * 0.3),
            (u + start + way * 0.16 - bend, top + height * rng.uniform(0.6, 0.85)),
        ]
        canvas.stroke(path, 0.045, rgb("#ff5a1e"))
        canvas.stroke(path, 0.02, rgb("#ffd24a"))
    return canvas


def draw_volcano(rng: Rng, px: int) -> Scene:
    rock = vary(rng, rgb("#54383c"), 0.015)
    tile = Tile(px, 4.0, rock)
    tile.mottle(rng, 6, lighten(rock, 0.2), 0.5)
    tile.mottle(rng, 9, rgb("#2a1a22"), 0.5)
    for _ in range(9):
        x, z = rng.uniform(0, 4, 2)
        rx, rz = rng.uniform(0.14, 0.34), rng.uniform(0.1, 0.2)
        tile.spot(x, z, rx, rz, rgb("#ff5a1e"), 0.9, 0.5)
        tile.spot(x, z, rx * 0.6, rz * 0.6, rgb("#ffc84a"), 0.9, 0.6)
    stones = m.standing(px, 6.0, 0.3)
    for u in m.spread(rng, 6):
        m.stone(stones, u, m.foot(6.0), rng.uniform(0.14, 0.26), vary(rng, rgb("#5a4048"), 0.02))
    layers = [
        m.sky(px, [(-1.2, rgb("#3a1630")), (-0.5, vary(rng, rgb("#8a2a3c"), 0.03)), (m.HORIZON, rgb("#ff9a4a"))]),
        m.hills(rng, px, 26.0, (0.04, 0.14), 5, rgb("#7a3440"), rgb("#b5553f")),
        volcano(rng, px, 16.0).layer(16.0),
        stones.layer(6.0),
    ]
    return Scene("volcano", tuple(layers), tile.ground(rgb("#9c4a3c"), 3.5), m.HORIZON)
