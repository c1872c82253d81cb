"""Watermarks and logos drawn by us, of known place: what the detector learns from and is judged by.

Three kinds: words, drawn shapes, and pictures (emoji of the world's sprite pack), in any colour, from faint to solid, mostly in a corner.
Strings, shapes' sizes and pictures come from a seed; fonts 6 and 7 of OpenCV and every fourth picture are left for the tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

FONTS, HELD_FONTS = (0, 1, 2, 3, 4, 5), (6, 7)  # OpenCV's Hershey fonts
CORNER_SHARE, EDGE_SHARE = 0.75, 0.13  # of the marks; the rest lies anywhere
SEEN = 14.0  # levels
MARGIN = (0.015, 0.07)  # from the frame's edge, in shares of the shorter side
SYLLABLES = (
    "ka", "lo", "mi", "tra", "ven", "so", "dex", "pho", "clip", "stock",
    "via", "nor", "al", "ter", "bi", "xu", "ray", "zen", "qua", "fi",
)  # fmt: skip
Picture = Float[np.ndarray, "_ _ 4"]  # straight RGBA in [0, 1]


@dataclass(frozen=True)
class Mark:
    """A picture to lay over every frame, and where: top, left, height, width in pixels."""

    picture: Picture
    top: int
    left: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.top, self.left, *self.picture.shape[:2]

    def over(self, frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T H W 3"]:
        """A copy of the frames with the mark on each."""
        height, width = self.picture.shape[:2]
        place = slice(self.top, self.top + height), slice(self.left, self.left + width)
        marked, alpha = frames.copy(), self.picture[..., 3:]
        under = frames[:, place[0], place[1]].astype(np.float32)
        marked[:, place[0], place[1]] = (under * (1 - alpha) + self.picture[..., :3] * alpha * 255 + 0.5).astype(np.uint8)
        return marked

    def strength(self, frames: UInt8[np.ndarray, "T H W 3"]) -> float:
        """How much the mark's pixels change, in levels of 0 to 255; below SEEN no one would see it."""
        before = frames[len(frames) // 2 :][:1]
        change = np.abs(self.over(before)[0].astype(np.float32) - before[0]).mean(axis=-1)
        covered = self.picture[..., 3] > 0.1
        height, width = covered.shape
        inside = change[self.top : self.top + height, self.left : self.left + width]
        return float(inside[covered].mean()) if covered.any() else 0.0


def any_word(rng: np.random.Generator) -> str:
    """A name, a site or a handle, as marks have them."""
    name = "".join(rng.choice(SYLLABLES, rng.integers(1, 4)))
    forms = (
        name,
        name.upper(),
        name.title(),
        f"@{name}",
        f"www.{name}.com",
        f"{name.title()} TV",
        f"© {name}",
        f"{name}{rng.integers(10, 99)}",
    )
    return str(forms[rng.integers(len(forms))])


def any_colour(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """White in half of the cases, then black and greys, then any."""
    kind = rng.random()
    if kind < 0.5:
        return np.ones(3, np.float32)
    if kind < 0.7:
        return np.full(3, rng.random() * 0.9, np.float32)
    return rng.random(3).astype(np.float32)


def painted(cover: Float[np.ndarray, "h w"], colour: Float[np.ndarray, " 3"], rim: bool) -> Picture:
    """A shape in one colour; with a rim of the opposite brightness where wanted."""
    picture = np.empty((*cover.shape, 4), np.float32)
    picture[..., :3], picture[..., 3] = colour, cover
    if rim:
        wide = cv2.dilate(cover, np.ones((3, 3), np.uint8))
        picture[..., :3] = cover[..., None] * colour + (1 - cover[..., None]) * float(colour.mean() < 0.5)
        picture[..., 3] = np.maximum(cover, wide * 0.7)
    return picture


def words(text: str, height: int, font: int, rng: np.random.Generator) -> Picture:
    """A line of text `height` pixels tall; font -1 is Pillow's own."""
    if font < 0:
        face = ImageFont.load_default(height)
        left, top, right, bottom = face.getbbox(text)
        image = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(image).text((2 - left, 2 - top), text, fill=255, font=face)
        cover = np.asarray(image, np.float32) / 255
    else:
        thick, text = int(rng.integers(1, 3)), text.replace("©", "(c)")
        scale = height / 30
        (wide, tall), under = cv2.getTextSize(text, font, scale, thick)
        canvas = np.zeros((tall + under + 6, wide + 6), np.uint8)
        cv2.putText(canvas, text, (3, tall + 3), font, scale, 255, thick, cv2.LINE_AA)
        cover = canvas.astype(np.float32) / 255
    return painted(cover, any_colour(rng), bool(rng.random() < 0.3))


def shape(side: int, rng: np.random.Generator) -> Picture:
    """A drawn logo: a disc, ring, box, triangle or star, sometimes with a letter cut out of it."""
    big = np.zeros((256, 256), np.uint8)
    kind, middle = rng.integers(5), (128, 128)
    if kind == 0:
        cv2.circle(big, middle, 120, 255, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.circle(big, middle, 105, 255, int(rng.integers(15, 50)), cv2.LINE_AA)
    elif kind == 2:
        cv2.rectangle(big, (12, int(rng.integers(12, 80))), (244, int(rng.integers(176, 244))), 255, -1)
    else:
        points = 3 if kind == 3 else 10
        radius = np.where(np.arange(points) % 2 & (kind == 4), 50, 122)
        angle = 2 * np.pi * (np.arange(points) / points + rng.random())
        corners = 128 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        cv2.fillPoly(big, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    if kind != 1 and rng.random() < 0.6:
        cv2.putText(big, chr(65 + rng.integers(26)), (60, 185), int(rng.choice(FONTS)), 5, 0, 16, cv2.LINE_AA)
    cover = cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return painted(cover, any_colour(rng), bool(rng.random() < 0.3))


def logo(picture: UInt8[np.ndarray, "S S 4"], side: int, rng: np.random.Generator) -> Picture:
    """A picture as a logo, in its colours or in one."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if rng.random() < 0.5:
        small[..., :3] = small[..., :3].mean(axis=-1, keepdims=True) if rng.random() < 0.5 else any_colour(rng)
    return small


def beside(left: Picture, right: Picture) -> Picture:
    """A logo with its name."""
    height = max(left.shape[0], right.shape[0])
    canvas = np.zeros((height, left.shape[1] + right.shape[1] + 3, 4), np.float32)
    for picture, start in ((left, 0), (right, left.shape[1] + 3)):
        top = (height - picture.shape[0]) // 2
        canvas[top : top + picture.shape[0], start : start + picture.shape[1]] = picture
    return canvas


def place(rng: np.random.Generator, room: int, side: int, edge: bool) -> int:
    """Where something of length `room - ...` begins: near an end, or anywhere."""
    if not edge:
        return int(rng.integers(0, max(1, room + 1)))
    margin = min(room, round(float(rng.uniform(*MARGIN)) * side))
    return margin if rng.random() < 0.5 else room - margin


def draw_mark(
    rng: np.random.Generator, height: int, width: int, pictures: Sequence[UInt8[np.ndarray, "S S 4"]], held: bool = False
) -> Mark:
    """A mark for frames of a size. pictures: RGBA, for logos. held: whether only what training never shows may be used."""
    side, kind, font = min(height, width), rng.random(), int(rng.choice(HELD_FONTS if held else (-1, *FONTS)))
    line = words(any_word(rng), max(8, round(side * float(rng.uniform(0.04, 0.1)))), font, rng)
    size = max(12, round(side * float(rng.uniform(0.07, 0.17))))
    picture = line
    if kind > 0.5:
        drawn = shape(size, rng) if kind > 0.8 or not pictures else logo(pictures[int(rng.integers(len(pictures)))], size, rng)
        picture = beside(drawn, line) if rng.random() < 0.2 else drawn
    picture = picture * np.array([1, 1, 1, rng.uniform(0.35, 1.0)], np.float32)
    shrink = min(1.0, 0.6 * width / picture.shape[1], 0.4 * height / picture.shape[0])
    if shrink < 1:
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    where = rng.random()
    corner, at_edge = where < CORNER_SHARE, where < CORNER_SHARE + EDGE_SHARE
    top = place(rng, height - picture.shape[0], side, corner or at_edge)
    left = place(rng, width - picture.shape[1], side, corner)
    return Mark(picture, top, left)
