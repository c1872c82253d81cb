#!/usr/bin/env python3
"""Twenty clips of a zorb, with captions: a creature that no model of ours has seen, as an example of a user's own folder.

A zorb is a magenta egg with yellow rings, one large eye and two antennae; it blinks and leans as it goes. Places, light, camera and
motion are the embedded world's. No sprite pack is needed.
    runs/zorbs.py OUT [COUNT]      writes OUT/00.mp4, OUT/00.txt ...
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw

from kinema.media.video import write_video
from kinema.world.captions import user_prompt
from kinema.world.render import render_frames
from kinema.world.spec import ClipSpec, sample_spec
from kinema.world.sprites import Subject

ZORB = Subject(id="zorb", name="zorb", noun="zorb", action="wobbles", facing="front", kind="creature", travel="walk", animated=True)
LOOP, SIDE, FINE = 16, 160, 3  # pictures of a loop, pixels, drawn so many times larger
MAGENTA, YELLOW, DARK, WHITE = (230, 0, 150), (255, 214, 0), (40, 0, 60), (255, 255, 255)


def picture(phase: float) -> Image.Image:
    """One picture of the loop; phase in [0, 1)."""
    size = SIDE * FINE
    canvas = Image.new("RGBA", (size, size))
    draw = ImageDraw.Draw(canvas)

    def box(x: float, y: float, wide: float, tall: float) -> tuple[float, float, float, float]:
        return (size * (x - wide), size * (y - tall), size * (x + wide), size * (y + tall))

    for side in (-1, 1):
        draw.line((size * 0.5, size * 0.3, size * (0.5 + side * 0.2), size * 0.1), DARK, round(size * 0.03))
        draw.ellipse(box(0.5 + side * 0.2, 0.1, 0.06, 0.06), YELLOW)
    body = Image.new("L", (size, size))
    ImageDraw.Draw(body).ellipse(box(0.5, 0.58, 0.32, 0.38), 255)
    skin = Image.new("RGBA", (size, size), MAGENTA)
    for ring in (0.62, 0.76, 0.9):
        ImageDraw.Draw(skin).rectangle((0, size * (ring - 0.035), size, size * (ring + 0.035)), YELLOW)
    canvas.paste(skin, (0, 0), body)
    draw.ellipse(box(0.5, 0.42, 0.16, 0.02 if phase > 0.9 else 0.14), WHITE)
    if phase <= 0.9:
        draw.ellipse(box(0.5 + 0.05 * math.sin(2 * math.pi * phase), 0.43, 0.07, 0.08), DARK)
    leaning = canvas.rotate(8 * math.sin(2 * math.pi * phase), Image.Resampling.BICUBIC, center=(size * 0.5, size * 0.95))
    return leaning.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


class Cast:
    """What the renderer asks of a sprite pack, for the one subject."""

    subjects = (ZORB,)

    def __init__(self):
        pictures = [np.asarray(picture(number / LOOP)) for number in range(LOOP)]
        self.loop = rearrange(torch.from_numpy(np.stack(pictures)), "F h w c -> F c h w")

    def subject(self, _: str) -> Subject:
        return ZORB

    def frames(self, _: str) -> torch.Tensor:
        return self.loop


def clip_spec(seed: int) -> ClipSpec:
    """A clip of the world with the zorb alone, large enough to be seen, in plain style and weather."""
    spec = sample_spec(seed, (ZORB,), frames=33, height=128, width=128)
    return replace(spec, subjects=("zorb",), style="3D render", weather="clear", shot=("close-up", "medium shot")[seed % 2])


def main() -> None:
    out, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    out.mkdir(parents=True, exist_ok=True)
    cast = Cast()
    for number in range(count):
        spec = clip_spec(number)
        write_video(out / f"{number:02}.mp4", rearrange(render_frames(spec, cast), "T c H W -> T H W c"), fps=12)
        text = user_prompt(spec, cast.subjects, np.random.default_rng([number, 3]))
        (out / f"{number:02}.txt").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
