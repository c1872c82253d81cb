"""How fast the metrics are: seconds of each on one video, and videos a second of all of them in several processes."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinema.evaluate.measure import Job, Store, measure_all
from kinema.evaluate.metrics.table import FEATURES, METRICS
from kinema.media.video import write_video

PROMPT = "A red cat and a dog walk slowly to the left in the kitchen, pixel art style, the camera zooms in."
SKIPPED = ("distribution", "reconstruction")


def blob_video(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """A coloured disc that crosses a textured ground, [T H W 3]: something to measure that costs what any video does."""
    frames, height, width = shape
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    down, right = np.mgrid[:height, :width]
    video = np.repeat(ground[None], frames, axis=0).astype(np.uint8)
    for index, x in enumerate(np.linspace(0.2, 0.8, frames) * width):
        video[index][(down - height / 2) ** 2 + (right - x) ** 2 < (height / 5) ** 2] = (
            rng.integers(0, 255, 3) if index == 0 else (220, 60, 40)
        )
    return video


def bench(videos: int, shape: tuple[int, int, int], workers: int) -> Iterator[str]:
    """Lines for a person. The first video of each process, which waits for the networks to load, is not counted."""
    usable = {name: metric for name, metric in METRICS.items() if metric.family not in SKIPPED and not metric.missing()}
    features = tuple(name for name in FEATURES if name != "i3d")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.mp4" for number in range(videos + workers)]
        for number, path in enumerate(paths):
            write_video(path, blob_video(shape, number), 12)
        jobs = [Job(path, PROMPT, tuple(usable), features) for path in paths]
        ended, seconds = [], defaultdict(list)
        for _, found in measure_all(jobs, Store(Path(folder) / "measured"), workers):
            ended.append(time.perf_counter())
            for name, value in found.seconds.items():
                seconds[name].append(value)
    for name, values in sorted(seconds.items(), key=lambda pair: -np.median(pair[1])):
        yield f"{name:32} {1000 * float(np.median(values)):8.1f} ms"
    rate = (len(ended) - workers) / (ended[-1] - ended[workers - 1])
    yield f"all {len(usable)} metrics: {rate:.2f} videos/s of {shape} in {workers} processes"
