"""How many clips a second one core measures.

    python -m kinema.curation.speed [--clip FILE] [--rounds 5]

Without a clip one is drawn: 640 x 360, 120 frames, 24 a second, a window moving over a picture, with a little grain.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.curation.decode import footage
from kinema.curation.operator import Item, Operator
from kinema.curation.recipe import OPERATORS
from kinema.media.video import write_video

SIZE, FRAMES, FPS = (360, 640), 120, 24
OCR, SHARED = "text", ("fingerprint", "embedding")  # the latter serve the search for duplicates


def drawn(seed: int = 0) -> UInt8[np.ndarray, "T H W 3"]:
    """Smooth shapes under a moving window, and grain."""
    rng, (height, width) = np.random.default_rng(seed), SIZE
    coarse = rng.integers(0, 256, (12, 24, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (width + 2 * FRAMES, height + FRAMES), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        x, y, side = rng.integers(0, scene.shape[1]), rng.integers(0, scene.shape[0]), rng.integers(8, 60)
        cv2.circle(scene, (int(x), int(y)), int(side), rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    grain = rng.normal(0, 1, (8, height, width, 3))
    views = [scene[t // 2 : t // 2 + height, 2 * t : 2 * t + width] + grain[t % 8] for t in range(FRAMES)]
    return np.clip(np.stack(views), 0, 255).astype(np.uint8)


def operators() -> list[Operator]:
    """Those that look at a cut clip's frames, in the funnel's order."""
    return [op for op in vars(OPERATORS).values() if getattr(op, "over", "") == "clip" and op.name not in ("cut", "crops")]


def times(path: Path, rounds: int) -> dict[str, float]:
    """Processor seconds of each operator on one clip, and of decoding; the median of some rounds after one to warm up."""
    item = Item("speed", path, "clip", is_cut=True)
    taken: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        footage.cache_clear()
        begin = time.process_time()
        footage(item)
        taken.setdefault("decode", []).append(time.process_time() - begin)
        for op in operators():
            begin = time.process_time()
            op.run(item, {})
            taken.setdefault(op.name, []).append(time.process_time() - begin)
    return {name: median(values[1:]) for name, values in taken.items()}


def report(seconds: dict[str, float]) -> str:
    lines = [f"{name:<12}{1000 * value:>8.1f} ms" for name, value in seconds.items()]
    plain = sum(value for name, value in seconds.items() if name not in (OCR, *SHARED))
    for title, value in (("without OCR", plain), ("with OCR", plain + seconds[OCR]), ("and embeddings", sum(seconds.values()))):
        lines.append(f"{title:<16}{1 / value:>6.2f} clips/s/core")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Clips a second that one core measures.")
    parser.add_argument("--clip", type=Path, help="default: one is drawn")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.clip or Path(folder) / "clip.mp4"
        if chosen.clip is None:
            write_video(path, drawn(), FPS)
        print(report(times(path, chosen.rounds)))


if __name__ == "__main__":
    main()
