"""Painting soft, rounded, anti-aliased shapes into float32 premultiplied RGBA.

A `Canvas` is measured in frame heights (u right, v down, as on the screen at rest), a `Tile` in periods of the ground.
Light falls from the upper left. Colours are float32 RGB triples in [0, 1].
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from kinema.world.places.scene import Ground, Layer

Color = np.ndarray  # float32 [3]
Disc = tuple[float, float, float]  # u, v, radius
LIGHT = np.array([-0.45, -0.68, 0.58], np.float32)  # towards the light, in (u, v, out of the picture)


def rgb(code: str) -> Color:
    """'#rrggbb' as a colour."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


def mix(a: Color, b: Color, share: float) -> Color:
    """a where share is 0, b where it is 1."""
    return (a + (b - a) * np.float32(share)).astype(np.float32)


def lighten(color: Color, share: float) -> Color:
    return mix(color, np.ones(3, np.float32), share)


def darken(color: Color, share: float) -> Color:
    """Towards a deep blue rather than black: shadows stay colourful."""
    return mix(color, np.array([0.06, 0.06, 0.18], np.float32), share)


def vary(rng: np.random.Generator, color: Color, amount: float = 0.04) -> Color:
    """A neighbour of a colour."""
    return np.clip(color + rng.uniform(-amount, amount, 3), 0, 1).astype(np.float32)


def pick(rng: np.random.Generator, codes: Sequence[str]) -> Color:
    """One of several '#rrggbb', slightly varied."""
    return vary(rng, rgb(codes[int(rng.integers(len(codes)))]), 0.02)


def ramp(position: np.ndarray, stops: Sequence[tuple[float, Color]]) -> np.ndarray:
    """Colours [..., 3] along stops (position, colour), which ascend."""
    places = [stop for stop, _ in stops]
    return np.stack([np.interp(position, places, [color[c] for _, color in stops]) for c in range(3)], -1).astype(np.float32)


def wander(rng: np.random.Generator, span: float, bumps: float, octaves: int = 2) -> Callable[[np.ndarray], np.ndarray]:
    """A smooth random line over u in [-span / 2, span / 2], mostly within [-1, 1], with about `bumps` bumps across."""
    waves = [(2**k * bumps * rng.uniform(0.8, 1.2) / span, rng.uniform(0, 2 * np.pi), 0.5**k) for k in range(octaves)]

    def line(u: np.ndarray) -> np.ndarray:
        total = sum(size * np.sin(2 * np.pi * frequency * u + phase) for frequency, phase, size in waves)
        return np.asarray(total / sum(size for *_, size in waves), np.float32)

    return line


def lit(du: np.ndarray, dv: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Soft light in [0, 1] on a surface with normal (du, dv, out)."""
    return 0.5 + 0.5 * (du * LIGHT[0] + dv * LIGHT[1] + out * LIGHT[2])


def ball(color: Color, du: np.ndarray, dv: np.ndarray, strength: float) -> np.ndarray:
    """Colours of a ball over offsets in radii, from its shadow to its highlight."""
    tone = lit(du, dv, np.sqrt(np.maximum(1 - du**2 - dv**2, 0.0)))
    return ramp(tone, [(0.1, darken(color, 0.45 * strength)), (0.6, color), (1.0, lighten(color, 0.5 * strength))])


class Canvas:
    """A picture `width` x `height` frame heights around `center`, at `px` pixels a frame height."""

    def __init__(self, px: float, width: float, height: float, center: tuple[float, float] = (0.0, 0.0)):
        self.px = float(px)
        rows, columns = max(2, round(height * px)), max(2, round(width * px))
        self.left, self.top = center[0] - columns / px / 2, center[1] - rows / px / 2
        self.pixels = np.zeros((rows, columns, 4), np.float32)
        self.u = (self.left + (np.arange(columns, dtype=np.float32) + 0.5) / px).astype(np.float32)
        self.v = (self.top + (np.arange(rows, dtype=np.float32) + 0.5) / px).astype(np.float32)

    def window(self, u0: float, v0: float, u1: float, v1: float) -> tuple[slice, slice]:
        """The pixels (rows, columns) that touch a box, one pixel of margin included."""
        rows, columns = self.pixels.shape[:2]
        top, bottom = ((v - self.top) * self.px for v in (v0, v1))
        left, right = ((u - self.left) * self.px for u in (u0, u1))
        clip = lambda value, limit: int(min(max(value, 0), limit))  # noqa: E731
        return slice(clip(top - 2, rows), clip(bottom + 3, rows)), slice(clip(left - 2, columns), clip(right + 3, columns))

    def paint(self, window: tuple[slice, slice], alpha: np.ndarray, color: np.ndarray) -> None:
        """Lay colour [3] or [..., 3] with coverage [h w] over a window."""
        target = self.pixels[window]
        if not target.size:
            return
        alpha = np.clip(alpha, 0, 1)[..., None].astype(np.float32)
        target *= 1 - alpha
        target[..., :3] += color * alpha
        target[..., 3:] += alpha

    def fill(self, stops: Sequence[tuple[float, Color]]) -> None:
        """Cover everything with a vertical gradient; stops are (v, colour)."""
        self.pixels[..., :3] = ramp(self.v, stops)[:, None]
        self.pixels[..., 3] = 1

    def glow(self, u: float, v: float, radius: float, color: Color, strength: float = 1.0) -> None:
        """A soft light that fades to nothing at 2.2 radii."""
        window = self.window(u - 2.2 * radius, v - 2.2 * radius, u + 2.2 * radius, v + 2.2 * radius)
        du, dv = self.u[window[1]] - u, self.v[window[0], None] - v
        self.paint(window, strength * np.exp(-(du**2 + dv**2) / radius**2), color)

    def ellipse(self, u: float, v: float, ru: float, rv: float, color: Color, alpha: float = 1.0, shaded: float = 0.0) -> None:
        """A flat ellipse, or with `shaded` a ball lit from the upper left."""
        window = self.window(u - ru, v - rv, u + ru, v + rv)
        du, dv = (self.u[window[1]] - u) / ru, (self.v[window[0], None] - v) / rv
        distance = np.sqrt(du**2 + dv**2)
        cover = np.clip((1 - distance) * min(ru, rv) * self.px + 0.5, 0, 1)
        self.paint(window, alpha * cover, ball(color, du, dv, shaded) if shaded else color)

    def disc(self, u: float, v: float, radius: float, color: Color, alpha: float = 1.0, shaded: float = 0.0) -> None:
        self.ellipse(u, v, radius, radius, color, alpha, shaded)

    def box(self, u0: float, v0: float, u1: float, v1: float, top: Color, bottom: Color | None = None, radius: float = 0.0) -> None:
        """A rectangle with rounded corners and a vertical gradient."""
        window = self.window(u0, v0, u1, v1)
        radius = min(radius, (u1 - u0) / 2, (v1 - v0) / 2)
        du = np.abs(self.u[window[1]] - (u0 + u1) / 2) - (u1 - u0) / 2 + radius
        dv = np.abs(self.v[window[0], None] - (v0 + v1) / 2) - (v1 - v0) / 2 + radius
        outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0) - radius
        rows = self.v[window[0]]
        color = top if bottom is None else ramp(rows, [(v0, top), (v1, bottom)])[:, None]
        self.paint(window, 0.5 - outside * self.px, color)

    def polygon(self, points: Sequence[tuple[float, float]], top: Color, bottom: Color | None = None) -> None:
        """A filled polygon with a vertical gradient."""
        corners = np.array(points, np.float32)
        (u0, v0), (u1, v1) = corners.min(0), corners.max(0)
        window = self.window(u0, v0, u1, v1)
        cover = np.zeros(self.pixels[window].shape[:2], np.uint8)
        if not cover.size:
            return
        offset = np.array([window[1].start, window[0].start], np.float32)
        places = (corners - [self.left, self.top]) * self.px - offset - 0.5
        cv2.fillPoly(cover, [np.round(places * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        color = top if bottom is None else ramp(self.v[window[0]], [(v0, top), (max(v1, v0 + 1e-3), bottom)])[:, None]
        self.paint(window, cover / np.float32(255), color)

    def stroke(self, points: Sequence[tuple[float, float]], width: float, color: Color, alpha: float = 1.0) -> None:
        """A line with round ends through points."""
        for (u0, v0), (u1, v1) in zip(points[:-1], points[1:], strict=True):
            half = width / 2
            window = self.window(min(u0, u1) - half, min(v0, v1) - half, max(u0, u1) + half, max(v0, v1) + half)
            du, dv = self.u[window[1]] - u0, self.v[window[0], None] - v0
            along = np.clip((du * (u1 - u0) + dv * (v1 - v0)) / max((u1 - u0) ** 2 + (v1 - v0) ** 2, 1e-9), 0, 1)
            away = np.hypot(du - along * (u1 - u0), dv - along * (v1 - v0))
            self.paint(window, alpha * np.clip((half - away) * self.px + 0.5, 0, 1), color)

    def ridge(self, crest: Callable[[np.ndarray], np.ndarray], stops: Sequence[tuple[float, Color]], floor: float) -> None:
        """Fill from a crest line v = crest(u) down to v = floor; stops are (depth under the crest, colour)."""
        line = crest(self.u)
        window = self.window(self.u[0], float(line.min()), self.u[-1], floor)
        rows = self.v[window[0], None]
        under = rows - line[window[1]]
        cover = np.clip(under * self.px + 0.5, 0, 1) * np.clip((floor - rows) * self.px + 0.5, 0, 1)
        self.paint(window, cover, ramp(under, stops))

    def puffs(self, discs: Sequence[Disc], light: Color, base: Color, shade: Color, alpha: float = 1.0) -> None:
        """Balls melted together, lit from the upper left: clouds, bushes, crowns of trees."""
        u, v, r = np.array(discs, np.float32).T[:, :, None, None]
        box = float((u - r).min()), float((v - r).min()), float((u + r).max()), float((v + r).max())
        window = self.window(*box)
        du, dv = (self.u[window[1]] - u) / r, (self.v[window[0], None] - v) / r
        away = du**2 + dv**2
        height = np.sqrt(np.maximum(1 - away, 0.0))
        weight = np.exp(np.minimum(height * r / r.max(), 1) * 7) * (away < 1.1)
        total = weight.sum(0) + 1e-6
        glow = (weight * lit(du, dv, height)).sum(0) / total
        down = (self.v[window[0], None] - box[1]) / max(box[3] - box[1], 1e-6)
        tone = np.clip(0.72 * glow + 0.42 * (1 - down) - 0.05, 0, 1)
        cover = np.clip((1 - np.sqrt(away)) * r * self.px + 0.5, 0, 1).max(0)
        self.paint(window, alpha * cover, ramp(tone, [(0.1, shade), (0.5, base), (0.92, light)]))

    def layer(self, depth: float) -> Layer:
        """What was painted, cut to its bounds, as a layer at a depth."""
        rows, columns = (np.flatnonzero(self.pixels[..., 3].max(axis) > 1e-3) for axis in (1, 0))
        (top, bottom), (left, right) = ((int(i[0]), int(i[-1]) + 1) if i.size else (0, 2) for i in (rows, columns))
        height, width = self.pixels.shape[:2]
        top, bottom, left, right = max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width)
        texture = np.ascontiguousarray(self.pixels[top:bottom, left:right].transpose(2, 0, 1))
        center = self.left + (left + right) / 2 / self.px, self.top + (top + bottom) / 2 / self.px
        return Layer(depth, torch.from_numpy(texture), (right - left) / self.px, (bottom - top) / self.px, center)


def noise_tile(rng: np.random.Generator, rows: int, columns: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth value noise [rows columns] in about [-1, 1] that wraps at its edges; cells are its blots down and across."""
    lattice = np.pad(rng.uniform(-1, 1, cells).astype(np.float32), 3, mode="wrap")
    down, across = ((np.arange(size, dtype=np.float32) + 0.5) * (n / size) + 2.5 for size, n in ((rows, cells[0]), (columns, cells[1])))
    return cv2.remap(lattice, np.tile(across, (rows, 1)), np.tile(down[:, None], (1, columns)), cv2.INTER_CUBIC)


class Tile:
    """A square of ground, `units` a side, that wraps at its edges; positions are world units along x and z."""

    def __init__(self, px: int, units: float, color: Color):
        self.units = units
        self.rows, self.columns = round(units * px * 0.4), round(units * px * 0.6)  # depth is foreshortened: fewer rows do
        self.pixels = np.broadcast_to(color, (self.rows, self.columns, 3)).astype(np.float32)
        self.x = (np.arange(self.columns, dtype=np.float32) + 0.5) * (units / self.columns)
        self.z = (np.arange(self.rows, dtype=np.float32) + 0.5) * (units / self.rows)

    def blend(self, color: np.ndarray, cover: np.ndarray) -> None:
        """Blend the whole tile towards a colour by a share [h w] (or one that broadcasts)."""
        self.pixels += (color - self.pixels) * np.clip(cover, 0, 1)[..., None].astype(np.float32)

    def mottle(self, rng: np.random.Generator, cells: int | tuple[int, int], color: Color, strength: float) -> None:
        """Soft blots of a colour, `cells` of them down and across."""
        down, across = (cells, cells) if isinstance(cells, int) else cells
        self.blend(color, strength * np.clip(0.5 + 0.9 * noise_tile(rng, self.rows, self.columns, (down, across)), 0, 1))

    def spot(self, x: float, z: float, rx: float, rz: float, color: Color, alpha: float = 1.0, soft: float = 0.3) -> None:
        """An ellipse with a soft rim."""
        index, away = [], []
        for at, radius, size in ((z, rz, self.rows), (x, rx, self.columns)):
            cells = np.arange(int((at - radius) / self.units * size) - 2, int((at + radius) / self.units * size) + 3)
            index.append(cells % size)
            away.append(((cells + 0.5) * (self.units / size) - at) / radius)
        cover = alpha * np.clip((1 - np.hypot(away[0][:, None], away[1])) / soft, 0, 1)[..., None].astype(np.float32)
        window = np.ix_(*index)
        self.pixels[window] += (color - self.pixels[window]) * cover

    def ring(self, x: float, z: float, radius: float, width: float, color: Color, alpha: float = 1.0) -> None:
        """A circle line; it must fit into the tile."""
        away = np.hypot(*np.meshgrid(self._from(self.x, x), self._from(self.z, z)))
        self.blend(color, alpha * np.clip((width / 2 - np.abs(away - radius)) / (0.5 * width) + 0.5, 0, 1))

    def across(self, start: float, stop: float, color: Color, alpha: float = 1.0, soft: float = 0.04) -> None:
        """A stripe along x from z = start to stop."""
        away = np.abs(self._from(self.z, (start + stop) / 2))
        self.blend(color, alpha * np.clip(((stop - start) / 2 - away) / soft + 0.5, 0, 1)[:, None])

    def along(self, start: float, stop: float, color: Color, alpha: float = 1.0, soft: float = 0.03) -> None:
        """A stripe that runs away from the camera, from x = start to stop."""
        away = np.abs(self._from(self.x, (start + stop) / 2))
        self.blend(color, alpha * np.clip(((stop - start) / 2 - away) / soft + 0.5, 0, 1)[None])

    def block(self, x0: float, z0: float, x1: float, z1: float, color: Color, alpha: float = 1.0, soft: float = 0.04) -> None:
        """A rectangle."""
        dx = np.clip(((x1 - x0) / 2 - np.abs(self._from(self.x, (x0 + x1) / 2))) / soft + 0.5, 0, 1)
        dz = np.clip(((z1 - z0) / 2 - np.abs(self._from(self.z, (z0 + z1) / 2))) / soft + 0.5, 0, 1)
        self.blend(color, alpha * dz[:, None] * dx)

    def _from(self, at: np.ndarray, middle: float) -> np.ndarray:
        return (at - middle + self.units / 2) % self.units - self.units / 2

    def ground(self, haze: Color, haze_start: float) -> Ground:
        texture = torch.from_numpy(np.ascontiguousarray(np.clip(self.pixels, 0, 1).transpose(2, 0, 1)))
        return Ground(texture, self.units, (float(haze[0]), float(haze[1]), float(haze[2])), haze_start)
