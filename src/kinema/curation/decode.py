"""One decoding of a clip, shared by all that measure it.

`small` serves whatever looks at shapes and motion, `full` what needs the pixels as they are: borders, text, blur.
Frames that no other frame is predicted from are skipped where the rest is dense enough; it halves the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.operator import Crop, Item, ItemError

SMALL_SIDE = 256  # pixels of the shorter side, at which the literature's thresholds of blur and motion are stated
RATE = 8.0  # small frames a second
MOST_SMALL, FULL_FRAMES = 160, 8  # of a clip
WIDEST = 1920  # a full frame that is longer is shrunk to this
DENSE_FPS = 20.0  # from here on, unreferenced frames can be missed


@dataclass(frozen=True)
class Footage:
    """What is kept of a clip's frames."""

    small: UInt8[np.ndarray, "T h w 3"]  # shorter side SMALL_SIDE, unless the clip is smaller
    times: Float[np.ndarray, "T"]  # seconds from the clip's first frame
    full: UInt8[np.ndarray, "K H W 3"]  # evenly spread; as large as the clip, up to WIDEST
    height: int  # of the upright clip
    width: int
    fps: float
    seconds: float


def small_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, even, with the shorter side at SMALL_SIDE; a smaller frame keeps its size."""
    scale = min(1.0, SMALL_SIDE / min(height, width))
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


class Source:
    """An opened file and its moving picture. Raises ItemError where there is none."""

    def __init__(self, item: Item):
        try:
            self.container = av.open(str(item.path))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ItemError("open_failed", str(error)) from error
        self.item, self.streams = item, [s for s in self.container.streams.video if not is_cover(s)]
        if not self.streams:
            self.container.close()
            raise ItemError("no_video_stream")

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def stream(self) -> Any:
        return self.streams[0]

    @property
    def fps(self) -> float:
        return float(self.stream.average_rate or self.stream.guessed_rate or 0) or 25.0

    @property
    def is_part(self) -> bool:
        return not self.item.is_cut and self.item.end >= 0

    @property
    def seconds(self) -> float:
        """Of what the item means, as the header says; 0 where it does not."""
        if self.is_part:
            return self.item.end_s - self.item.start_s
        if self.stream.frames:
            return self.stream.frames / self.fps
        return float(self.container.duration or 0) / av.time_base

    def skip_unreferenced(self) -> None:
        self.stream.codec_context.skip_frame = "NONREF"

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Presentation times in seconds and frames; it ends early where the file is damaged."""
        self.stream.thread_type = "NONE"  # a worker has one core
        half, first, last = 0.5 / self.fps, self.item.start_s if self.is_part else None, self.item.end_s if self.is_part else None
        if first:
            self.container.seek(int(first / self.stream.time_base), stream=self.stream)
        try:
            for index, frame in enumerate(self.container.decode(self.stream)):
                time = frame.time if frame.time is not None else index / self.fps
                if first is not None and time < first - half:
                    continue
                if last is not None and time >= last - half:
                    return
                yield time, frame
        except (av.FFmpegError, OSError):
            return


def is_cover(stream: Any) -> bool:
    """Whether a stream is the picture on a song's cover."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def pixels(frame: Any, height: int, width: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """An upright RGB picture of the size given, averaged where it shrinks. height, width: of the upright picture."""
    turns = round(frame.rotation / 90) % 4
    tall, wide = (width, height) if turns % 2 else (height, width)
    same = (tall, wide) == (frame.height, frame.width)
    if not same:
        frame = frame.reformat(width=wide, height=tall, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


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

    def __init__(self, source: Source):
        self.crop = None if source.item.is_cut else source.item.crop
        expected = max(1, round(source.seconds * source.fps))
        stride = max(1, round(source.fps / RATE), -(-expected // MOST_SMALL))
        self.step, self.half = stride / source.fps, 0.5 / source.fps
        self.full_step = source.seconds / FULL_FRAMES
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
    with Source(item) as source:
        fps, seconds = source.fps, source.seconds
        sampler, start, last = Sampler(source), None, 0.0
        if fps >= DENSE_FPS and seconds >= 1:
            source.skip_unreferenced()
        for time, frame in source.frames():
            start = time if start is None else start
            last = time - start
            sampler.look(last, frame)
    if not sampler.times:
        raise ItemError("no_frames")
    full = [picture for picture in sampler.full if picture.shape == sampler.full[0].shape]  # a stream may change its size midway
    small = [picture if picture.shape == sampler.small[0].shape else None for picture in sampler.small]
    kept = [index for index, picture in enumerate(small) if picture is not None]
    return Footage(
        small=np.stack([sampler.small[index] for index in kept]),
        times=np.array([sampler.times[index] for index in kept]),
        full=np.stack(full),
        height=sampler.size[0],
        width=sampler.size[1],
        fps=fps,
        seconds=max(seconds, last + 1 / fps) if not seconds else seconds,
    )


def gray(frames: UInt8[np.ndarray, "*T h w 3"]) -> UInt8[np.ndarray, "*T h w"]:
    """Luma of one frame or of many."""
    tall = frames.reshape(-1, *frames.shape[-2:])  # frames below one another: one call for all
    return cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY).reshape(frames.shape[:-1])


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of the frames, evenly; all where there are fewer."""
    if len(frames) <= count:
        return frames
    return frames[((np.arange(count) + 0.5) * len(frames) / count).astype(int)]
