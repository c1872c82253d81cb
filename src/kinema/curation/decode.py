"""One decoding of a clip, shared by all that measure it.

`small` serves whatever looks at shapes and motion, `full` what needs the pixels as they are: borders, text, blur.
Frames that no other frame is predicted from are skipped where the rest is dense enough; it halves the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float, UInt8

from kinema.curation.exact import decoded, opened
from kinema.curation.operator import Crop, Item, ItemError

SMALL_SIDE = 256  # pixels of the shorter side, at which the literature's thresholds of blur and motion are stated
RATE = 8.0  # small frames a second
MOST_SMALL, FULL_FRAMES = 160, 8  # of a clip
WIDEST = 1920  # a full frame that is longer is shrunk to this
DENSE_FPS = 20.0  # from here on, unreferenced frames can be missed
UNKNOWN_FPS = 25.0  # where a header gives none


@dataclass(frozen=True)
class Footage:
    """What is kept of a clip's frames."""

    small: UInt8[np.ndarray, "T h w 3"]  # shorter side SMALL_SIDE, unless the clip is smaller
    times: Float[np.ndarray, " T"]  # seconds from the clip's first frame
    full: UInt8[np.ndarray, "K H W 3"]  # evenly spread; as large as the clip, up to WIDEST
    height: int  # of the upright clip
    width: int
    fps: float
    seconds: float


def small_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, even, with the shorter side at SMALL_SIDE; a smaller frame keeps its size."""
    scale = min(1.0, SMALL_SIDE / min(height, width))
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def length(container: Any, item: Item, fps: float) -> float:
    """Seconds of what the item means, as the header says; 0 where it does not."""
    if is_part(item):
        return item.end_s - item.start_s
    stream = container.streams.video[0]
    return stream.frames / fps if stream.frames else float(container.duration or 0) / 1_000_000


def is_part(item: Item) -> bool:
    """Whether a stretch of the file is meant, not all of it."""
    return not item.is_cut and item.end >= 0


def timed(container: Any, item: Item, fps: float) -> Iterator[tuple[float, Any]]:
    """Frames and their times in seconds; of a part those within it, to half a frame. A damaged file ends early."""
    stream, half = container.streams.video[0], 0.5 / fps
    begin, end = (item.start_s - half, item.end_s - half) if is_part(item) else (-np.inf, np.inf)
    if is_part(item) and item.start:
        container.seek(max(int(item.start_s / stream.time_base) - 1, 0), stream=stream)
        first = next(decoded(container), None)
        late = first is None or first.time is None or first.time > item.start_s + half  # no index, or a wrong one
        container.seek(0 if late else max(int(item.start_s / stream.time_base) - 1, 0), stream=stream)
    for index, frame in enumerate(decoded(container)):
        time = frame.time if frame.time is not None else index / fps
        if time >= end:
            return
        if time >= begin:
            yield time, frame


@lru_cache(maxsize=4)
def scaler(height: int, width: int) -> VideoReformatter:
    """FFmpeg's scaler to one size, kept: each frame's own would be set up again, which costs as much as a quarter of the scaling."""
    return VideoReformatter()


def pixels(frame: Any, height: int, width: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """An upright RGB picture of the size given, averaged where it shrinks. height, width: of the upright picture."""
    turns = round(frame.rotation / 90) % 4
    tall, wide = (width, height) if turns % 2 else (height, width)
    how = None if (tall, wide) == (frame.height, frame.width) else "AREA"
    scaled = scaler(tall, wide).reformat(frame, width=wide, height=tall, format="rgb24", interpolation=how)
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns))


def upright(frame: Any) -> tuple[int, int]:
    """Height and width as the frame is shown."""
    return (frame.width, frame.height) if round(frame.rotation / 90) % 2 else (frame.height, frame.width)


def cropped(picture: UInt8[np.ndarray, "H W 3"], crop: Crop | None, scale: float) -> UInt8[np.ndarray, "_ _ 3"]:
    if crop is None:
        return picture
    top, left, height, width = (round(value * scale) for value in crop)
    return picture[top : top + height, left : left + width]


class Sampler:
    """Chooses from a stream of frames what Footage keeps."""

    def __init__(self, crop: Crop | None, fps: float, seconds: float):
        self.crop = crop
        stride = max(1, round(fps / RATE), -(-max(1, round(seconds * fps)) // MOST_SMALL))
        self.step, self.half = stride / fps, 0.5 / fps
        self.full_step = seconds / FULL_FRAMES
        self.small: list[np.ndarray] = []
        self.full: list[np.ndarray] = []
        self.times: list[float] = []
        self.size = (0, 0)

    def look(self, time: float, frame: Any) -> None:
        """time: from the clip's first frame. At most MOST_SMALL frames are kept however wrong the header is."""
        wants_small = time >= len(self.times) * self.step - self.half and len(self.times) < MOST_SMALL
        wants_full = time >= (len(self.full) + 0.5) * self.full_step - self.half and len(self.full) < FULL_FRAMES
        if not self.times:
            height, width = upright(frame)
            self.size = self.crop[2:] if self.crop else (height, width)
        if wants_full or not self.times:
            self.full.append(self.take(frame, min(1.0, WIDEST / max(upright(frame)))))
        if wants_small:
            self.small.append(self.shrink(frame))
            self.times.append(time)

    def result(self, fps: float, seconds: float) -> Footage:
        """What was kept, of one size: a stream may change its size midway."""
        if not self.times:
            raise ItemError("no_frames")
        same = [index for index, picture in enumerate(self.small) if picture.shape == self.small[0].shape]
        small, times = np.stack([self.small[index] for index in same]), np.array([self.times[index] for index in same])
        full = np.stack([picture for picture in self.full if picture.shape == self.full[0].shape])
        return Footage(small, times, full, *self.size, fps, seconds or float(times[-1]) + 1 / fps)

    def take(self, frame: Any, scale: float) -> np.ndarray:
        height, width = upright(frame)
        return cropped(pixels(frame, round(height * scale), round(width * scale)), self.crop, scale)

    def shrink(self, frame: Any) -> np.ndarray:
        if self.crop is None:
            return pixels(frame, *small_size(*upright(frame)))
        height, width = small_size(*self.size)
        return cv2.resize(self.take(frame, 1.0), (width, height), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=1)
def footage(item: Item) -> Footage:
    """The clip's frames, decoded once for all measurements. Raises ItemError where nothing can be decoded."""
    with opened(item) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or stream.guessed_rate or 0) or UNKNOWN_FPS
        seconds = length(container, item, fps)
        sampler = Sampler(None if item.is_cut else item.crop, fps, seconds)
        if fps >= DENSE_FPS and seconds >= 1:
            stream.codec_context.skip_frame = "NONREF"
        start = None
        for time, frame in timed(container, item, fps):
            start = time if start is None else start
            sampler.look(time - start, frame)
    return sampler.result(fps, seconds)


def gray(frames: UInt8[np.ndarray, "*T h w 3"]) -> UInt8[np.ndarray, "*T h w"]:
    """Luma of one frame or of many."""
    tall = frames.reshape(-1, *frames.shape[-2:])  # frames below one another: one call for all
    return cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY).reshape(frames.shape[:-1])


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of the frames, evenly; all where there are fewer."""
    if len(frames) <= count:
        return frames
    return frames[((np.arange(count) + 0.5) * len(frames) / count).astype(int)]
