"""What people gave, opened within limits of pixels and seconds, by the reader of the kind that its first bytes claim, and no other.

`measure` reads the header alone and serves to refuse early; `check` decodes everything, once, in a worker. A file may say in a few bytes
that it holds a million by a million pixels, or hide ten hours behind a header of one second: what is decoded is counted.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
from PIL import Image

from kinema.errors import InputError
from kinema.serve.uploads import Upload

MOST_PIXELS = 32_000_000  # of a picture, or a frame of a video
MOST_SECONDS = 60.0  # of a video
MOST_DECODED = 600_000_000  # pixels of all frames together: they are held at once, in three bytes each
READERS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "video/mp4": "mov", "video/webm": "matroska"}
ALONE = {"protocol_whitelist": "file", "enable_drefs": "0"}  # a file may name others: none of them is read


@contextmanager
def opened(upload: Upload) -> Iterator[Any]:
    """A Pillow image or a PyAV container. Raises InputError for what is damaged or is not what it seems to be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that are refused here
            if upload.kind == "picture":
                with Image.open(upload.path, formats=[READERS[upload.type]]) as image:
                    yield image
            else:
                with av.open(str(upload.path), format=READERS[upload.type], options=ALONE) as container:
                    yield container
    except InputError:
        raise
    except (av.FFmpegError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"the {upload.kind} that was given is damaged: {getattr(error, 'strerror', None) or error}") from error


def measure(upload: Upload) -> tuple[int, int]:
    """Height and width, as a picture's or video's header says. Raises InputError where they, or its seconds, are beyond the limits."""
    with opened(upload) as file:
        if upload.kind == "picture":
            return within(upload, file.height, file.width)
        stream = stream_of(file)
        check_seconds((file.duration or 0) / av.time_base)
        return within(upload, stream.height, stream.width)


def check(upload: Upload) -> None:
    """Decode all of it. Raises InputError for what is damaged or beyond the limits."""
    with opened(upload) as file:
        if upload.kind == "picture":
            within(upload, file.height, file.width)
            file.load()
        else:
            check_frames(upload, file.decode(stream_of(file)))


def check_frames(upload: Upload, frames: Iterator[Any]) -> None:
    decoded, began = 0, None
    for frame in frames:
        began = frame.time if began is None else began
        check_seconds((frame.time or 0.0) - (began or 0.0))
        height, width = within(upload, frame.height, frame.width)
        decoded += height * width
        if decoded > MOST_DECODED:
            raise InputError("the video that was given is too large to be held: make it shorter or smaller")
    if not decoded:
        raise InputError("the video that was given is empty")


def stream_of(container: Any) -> Any:
    if not container.streams.video:
        raise InputError("the video that was given holds no pictures")
    return container.streams.video[0]


def within(upload: Upload, height: int, width: int) -> tuple[int, int]:
    if height * width > MOST_PIXELS:
        raise InputError(
            f"the {upload.kind} that was given has {width}x{height} pixels: at most {MOST_PIXELS:,} are taken; make it smaller"
        )
    return height, width


def check_seconds(seconds: float) -> None:
    if seconds > MOST_SECONDS:
        raise InputError(f"the video that was given is longer than {MOST_SECONDS:.0f} s, the most that is taken: cut it")
