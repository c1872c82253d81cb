"""The frames of an item, exactly those and every one, decoded on one thread: what cutting and probing need.

Frames are found by their presentation times, never by counting from a key frame: a rate may vary, and a seek may land anywhere before.
Torch is not imported here: a worker that decodes and measures stays small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.error

from kinema.curation.operator import Item, ItemError

HALF_FRAME = 0.5
NO_MEMORY = 12  # errno ENOMEM, which FFmpeg hands through


@contextmanager
def opened(item: Item) -> Iterator[Any]:
    """The item's file, for PyAV, with one decoding thread; raises ItemError where it is no video or holds no picture."""
    try:
        container: Any = av.open(str(item.path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ItemError("out_of_memory" if out_of_memory(error) else "open_failed", short(error)) from error
    with container:
        if not container.streams.video:
            raise ItemError("no_video_stream", f"{len(container.streams)} other streams")
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        yield container


def out_of_memory(error: Exception) -> bool:
    return getattr(error, "errno", None) == NO_MEMORY


def short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def frames_of(item: Item) -> Iterator[Any]:
    """The item's frames, as PyAV gives them (`to_ndarray(format="rgb24")`, `.time` in seconds), one after another.

    Raises ItemError: open_failed, no_video_stream, and for a clip partial_decode where the file holds fewer frames than the clip.
    """
    with opened(item) as container:
        if item.is_cut or item.end < 0:
            yield from decoded(container)
            return
        count = 0
        for count, frame in enumerate(from_start(container, item), start=1):
            yield frame
            if count == item.frames:
                return
        raise ItemError("partial_decode", f"{count} of {item.frames} frames from {item.start_s:.3f} s on")


def decoded(container: Any) -> Iterator[Any]:
    """Frames until the file ends or breaks: a cut tail ends the stream, as players do."""
    try:
        yield from container.decode(video=0)
    except (av.FFmpegError, OSError) as error:
        if out_of_memory(error):
            raise ItemError("out_of_memory", short(error)) from error


def from_start(container: Any, item: Item) -> Iterator[Any]:
    """Frames of a source from the item's first on."""
    if item.start == 0:
        yield from decoded(container)
        return
    stream = container.streams.video[0]
    tolerance = HALF_FRAME * (item.end_s - item.start_s) / item.frames
    container.seek(max(int(item.start_s / stream.time_base) - 1, 0), stream=stream)
    frames = decoded(container)
    first = next(frames, None)
    if first is None or first.time is None or first.time > item.start_s + tolerance:  # the file has no index, or a wrong one
        container.seek(0, stream=stream)
        yield from skipped(decoded(container), item.start)
        return
    if first.time > item.start_s - tolerance:
        yield first
    for frame in frames:
        if frame.time > item.start_s - tolerance:
            yield frame


def skipped(frames: Iterator[Any], count: int) -> Iterator[Any]:
    for index, frame in enumerate(frames):
        if index >= count:
            yield frame
