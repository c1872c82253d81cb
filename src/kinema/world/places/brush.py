"""Painting soft, rounded, anti-aliased shapes into float32 premultiplied RGBA.

A `Canvas` is measured in frame heights (u right, v down, as on the screen at rest), a `Tile` in periods of the ground.
Light falls from the upper left. Colours are float32 RGB triples in [0, 1].
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from kinema.world.places.scene import Ground, Layer

Real = float | int | np.floating
FINE = 4  # subpixels a pixel, each way, in the rims of polygons
Color = np.ndarray  # float32 [3]
Disc = tuple[Real, Real, Real]  # u, v, radius
LIGHT = np.array([-0.45, -0.68, 0.58], np.float32)  # towards the light, in (u, v, out of the picture)


def rgb(code: str) -> Color:
    """'#rrggbb' as a colour."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


def mix(a: Color, b: Color, share: Real) -> Color:
    """a where share is 0, b where it is 1."""
    return (a + (b - a) * np.float32(share)).astype(np.float32)


def lighten(color: Color, share: Real) -> Color:
    return mix(color, np.ones(3, np.float32), share)


def darken(color: Color, share: Real) -> Color:
    """Towards a deep blue rather than black: shadows stay colourful."""
    return mix(color, np.array([0.06, 0.06, 0.18], np.float32), share)


def vary(rng: np.random.Generator, color: Color, amount: Real = 0.04) -> Color:
    """A neighbour of a colour."""
    return np.clip(color + rng.uniform(-amount, amount, 3), 0, 1).astype(np.float32)


def pick(rng: np.random.Generator, codes: Sequence[str]) -> Color:
    """One of several '#rrggbb', slightly varied."""
    return vary(rng, rgb(codes[int(rng.integers(len(codes)))]), 0.02)


def ramp(position: np.ndarray, stops: Sequence[tuple[Real, Color]]) -> np.ndarray:
    """Colours [3 ...] along stops (position, colour), which ascend; a picture looks them up in 512 steps."""
    places, colors = np.array([stop for stop, _ in stops]), np.stack([color for _, color in stops])
    if position.ndim < 2 or position.size < 512:
        return np.stack([np.interp(position, places, colors[:, c]) for c in range(3)]).astype(np.float32)
    table = ramp(np.linspace(places[0], places[-1], 512), stops)
    steps = (position - np.float32(places[0])) * np.float32(511 / (places[-1] - places[0]))
    return table.take(np.clip(steps, 0, 511).astype(np.int16), 1)


def wander(rng: np.random.Generator, span: Real, bumps: Real, octaves: int = 2) -> Callable[[np.ndarray], np.ndarray]:
    """A smooth random line over u in [-span / 2, span / 2], mostly within [-1, 1], with about `bumps` bumps across."""
    waves = [(2**k * bumps * rng.uniform(0.8, 1.2) / span, rng.uniform(0, 2 * np.pi), 0.5**k) for k in range(octaves)]

    def line(u: np.ndarray) -> np.ndarray:
        total = sum(size * np.sin(2 * np.pi * frequency * u + phase) for frequency, phase, size in waves)
        return np.asarray(total / sum(size for *_, size in waves), np.float32)

    return line


def lit(du: np.ndarray, dv: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Soft light in [0, 1] on a surface with normal (du, dv, out)."""
    return 0.5 + 0.5 * (du * LIGHT[0] + dv * LIGHT[1] + out * LIGHT[2])


def ball(color: Color, du: np.ndarray, dv: np.ndarray, strength: Real) -> np.ndarray:
    """Colours of a ball over offsets in radii, from its shadow to its highlight."""
    tone = lit(du, dv, np.sqrt(np.maximum(1 - du**2 - dv**2, 0.0)))
    return ramp(tone, [(0.1, darken(color, 0.45 * strength)), (0.6, color), (1.0, lighten(color, 0.5 * strength))])


def around(windows: Sequence[tuple[slice, slice]]) -> tuple[slice, slice]:
    """The smallest window that holds all of some."""
    rows, columns = zip(*windows, strict=True)
    return tuple(slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in (rows, columns))  # type: ignore[return-value]


class Canvas:
    """A picture `width` x `height` frame heights around `center`, at `px` pixels a frame height."""

    def __init__(self, px: Real, width: Real, height: Real, center: tuple[Real, Real] = (0.0, 0.0)):
        self.px = float(px)
        rows, columns = max(2, round(height * px)), max(2, round(width * px))
        self.left, self.top = center[0] - columns / px / 2, center[1] - rows / px / 2
        self.pixels = np.zeros((4, rows, columns), np.float32)
        self.u = (self.left + (np.arange(columns, dtype=np.float32) + 0.5) / px).astype(np.float32)
        self.v = (self.top + (np.arange(rows, dtype=np.float32) + 0.5) / px).astype(np.float32)

    def window(self, u0: Real, v0: Real, u1: Real, v1: Real) -> tuple[slice, slice]:
        """The pixels (rows, columns) that touch a box, one pixel of margin included."""
        rows, columns = self.pixels.shape[1:]
        top, bottom = ((v - self.top) * self.px for v in (v0, v1))
        left, right = ((u - self.left) * self.px for u in (u0, u1))
        clip = lambda value, limit: int(min(max(value, 0), limit))  # noqa: E731
        return slice(clip(top - 2, rows), clip(bottom + 3, rows)), slice(clip(left - 2, columns), clip(right + 3, columns))

    def paint(self, window: tuple[slice, slice], alpha: np.ndarray, color: np.ndarray) -> None:
        """Lay colour [3] or [3 h w] with coverage [h w] over a window."""
        target = self.pixels[:, window[0], window[1]]
        if not target.size:
            return
        alpha = np.clip(alpha, 0, 1, dtype=np.float32)
        target *= 1 - alpha
        target[:3] += (color[:, None, None] if color.ndim == 1 else color) * alpha
        target[3] += alpha

    def fill(self, stops: Sequence[tuple[Real, Color]]) -> None:
        """Cover everything with a vertical gradient; stops are (v, colour)."""
        self.pixels[:3] = ramp(self.v, stops)[..., None]
        self.pixels[3] = 1

    def glow(self, u: Real, v: Real, radius: Real, color: Color, strength: Real = 1.0) -> None:
        """A soft light that fades to nothing at 2.2 radii."""
        window = self.window(u - 2.2 * radius, v - 2.2 * radius, u + 2.2 * radius, v + 2.2 * radius)
        du, dv = self.u[window[1]] - u, self.v[window[0], None] - v
        self.paint(window, strength * np.exp(-(du**2 + dv**2) / radius**2), color)

    def ellipse(self, u: Real, v: Real, ru: Real, rv: Real, color: Color, alpha: Real = 1.0, shaded: Real = 0.0) -> None:
        """A flat ellipse, or with `shaded` a ball lit from the upper left."""
        window = self.window(u - ru, v - rv, u + ru, v + rv)
        du, dv = (self.u[window[1]] - u) / ru, (self.v[window[0], None] - v) / rv
        distance = np.sqrt(du**2 + dv**2)
        cover = np.clip((1 - distance) * min(ru, rv) * self.px + 0.5, 0, 1)
        self.paint(window, alpha * cover, ball(color, du, dv, shaded) if shaded else color)

    def disc(self, u: Real, v: Real, radius: Real, color: Color, alpha: Real = 1.0, shaded: Real = 0.0) -> None:
        self.ellipse(u, v, radius, radius, color, alpha, shaded)

    def box(self, u0: Real, v0: Real, u1: Real, v1: Real, top: Color, bottom: Color | None = None, radius: Real = 0.0) -> None:
        """A rectangle with rounded corners and a vertical gradient."""
        window = self.window(u0, v0, u1, v1)
        radius = min(radius, (u1 - u0) / 2, (v1 - v0) / 2)
        du = np.abs(self.u[window[1]] - (u0 + u1) / 2) - (u1 - u0) / 2 + radius
        dv = np.abs(self.v[window[0], None] - (v0 + v1) / 2) - (v1 - v0) / 2 + radius
        outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0) - radius
        rows = self.v[window[0]]
        color = top if bottom is None else ramp(rows, [(v0, top), (v1, bottom)])[..., None]
        self.paint(window, 0.5 - outside * self.px, color)

    def polygon(self, points: Sequence[tuple[Real, Real]], top: Color, bottom: Color | None = None) -> None:
        """A filled polygon with a vertical gradient."""
        corners = np.array(points, np.float32)
        (u0, v0), (u1, v1) = corners.min(0), corners.max(0)
        window = self.window(u0, v0, u1, v1)
        rows, columns = self.pixels[0][window].shape
        if not rows * columns:
            return
        offset = np.array([self.left + window[1].start / self.px, self.top + window[0].start / self.px], np.float32)
        fine = Image.new("L", (columns * FINE, rows * FINE))
        ImageDraw.Draw(fine).polygon(((corners - offset) * (self.px * FINE) - 0.5).ravel().tolist(), fill=255)
        cover = np.asarray(fine.reduce(FINE), np.float32) / 255
        color = top if bottom is None else ramp(self.v[window[0]], [(v0, top), (max(v1, v0 + 1e-3), bottom)])[..., None]
        self.paint(window, cover, color)

    def stroke(self, points: Sequence[tuple[Real, Real]], width: Real, color: Color, alpha: Real = 1.0) -> None:
        """A line with round ends through points."""
        for (u0, v0), (u1, v1) in itertools.pairwise(points):
            half = width / 2
            window = self.window(min(u0, u1) - half, min(v0, v1) - half, max(u0, u1) + half, max(v0, v1) + half)
            du, dv = self.u[window[1]] - u0, self.v[window[0], None] - v0
            along = np.clip((du * (u1 - u0) + dv * (v1 - v0)) / max((u1 - u0) ** 2 + (v1 - v0) ** 2, 1e-9), 0, 1)
            away = np.hypot(du - along * (u1 - u0), dv - along * (v1 - v0))
            self.paint(window, alpha * np.clip((half - away) * self.px + 0.5, 0, 1), color)

    def ridge(self, crest: Callable[[np.ndarray], np.ndarray], stops: Sequence[tuple[Real, Color]], floor: Real) -> None:
        """Fill from a crest line v = crest(u) down to v = floor; stops are (depth under the crest, colour)."""
        line = crest(self.u)
        window = self.window(self.u[0], float(line.min()), self.u[-1], floor)
        rows = self.v[window[0], None]
        under = rows - line[window[1]]
        cover = np.clip(under * self.px + 0.5, 0, 1) * np.clip((floor - rows) * self.px + 0.5, 0, 1)
        self.paint(window, cover, ramp(under, stops))

    def puffs(self, discs: Sequence[Disc], light: Color, base: Color, shade: Color, alpha: Real = 1.0) -> None:
        """Balls melted together, lit from the upper left: clouds, bushes, crowns of trees."""
        _, v, r = np.array(discs, np.float32).T
        top, bottom = float((v - r).min()), float((v + r).max())
        windows = [self.window(mu - radius, mv - radius, mu + radius, mv + radius) for mu, mv, radius in discs]
        window = around(windows)
        total, glow, cover = np.full((3, *self.pixels[0][window].shape), 1e-6, np.float32)
        for (middle_u, middle_v, radius), (rows, columns) in zip(discs, windows, strict=True):
            du, dv = (self.u[columns] - middle_u) / radius, (self.v[rows, None] - middle_v) / radius
            away = du**2 + dv**2
            height = np.sqrt(np.maximum(1 - away, 0))
            weight = np.exp(height * np.float32(7 * radius / r.max())) * (away < 1.1)
            part = (
                slice(rows.start - window[0].start, rows.stop - window[0].start),
                slice(columns.start - window[1].start, columns.stop - window[1].start),
            )
            total[part] += weight
            glow[part] += weight * lit(du, dv, height)
            cover[part] = np.maximum(cover[part], np.clip((1 - np.sqrt(away)) * np.float32(radius * self.px) + 0.5, 0, 1))
        down = (self.v[window[0], None] - top) / max(bottom - top, 1e-6)
        tone = 0.72 * glow / total + 0.37 - 0.42 * down
        self.paint(window, alpha * cover, ramp(tone, [(0.1, shade), (0.5, base), (0.92, light)]))

    def panes(self, u0: Real, v0: Real, u1: Real, v1: Real, colors: np.ndarray, share: tuple[Real, Real], alpha: Real = 1.0) -> None:
        """A grid of window panes, colours [3 rows columns]; each covers a share (across, down) of its cell."""
        window = self.window(u0, v0, u1, v1)
        across, half_u = self._cells(self.u[window[1]], u0, u1, colors.shape[2], share[0])
        down, half_v = self._cells(self.v[window[0]], v0, v1, colors.shape[1], share[1])
        self.paint(window, alpha * half_v[:, None] * half_u, colors[:, down[:, None], across])

    def _cells(self, at: np.ndarray, start: Real, stop: Real, count: int, share: Real) -> tuple[np.ndarray, np.ndarray]:
        """Which of `count` cells each position lies in, and how far it is covered by the pane in it."""
        size = (stop - start) / count
        place = (at - start) / size
        which = np.clip(np.floor(place), 0, count - 1).astype(int)
        return which, np.clip((share / 2 - np.abs(place - which - 0.5)) * size * self.px + 0.5, 0, 1)

    def spines(self, edges: np.ndarray, tops: np.ndarray, foot: Real, colors: np.ndarray) -> None:
        """Upright strips side by side on v = foot, as books: edges [n + 1] in u, tops [n] in v, colours [3 n]."""
        window = self.window(float(edges[0]), float(tops.min()), float(edges[-1]), foot)
        u, v = self.u[window[1]], self.v[window[0], None]
        which = np.clip(np.searchsorted(edges, u) - 1, 0, len(tops) - 1)
        beside = np.clip(np.minimum(u - edges[which], edges[which + 1] - u) * self.px, 0, 1)
        cover = beside * np.clip((v - tops[which]) * self.px + 0.5, 0, 1) * np.clip((foot - v) * self.px + 0.5, 0, 1)
        round_ = 1.12 - 0.3 * (u - edges[which]) / (edges[which + 1] - edges[which])  # lit from the left
        self.paint(window, cover, (colors[:, which] * round_)[:, None])

    def stamp(self, picture: "Canvas", u: Real) -> None:
        """Lay another canvas of the same scale and height of place over this one, its middle at u, to the nearest pixel."""
        rows, columns = picture.pixels.shape[1:]
        top, left = round((picture.top - self.top) * self.px), round((u - self.left) * self.px - columns / 2)
        cut = slice(max(0, -top), max(0, min(rows, len(self.v) - top))), slice(max(0, -left), max(0, min(columns, len(self.u) - left)))
        part = picture.pixels[:, cut[0], cut[1]]
        top, left = top + cut[0].start, left + cut[1].start
        target = self.pixels[:, top : top + part.shape[1], left : left + part.shape[2]]
        target *= 1 - part[3]
        target += part

    def layer(self, depth: Real, bleed: str = "") -> Layer:
        """What was painted, cut to its bounds, as a layer at a depth.

        bleed: edges (of "tblr": top, bottom, left, right) at which a picture that reaches them may be continued by whoever
        shows it; at other edges it ends in a transparent rim.
        """
        alpha = self.pixels[3]
        (top, bottom), (left, right) = (bounds(alpha.max(axis)) for axis in (1, 0))
        rows, columns = alpha.shape
        reaches = (top == 0, bottom == rows, left == 0, right == columns)
        rim = [int(touching and edge not in bleed) for edge, touching in zip("tblr", reaches, strict=True)]
        texture = np.pad(self.pixels[:, top:bottom, left:right], ((0, 0), (rim[0], rim[1]), (rim[2], rim[3])))
        top, bottom, left, right = top - rim[0], bottom + rim[1], left - rim[2], right + rim[3]
        center = float(self.left + (left + right) / 2 / self.px), float(self.top + (top + bottom) / 2 / self.px)
        return Layer(float(depth), torch.from_numpy(texture), (right - left) / self.px, (bottom - top) / self.px, center)


def bounds(most: np.ndarray) -> tuple[int, int]:
    """Where [n] alphas begin and end to show, one more on each side where there is one."""
    shown = np.flatnonzero(most > 1e-3)
    return (max(int(shown[0]) - 1, 0), min(int(shown[-1]) + 2, len(most))) if shown.size else (0, 2)


def spline(size: int, cells: int) -> np.ndarray:
    """The matrix [size cells] that draws a smooth closed line through `cells` values (Catmull-Rom)."""
    at = (np.arange(size) + 0.5) * (cells / size) - 0.5
    start = np.floor(at).astype(int)
    t = at - start
    shares = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2
    matrix = np.zeros((size, cells), np.float32)
    for step, share in enumerate(shares):
        np.add.at(matrix, (np.arange(size), (start + step - 1) % cells), share)
    return matrix


def noise_tile(rng: np.random.Generator, rows: int, columns: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth value noise [rows columns] in about [-1, 1] that wraps at its edges; cells are its blots down and across."""
    lattice = rng.uniform(-1, 1, cells).astype(np.float32)
    return spline(rows, cells[0]) @ lattice @ spline(columns, cells[1]).T


def enlarged(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A picture that wraps, at a larger size, still wrapping."""
    at = [
        ((np.arange(size, dtype=np.float32) + 0.5) * (n / size) - 0.5) % n
        for size, n in ((rows, len(picture)), (columns, picture.shape[1]))
    ]
    low = [np.floor(a).astype(int) for a in at]
    for axis in (0, 1):
        share = (at[axis] - low[axis]).reshape((-1, 1) if axis == 0 else (1, -1)).astype(np.float32)
        picture = picture.take(low[axis], axis) * (1 - share) + picture.take((low[axis] + 1) % picture.shape[axis], axis) * share
    return picture


class Tile:
    """A square of ground, `units` a side, that wraps at its edges; positions are world units along x and z."""

    def __init__(self, px: int, units: Real, color: Color, detail: Real = 0.6):
        self.units = units
        self.rows, self.columns = round(units * px * 0.4), round(units * px * detail)  # depth is foreshortened: fewer rows do
        self.pixels = np.empty((3, self.rows, self.columns), np.float32)
        self.pixels[:] = color[:, None, None]
        self.x = (np.arange(self.columns, dtype=np.float32) + 0.5) * (units / self.columns)
        self.z = (np.arange(self.rows, dtype=np.float32) + 0.5) * (units / self.rows)

    def blend(self, color: Color, cover: np.ndarray) -> None:
        """Blend the whole tile towards a colour by a share [h w] (or one that broadcasts)."""
        self._blend((slice(None), slice(None)), color, cover)

    def _blend(self, part: tuple, color: Color, cover: np.ndarray) -> None:
        share = np.clip(cover, 0, 1, dtype=np.float32)
        for channel, tone in zip(self.pixels, color, strict=True):
            kept = channel[part] * (1 - share)
            channel[part] = kept + tone * share

    def mottle(self, rng: np.random.Generator, cells: int | tuple[int, int], color: Color, strength: Real) -> None:
        """Soft blots of a colour, `cells` of them down and across."""
        down, across = (cells, cells) if isinstance(cells, int) else cells
        blots = np.clip(0.5 + 0.9 * noise_tile(rng, -(-self.rows // 4), -(-self.columns // 4), (down, across)), 0, 1)
        self.blend(color, strength * enlarged(blots, self.rows, self.columns))

    def spot(self, x: Real, z: Real, rx: Real, rz: Real, color: Color, alpha: Real = 1.0, soft: Real = 0.3) -> None:
        """An ellipse with a soft rim."""
        index, away = [], []
        for at, radius, size in ((z, rz, self.rows), (x, rx, self.columns)):
            cells = np.arange(int((at - radius) / self.units * size) - 2, int((at + radius) / self.units * size) + 3)
            index.append(cells % size)
            away.append(((cells + 0.5) * (self.units / size) - at) / radius)
        self._blend(np.ix_(*index), color, alpha * np.clip((1 - np.hypot(away[0][:, None], away[1])) / soft, 0, 1))

    def ring(self, x: Real, z: Real, radius: Real, width: Real, color: Color, alpha: Real = 1.0) -> None:
        """A circle line; it must fit into the tile."""
        away = np.hypot(*np.meshgrid(self._from(self.x, x), self._from(self.z, z)))
        self.blend(color, alpha * np.clip((width / 2 - np.abs(away - radius)) / (0.5 * width) + 0.5, 0, 1))

    def across(self, start: Real, stop: Real, color: Color, alpha: Real = 1.0, soft: Real = 0.04) -> None:
        """A stripe along x from z = start to stop."""
        cover = self._stripe(self.z, start, stop, soft)
        rows = np.flatnonzero(cover)
        self._blend((rows,), color, alpha * cover[rows, None])

    def along(self, start: Real, stop: Real, color: Color, alpha: Real = 1.0, soft: Real = 0.03) -> None:
        """A stripe that runs away from the camera, from x = start to stop."""
        cover = self._stripe(self.x, start, stop, soft)
        columns = np.flatnonzero(cover)
        self._blend((slice(None), columns), color, alpha * cover[None, columns])

    def block(self, x0: Real, z0: Real, x1: Real, z1: Real, color: Color, alpha: Real = 1.0, soft: Real = 0.04) -> None:
        """A rectangle."""
        across, down = self._stripe(self.x, x0, x1, soft), self._stripe(self.z, z0, z1, soft)
        rows, columns = np.flatnonzero(down), np.flatnonzero(across)
        self._blend(np.ix_(rows, columns), color, alpha * down[rows, None] * across[columns])

    def _stripe(self, at: np.ndarray, start: Real, stop: Real, soft: Real) -> np.ndarray:
        """How far positions lie between start and stop, by turns 0 and 1 over a soft rim."""
        return np.clip(((stop - start) / 2 - np.abs(self._from(at, (start + stop) / 2))) / soft + 0.5, 0, 1)

    def _from(self, at: np.ndarray, middle: Real) -> np.ndarray:
        return (at - middle + self.units / 2) % self.units - self.units / 2

    def ground(self, haze: Color, haze_start: Real) -> Ground:
        texture = torch.from_numpy(self.pixels.clip(0, 1))
        return Ground(texture, float(self.units), (float(haze[0]), float(haze[1]), float(haze[2])), float(haze_start))
