"""Faces that can speak: drawn from shapes, so that every mouth, eye and brow can take any position, and the truth of it is exact.

Positions are in frame half-heights from the middle, y down; a head's own are in its radii, turned and shifted with the head.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from einops import reduce
from jaxtyping import Float, UInt8

Plane = Float[np.ndarray, "T H W"]
RGB = tuple[float, float, float]
FINE = 2  # pixels are drawn so many times finer, then averaged

SKINS: dict[str, RGB] = {
    "yellow": (1.0, 0.80, 0.22), "pale": (0.98, 0.84, 0.73), "tan": (0.88, 0.67, 0.49), "brown": (0.62, 0.42, 0.29),
    "dark": (0.40, 0.27, 0.20), "green": (0.55, 0.80, 0.36), "blue": (0.45, 0.70, 0.95), "pink": (0.98, 0.65, 0.74),
    "white": (0.84, 0.86, 0.89), "orange": (0.98, 0.60, 0.28),
}  # fmt: skip
HAIRS: dict[str, RGB] = {
    "black": (0.10, 0.09, 0.10), "brown": (0.36, 0.21, 0.12), "blond": (0.90, 0.74, 0.36), "red": (0.70, 0.27, 0.12),
    "grey": (0.66, 0.66, 0.69), "purple": (0.50, 0.25, 0.66),
}  # fmt: skip
CLOTHES: dict[str, RGB] = {
    "red": (0.80, 0.18, 0.20), "blue": (0.18, 0.36, 0.76), "green": (0.16, 0.55, 0.33), "white": (0.92, 0.92, 0.92),
    "black": (0.14, 0.14, 0.17), "violet": (0.52, 0.28, 0.68),
}  # fmt: skip
BACKDROPS: dict[str, tuple[RGB, RGB]] = {
    "sky": ((0.45, 0.70, 0.95), (0.85, 0.93, 1.0)), "meadow": ((0.62, 0.84, 0.98), (0.36, 0.66, 0.30)),
    "sunset": ((0.98, 0.58, 0.36), (0.46, 0.26, 0.52)), "night": ((0.05, 0.07, 0.20), (0.16, 0.18, 0.38)),
    "studio": ((0.80, 0.80, 0.82), (0.58, 0.58, 0.62)), "cream": ((0.98, 0.95, 0.88), (0.90, 0.83, 0.72)),
    "teal": ((0.10, 0.50, 0.52), (0.05, 0.30, 0.36)),
}  # fmt: skip
STYLES_OF_HAIR = ("none", "short", "long", "curly", "cap")
INSIDE, TONGUE, TEETH = (0.28, 0.05, 0.07), (0.84, 0.34, 0.36), (0.97, 0.96, 0.93)


class Expression(NamedTuple):
    """What a face does to show it, at full strength."""

    curve: float  # of the mouth: above 0 its corners go up
    width: float  # of the mouth, added
    brows: float  # how far they rise
    frown: float  # how far their inner ends sink; below 0 they rise
    eyes: float  # how much wider they open


EXPRESSIONS = {
    "neutral": Expression(0.0, 0.0, 0.0, 0.0, 0.0),
    "happy": Expression(0.16, 0.22, 0.05, 0.0, -0.25),
    "sad": Expression(-0.15, -0.05, 0.03, -0.14, -0.2),
    "angry": Expression(-0.09, -0.1, -0.09, 0.16, -0.1),
    "surprised": Expression(0.0, -0.18, 0.15, -0.02, 0.4),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """Who is seen; lengths in head radii."""

    skin: str
    hair: str
    hair_style: str
    clothes: str
    backdrop: str
    head_width: float
    eye_size: float
    eye_gap: float
    iris: tuple[float, float, float]
    mouth_width: float
    lips: float  # how much redder than the skin
    nose: float  # 0: none
    blush: float
    glasses: bool
    shading: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def words(self) -> str:
        """Such as "a tan face with short red hair, glasses and a blue shirt"."""
        hair = {"none": "no hair", "cap": f"a {self.hair} cap"}.get(self.hair_style, f"{self.hair_style} {self.hair} hair")
        return f"a {self.skin} face with {hair}{', glasses' if self.glasses else ''} and a {self.clothes} shirt"


def draw_look(rng: np.random.Generator) -> Look:
    """One of many characters."""

    def one(names: Any) -> str:
        return str(rng.choice(list(names)))

    return Look(
        skin=one(SKINS),
        hair=one(HAIRS),
        hair_style=one(STYLES_OF_HAIR),
        clothes=one(CLOTHES),
        backdrop=one(BACKDROPS),
        head_width=float(rng.uniform(0.84, 1.0)),
        eye_size=float(rng.uniform(0.13, 0.19)),
        eye_gap=float(rng.uniform(0.34, 0.42)),
        iris=tuple(float(c) for c in rng.uniform((0.05, 0.1, 0.05), (0.45, 0.5, 0.6))),  # type: ignore[arg-type]
        mouth_width=float(rng.uniform(0.30, 0.42)),
        lips=float(rng.uniform(0.1, 0.6)),
        nose=float(rng.choice([0.0, 0.6, 1.0])),
        blush=float(rng.choice([0.0, 0.35])),
        glasses=bool(rng.random() < 0.15),
        shading=float(rng.uniform(0.15, 0.4)),
    )


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What a face does, frame by frame; all [T], and the expression's own numbers as columns."""

    opening: Float[np.ndarray, " T"]  # of the mouth: 0 closed, 1 wide open
    width: Float[np.ndarray, " T"]  # of the mouth: -1 rounded, 1 spread
    blink: Float[np.ndarray, " T"]  # 0 open eyes, 1 closed
    expression: Float[np.ndarray, "T 5"]  # rows of EXPRESSIONS, times their strength
    yaw: Float[np.ndarray, " T"]  # degrees; above 0 the face turns to the picture's right
    pitch: Float[np.ndarray, " T"]  # degrees; above 0 it looks down
    roll: Float[np.ndarray, " T"]  # degrees; above 0 it leans to the picture's right
    center: Float[np.ndarray, "T 2"]  # x, y of the head
    radius: float


class Brush:
    """A picture being painted, shape over shape."""

    def __init__(self, frames: int, height: int, width: int):
        rows, columns = height * FINE, width * FINE
        y, x = ((np.arange(n, dtype=np.float32) + 0.5) / rows * 2 - n / rows for n in (rows, columns))
        self.x, self.y = np.broadcast_to(x, (frames, rows, columns)), np.broadcast_to(y[:, None], (frames, rows, columns))
        self.density = rows / 2  # fine pixels a half-height
        self.canvas = np.zeros((frames, rows, columns, 3), np.float32)

    def cover(self, inside: Plane, color: Any, alpha: float = 1.0) -> None:
        """Paint where `inside`, a distance to the rim in half-heights, is above 0; rims are one fine pixel soft."""
        mask = np.clip(inside * self.density + 0.5, 0, 1)[..., None] * np.float32(alpha)
        self.canvas += mask * (np.asarray(color, np.float32) - self.canvas)

    def frames(self) -> UInt8[np.ndarray, "T H W 3"]:
        mean = reduce(self.canvas, "T (h a) (w b) C -> T h w C", "mean", a=FINE, b=FINE)
        return (np.clip(mean, 0, 1) * 255 + 0.5).astype(np.uint8)


def column(values: Any) -> Any:
    """[T] against planes [T H W]; a plain number stays one."""
    return values[:, None, None].astype(np.float32) if isinstance(values, np.ndarray) else values


class Head:
    """Where each pixel lies on a head, in its radii."""

    def __init__(self, brush: Brush, acted: Performance):
        dx, dy = brush.x - column(acted.center[:, 0]), brush.y - column(acted.center[:, 1])
        turn = np.deg2rad(acted.roll)
        cos, sin = column(np.cos(turn)), column(np.sin(turn))
        self.radius = np.float32(acted.radius)
        self.x, self.y = (cos * dx + sin * dy) / self.radius, (cos * dy - sin * dx) / self.radius
        self.shift_x = column(np.sin(np.deg2rad(acted.yaw)))  # features slide over the head as it turns
        self.shift_y = column(np.sin(np.deg2rad(acted.pitch)))

    def feature(self, x: float, y: float, depth: float = 0.8) -> tuple[Plane, Plane]:
        """Coordinates around a point of the face. depth: how far before the axis it lies, which is how far it slides."""
        return self.x - x - self.shift_x * depth, self.y - y - self.shift_y * depth

    def ellipse(self, at: tuple[Plane, Plane], half_width: Any, half_height: Any) -> Plane:
        """Distance inside its rim, in half-heights."""
        a, b = column(half_width), column(half_height)
        return (1 - np.sqrt((at[0] / a) ** 2 + (at[1] / b) ** 2)) * np.minimum(a, b) * self.radius

    def stroke(self, at: tuple[Plane, Plane], half_length: float, slope: Any, thickness: float) -> Plane:
        """A straight line through a point."""
        x, y = at
        along = np.clip(x, -half_length, half_length)
        return (thickness - np.hypot(x - along, y - along * column(slope))) * self.radius


def paint_backdrop(brush: Brush, look: Look) -> None:
    top, bottom = (np.asarray(color, np.float32) for color in BACKDROPS[look.backdrop])
    brush.canvas += top + (brush.y[..., None] + 1) / 2 * (bottom - top)


def paint_body(brush: Brush, head: Head, look: Look, acted: Performance) -> None:
    x, y = brush.x - column(acted.center[:, 0] * 0.7), brush.y - column(acted.center[:, 1] * 0.7) - 1.55 * head.radius
    inside = (1 - np.hypot(x / (1.05 * head.radius), y / (0.62 * head.radius))) * 0.6 * head.radius
    neck = np.minimum(0.3 * head.radius - np.abs(x), y + 1.1 * head.radius)
    brush.cover(neck, shade(SKINS[look.skin], 0.8))
    brush.cover(inside, CLOTHES[look.clothes])


def shade(color: RGB, light: float) -> tuple[float, ...]:
    return tuple(min(c * light, 1.0) for c in color)


def paint_skull(brush: Brush, head: Head, look: Look) -> None:
    skin, hair = SKINS[look.skin], HAIRS[look.hair]
    if look.hair_style == "long":
        brush.cover(head.ellipse((head.x, head.y - 0.25), look.head_width * 1.2, 1.32), hair)
    if look.hair_style == "curly":
        brush.cover(head.ellipse((head.x, head.y + 0.25), look.head_width * 1.22, 1.02), hair)
    for side in (-1, 1):
        brush.cover(head.ellipse((head.x - side * look.head_width + head.shift_x * 0.1, head.y - 0.05), 0.16, 0.22), shade(skin, 0.9))
    inside = head.ellipse((head.x, head.y), look.head_width, 1.0)
    light = 1 + look.shading * 0.35 - look.shading * (((head.x + 0.3) ** 2 + (head.y + 0.45) ** 2) / 2)
    brush.cover(inside, np.clip(light[..., None] * np.asarray(skin, np.float32), 0, 1))


def paint_hair(brush: Brush, head: Head, look: Look) -> None:
    if look.hair_style == "none":
        return
    skull = head.ellipse((head.x, head.y), look.head_width * 1.05, 1.06)
    line = -0.5 + head.shift_y * 0.3 + 0.28 * (head.x - head.shift_x * 0.4) ** 2
    brush.cover(np.minimum(skull, (line - head.y) * head.radius), HAIRS[look.hair])
    if look.hair_style == "cap":
        brush.cover(
            head.stroke((head.x - head.shift_x * 0.6, head.y + 0.47 - head.shift_y * 0.3), 0.8, 0.0, 0.08), shade(HAIRS[look.hair], 1.3)
        )


def paint_eyes(brush: Brush, head: Head, look: Look, acted: Performance) -> None:
    showing = np.array([(face.brows, face.frown, face.eyes) for face in EXPRESSIONS.values()])
    brows, frown, wide = (acted.expression @ showing).T
    height = look.eye_size * 1.15 * (1 + wide) * np.clip(1 - acted.blink, 0.06, 1)
    for side in (-1, 1):
        at = head.feature(side * look.eye_gap, -0.14)
        white, iris = head.ellipse(at, look.eye_size, height), head.ellipse(at, look.eye_size * 0.62, look.eye_size * 0.62)
        brush.cover(white, (0.98, 0.98, 0.98))
        brush.cover(np.minimum(white, iris), look.iris)
        brush.cover(np.minimum(white, head.ellipse(at, look.eye_size * 0.34, look.eye_size * 0.34)), (0.03, 0.03, 0.04))
        rim = np.minimum(0.02 * head.radius - np.abs(white), (1.05 * look.eye_size - np.abs(at[0])) * head.radius)
        brush.cover(rim, shade(SKINS[look.skin], 0.45), 0.8)
        x, y = head.feature(side * look.eye_gap, -0.45)
        brow = head.stroke((x, y + column(brows) - column(frown) * 0.3), 0.17, -side * frown * 2.6, 0.042)
        brush.cover(brow, shade(HAIRS[look.hair], 0.8))
        if look.glasses:
            ring = head.ellipse(at, look.eye_size * 1.65, look.eye_size * 1.65)
            brush.cover(0.022 * head.radius - np.abs(ring), (0.1, 0.1, 0.12))


def paint_middle(brush: Brush, head: Head, look: Look) -> None:
    for side in (-1, 1) if look.blush else ():
        brush.cover(head.ellipse(head.feature(side * 0.52, 0.2), 0.17, 0.12), (0.95, 0.42, 0.42), look.blush)
    if look.nose:
        brush.cover(head.ellipse(head.feature(0.0, 0.14, 1.0), 0.1 * look.nose, 0.085 * look.nose), shade(SKINS[look.skin], 0.76))


def paint_mouth(brush: Brush, head: Head, look: Look, acted: Performance) -> None:
    """Two lips on a bow; what lies between them is as high as the mouth is open."""
    showing = np.array([(face.curve, face.width) for face in EXPRESSIONS.values()])
    curve, wide = (acted.expression @ showing).T
    x, y = head.feature(0.0, 0.44)
    half = column(look.mouth_width * (1 + 0.25 * acted.width + wide))
    bow = np.clip(1 - (x / half) ** 2, -1, 1)
    middle = column(curve) * (bow - 0.5)
    gap = column(0.5 * acted.opening) * np.sqrt(np.clip(bow, 0, 1))
    upper, lower = middle - 0.32 * gap, middle + 0.68 * gap
    side = half - np.abs(x)
    between = np.minimum(np.minimum(y - upper, lower - y), side) * head.radius
    red = tuple(c + look.lips * (r - c) for c, r in zip(shade(SKINS[look.skin], 0.55), (0.72, 0.16, 0.20), strict=True))
    brush.cover(between + 0.045 * head.radius, red)
    brush.cover(between, INSIDE)
    brush.cover(np.minimum(between, (upper + 0.07 - y) * head.radius), TEETH)
    tongue = head.ellipse((x, y - lower - 0.02), 0.17, 0.1)
    brush.cover(np.minimum(between, tongue), TONGUE)


def draw_faces(look: Look, acted: Performance, height: int, width: int) -> UInt8[np.ndarray, "T H W 3"]:
    """The frames of a performance."""
    brush = Brush(len(acted.opening), height, width)
    head = Head(brush, acted)
    paint_backdrop(brush, look)
    paint_body(brush, head, look, acted)
    paint_skull(brush, head, look)
    paint_hair(brush, head, look)
    paint_middle(brush, head, look)
    paint_eyes(brush, head, look, acted)
    paint_mouth(brush, head, look, acted)
    return brush.frames()


def boxes(acted: Performance, look: Look, height: int, width: int) -> tuple[Float[np.ndarray, "T 4"], Float[np.ndarray, "T 4"]]:
    """Boxes of the face and of the mouth in pixels: x0, y0, x1, y1."""
    turn = np.deg2rad(acted.roll)
    x = np.sin(np.deg2rad(acted.yaw)) * 0.8
    y = 0.5 + np.sin(np.deg2rad(acted.pitch)) * 0.8
    mouth = acted.center + acted.radius * np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], 1)
    sizes = ((acted.center, look.head_width, 1.0), (mouth, look.mouth_width * 1.5, 0.34))
    found = []
    for center, half_width, half_height in sizes:
        half = acted.radius * np.array([half_width, half_height])
        corners = np.concatenate([center - half, center + half], 1)
        found.append(corners * height / 2 + np.array([width, height, width, height]) / 2)
    return found[0], found[1]
