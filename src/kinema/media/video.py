"""Videos on disk: H.264 that browsers play, with the recipe inside the file.

PyAV carries its own FFmpeg. Its H.264 encoder, x264, is GPL: we depend on it and ship none of it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.errors import InputError
from kinema.media.files import pack, unpack, whole_file
from kinema.media.image import read_image_metadata

QUALITY = "16"  # x264's crf: 0 keeps all, 18 is hard to tell from it, 23 is its default
REPEATABLE = "mbtree=0"  # x264's macroblock tree reads stray memory with AVX-512: one file in a hundred then had other bits
BT709 = 1  # FFmpeg's number for it, in matrix, primaries and transfer; untagged, players guess by size and shift the colours
LIMITED = 1  # levels 16 to 235, as every player expects
RULE = "there must be some, of even height and width"
WAITING = 2  # parts of a video that are made and not yet encoded
METADATA_TAG = "comment"  # kept by MP4 and shown by players

T = TypeVar("T")


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says."""

    frames: int
    height: int
    width: int
    fps: float
    codec: str

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


def write_video(
    path: Path | str,
    frames: UInt8[Tensor, "T H W 3"] | UInt8[np.ndarray, "T H W 3"],
    fps: float | int,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write an MP4 (H.264, yuv420p, index in front); metadata goes inside as JSON.

    Raises InputError for an odd height or width, which yuv420p cannot hold, or no frames; OutputError where it cannot be written.
    """
    write_parts(path, [torch.from_numpy(np.ascontiguousarray(frames))], fps, metadata)


def write_parts(
    path: Path | str, parts: Iterable[UInt8[Tensor, "_ H W 3"]], fps: float | int, metadata: dict[str, Any] | None = None
) -> None:
    """`write_video` of frames that come part by part: one is encoded in a thread while the next is made, and few wait; the same bits."""
    path = Path(path)
    if path.suffix != ".mp4":
        raise InputError(f"{path.name!r} must end in .mp4")
    with whole_file(path) as draft, av.open(draft, "w", options={"movflags": "+faststart"}) as container:
        if metadata is not None:
            container.metadata[METADATA_TAG] = pack(metadata)
        encoder = Encoder(container, Fraction(fps).limit_denominator(1001))
        beside(encoder.add, parts)
        encoder.end()


def beside(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do the work on each item in a thread, in order, while the next item is made here; at most WAITING of them wait."""
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as thread:
        waiting: deque[Future[None]] = deque()
        for item in items:
            waiting.append(thread.submit(work, item))
            if len(waiting) > WAITING:
                waiting.popleft().result()
        for future in waiting:
            future.result()


class Encoder:
    """Frames into a container, from whichever thread."""

    def __init__(self, container: Any, rate: Fraction):
        self.container, self.rate = container, rate
        self.stream: Any = None

    def begin(self, height: int, width: int) -> None:
        stream = self.container.add_stream(
            "libx264", rate=self.rate, options={"crf": QUALITY, "preset": "medium", "x264-params": REPEATABLE}
        )
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED
        self.stream = stream

    def add(self, frames: UInt8[Tensor, "T H W 3"]) -> None:
        """Raises InputError for an odd height or width."""
        if frames.shape[1] % 2 or frames.shape[2] % 2:
            raise InputError(f"frames of shape {tuple(frames.shape)} cannot be a video: {RULE}")
        for frame in frames.numpy():
            if self.stream is None:
                self.begin(*frame.shape[:2])
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
            self.container.mux(self.stream.encode(picture))

    def end(self) -> None:
        """Raises InputError where there was no frame."""
        if self.stream is None:
            raise InputError(f"no frames cannot be a video: {RULE}")
        self.container.mux(self.stream.encode(None))


def copy_stream(source: Path | str, path: Path) -> None:
    """The pictures of a video as they are, without a new encoding, into an MP4 that carries no metadata and no sound.

    Raises InputError where the source cannot be read; OutputError where the copy cannot be written.
    """
    with opened(source) as original, whole_file(path) as draft, av.open(draft, "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream_from_template(original.streams.video[0])
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


def read_video(path: Path | str) -> tuple[UInt8[Tensor, "T H W 3"], float]:
    """All frames and the frame rate.

    Raises InputError where the file is missing, damaged, or holds no video.
    """
    with opened(path) as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    if not frames:
        raise InputError(f"{path} holds no frames")
    return torch.stack(frames), rate


def probe(path: Path | str) -> VideoInfo:
    """Size, rate and codec without decoding; frames are counted packet by packet where the header does not say."""
    with opened(path) as container:
        stream = container.streams.video[0]
        frames = stream.frames or sum(packet.size > 0 for packet in container.demux(video=0))
        return VideoInfo(frames, stream.height, stream.width, float(stream.average_rate), stream.codec_context.name)


def read_metadata(path: Path | str) -> dict[str, Any] | None:
    """What `write_video` or `write_image` put into the file; None where there is nothing of ours."""
    if Path(path).suffix == ".png":
        return read_image_metadata(path)
    with opened(path) as container:
        return unpack(container.metadata.get(METADATA_TAG))


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video")
            yield container
    except (av.FFmpegError, FileNotFoundError) as error:
        raise InputError(f"cannot read {path} as a video: {error.strerror or error}") from error
