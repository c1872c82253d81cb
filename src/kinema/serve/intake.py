"""What people gave, opened within limits of pixels and seconds, by the reader of the kind that its first bytes claim, and no other.

`measure` and `seconds_of` decode nothing and serve to refuse early; `check` and `hear` decode everything, in a worker. A file may say in
a few bytes that it holds a million by a million pixels, or hide ten hours behind a header of one second: what is decoded is counted.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kinema.errors import InputError
from kinema.media.audio import sound_of
from kinema.serve.uploads import Upload

MOST_PIXELS = 32_000_000  # of a picture, or a frame of a video
MOST_SECONDS = 60.0  # of a video
MOST_SPOKEN = 300.0  # seconds of a sound
MOST_DECODED = 600_000_000  # pixels of all frames together: they are held at once, in three bytes each
READERS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "video/mp4": "mov", "video/webm": "matroska"} | {
    "audio/wav": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/ogg": "ogg"
}  # fmt: skip
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
        check_seconds("video", (file.duration or 0) / av.time_base, MOST_SECONDS)
        return within(upload, stream.height, stream.width)


def seconds_of(upload: Upload) -> float:
    """How long a sound, or a video's sound, lasts. Raises InputError where there is none, or it is beyond the limit."""
    with opened(upload) as file:
        if upload.kind == "picture" or not file.streams.audio:
            raise InputError(f"the {upload.kind} that was given holds no sound: give a sound file, or a video that speaks")
        stream = file.streams.audio[0]
        told = file.duration / av.time_base if file.duration else last_second(file, stream)
        check_seconds("sound", told, MOST_SPOKEN)
        return told


def last_second(container: Any, stream: Any) -> float:
    """Where the header does not say how long it lasts, as recorders in browsers leave it: the end of the last packet."""
    ends = (((packet.pts or 0) + (packet.duration or 0)) * float(stream.time_base) for packet in container.demux(stream))
    return max(ends, default=0.0)


def hear(upload: Upload) -> Float[Tensor, " n"]:
    """All of a sound, 16 kHz. Raises InputError for what is damaged or beyond the limit."""
    with opened(upload) as file:
        return sound_of(file, f"the {upload.kind} that was given", longest=MOST_SPOKEN)


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
        check_seconds("video", (frame.time or 0.0) - (began or 0.0), MOST_SECONDS)
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


def check_seconds(what: str, seconds: float, most: float) -> None:
    if seconds > most:
        raise InputError(f"the {what} that was given is longer than {most:.0f} s, the most that is taken: cut it")
