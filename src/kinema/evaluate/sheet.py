"""Contact sheets: many videos at a glance, each as its prompt and four of its frames."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FRAMES, COLUMNS, ROWS = 4, 2, 20
TILE, LINE, GAP = 112, 14, 8  # pixels: height of a frame, of a line of text, between videos
LETTERS = 68  # in a line
INK, PAPER = (20, 20, 20), (250, 250, 250)


def strip(prompt: str, frames: UInt8[Tensor, "T H W 3"]) -> Image.Image:
    """One video: its prompt in up to two lines over FRAMES frames, evenly spread."""
    wide = round(TILE * frames.shape[2] / frames.shape[1])
    picture = Image.new("RGB", (FRAMES * wide, 2 * LINE + TILE), PAPER)
    ImageDraw.Draw(picture).multiline_text(
        (0, 0), "\n".join(textwrap.wrap(prompt, LETTERS)[:2]), INK, ImageFont.load_default(11), spacing=1
    )
    for column, index in enumerate(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)):
        frame = Image.fromarray(frames[index].cpu().numpy()).resize((wide, TILE), Image.Resampling.LANCZOS)
        picture.paste(frame, (column * wide, 2 * LINE))
    return picture


def page(strips: Sequence[Image.Image]) -> Image.Image:
    """Strips in COLUMNS columns, row by row."""
    width, height = (max(s.width for s in strips) + GAP, strips[0].height + GAP)
    sheet = Image.new("RGB", (COLUMNS * width + GAP, -(-len(strips) // COLUMNS) * height + GAP), PAPER)
    for index, picture in enumerate(strips):
        sheet.paste(picture, (GAP + index % COLUMNS * width, GAP + index // COLUMNS * height))
    return sheet


def write_sheets(folder: Path, name: str, strips: Sequence[Image.Image]) -> list[Path]:
    """PNG pages `name-1.png`, `name-2.png` ... of COLUMNS x ROWS videos each."""
    paths = []
    for start in range(0, len(strips), COLUMNS * ROWS):
        paths.append(folder / f"{name}-{start // (COLUMNS * ROWS) + 1}.png")
        page(strips[start : start + COLUMNS * ROWS]).save(paths[-1])
    return paths
