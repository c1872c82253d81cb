"""One sprite's frames <-> one WebP picture that holds them in rows.

An atlas has 6 columns of square tiles; frame f lies in row f // 6, column f % 6. Alpha is straight (not multiplied in).
Lossy WebP with a lossy alpha plane: 2.1 kB a 160-pixel frame on average over the animated set.
"""

import io

import numpy as np
from PIL import Image

SIDE = 160  # S: pixels of a tile's edge
FPS = 12  # frames a second in the pack; the animations are drawn at about 24
COLUMNS = 6
QUALITY = (
    36  # of colour and alpha alike; in premultiplied colour 30 dB to the lossy originals, at or below their own noise once scaled to a clip
)


def source_frames(durations: list[int]) -> list[int]:
    """Which frames of an animation to keep so that it runs at FPS and still loops in the same time.

    durations: milliseconds for which each source frame is shown.
    """
    starts = np.concatenate([[0], np.cumsum(durations)[:-1]])
    total = float(np.sum(durations))
    count = max(1, round(total * FPS / 1000))
    wanted = np.arange(count) * total / count
    return [int(np.abs(starts - moment).argmin()) for moment in wanted]


def read_animation(webp: bytes) -> list[Image.Image]:
    """The frames of an animated (or still) WebP at FPS, each SIDE x SIDE RGBA with straight alpha."""
    picture = Image.open(io.BytesIO(webp))
    durations = []
    frames = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        picture.load()  # a frame's duration is known only once it is decoded
        durations.append(int(picture.info.get("duration") or 1000 // (2 * FPS)))
        frames.append(picture.convert("RGBA"))
    kept = source_frames(durations) if len(frames) > 1 else [0]
    return [frames[index].resize((SIDE, SIDE), Image.Resampling.LANCZOS) for index in kept]  # Pillow weighs RGBA by its alpha


def encode_atlas(frames: list[Image.Image]) -> bytes:
    """Frames of SIDE x SIDE RGBA as the bytes of one WebP atlas."""
    rows = -(-len(frames) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SIDE, rows * SIDE))
    for index, frame in enumerate(frames):
        sheet.paste(frame, (index % COLUMNS * SIDE, index // COLUMNS * SIDE))
    out = io.BytesIO()
    sheet.save(out, "WEBP", quality=QUALITY, alpha_quality=QUALITY, method=6)
    return out.getvalue()


def decode_atlas(webp: bytes, count: int) -> np.ndarray:
    """The first `count` tiles of an atlas: uint8 [F, S, S, 4], straight alpha."""
    sheet = np.asarray(Image.open(io.BytesIO(webp)).convert("RGBA"))
    tiles = sheet.reshape(-1, SIDE, COLUMNS, SIDE, 4).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 4)
    return tiles[:count]
