"""A clip out of its source: exact frames, upright, square pixels, cropped, as an mp4 that is named by what it holds.

The source is decoded again from the nearest key frame, also for a clip that was cropped: nothing is encoded twice.
One encoding thread, so that the same frames give the same bytes and so the same name wherever they are cut.
"""

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
from av.filter import Graph

from kinema.curation.exact import frames_of
from kinema.curation.operator import Device, Item, ItemError, Level, Measurement, Metric, Rows, Values

ONE_THREAD = {"threads": "1", "x264-params": "mbtree=0"}  # mbtree reads stray memory with AVX-512: other bits now and then
TURNS = {90: ["transpose=cclock"], -90: ["transpose=clock"], 180: ["hflip", "vflip"], -180: ["hflip", "vflip"]}
HIGH_DEFINITION = 720  # rows from which untagged video is taken as BT.709; below, as BT.601, as players do
BT709, BT601, UNSPECIFIED = 1, 6, 2


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Writes the clip's file below `item.clips` and measures its name: the SHA-256 of its bytes, 32 hex digits."""

    name: ClassVar[str] = "cut"
    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "clip"
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[Metric, ...]] = (Metric("file"), Metric("bytes", "bytes"))
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    quality: int = 16  # x264's crf
    preset: str = "veryfast"  # x264's; a slower one makes smaller files
    deadline_s: float = 300.0

    def run(self, item: Item, values: Values) -> Rows:
        """Cut `item` into `item.clips`; a file that is there already is replaced by its equal."""
        draft = item.clips / f".{item.key}.mp4"
        try:
            encode(item, draft, {"crf": str(self.quality), "preset": self.preset} | ONE_THREAD)
            size, name = draft.stat().st_size, hashlib.sha256(draft.read_bytes()).hexdigest()[:32]
            home = clip_path(item.clips, name)
            home.parent.mkdir(exist_ok=True)
            draft.replace(home)
        finally:
            draft.unlink(missing_ok=True)
        return [Measurement("file", name), Measurement("bytes", float(size))]


def clip_path(folder: Path, name: str) -> Path:
    """Where the clip `name` lies: 256 folders, so that none holds too many files."""
    return folder / name[:2] / f"{name}.mp4"


def as_clip(item: Item, name: str) -> Item:
    """The item once its file is cut."""
    return replace(item, path=clip_path(item.clips, name), is_cut=True)


def encode(item: Item, path: Path, options: dict[str, str]) -> None:
    graph: Graph | None = None
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        for frame in frames_of(item):
            if graph is None:
                graph, begin = upright(frame, item), frame.pts
                stream = stream_like(container, frame, item, options)
            graph.vpush(frame)
            ready = graph.vpull()
            if not stream.codec_context.is_open:
                stream.width, stream.height = ready.width, ready.height
            ready.pts = None if frame.pts is None else frame.pts - begin
            container.mux(stream.encode(ready))
        if graph is None:
            raise ItemError("no_frames")
        container.mux(stream.encode(None))


def stream_like(container: Any, frame: Any, item: Item, options: dict[str, str]) -> Any:
    rate = Fraction(item.frames / (item.end_s - item.start_s)).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options=options)
    codec = stream.codec_context
    stream.pix_fmt, codec.thread_count = "yuv420p", 1
    if frame.pts is not None:
        codec.time_base = frame.time_base
    matrix = frame.colorspace
    if matrix == UNSPECIFIED:
        matrix = BT709 if frame.height >= HIGH_DEFINITION else BT601
    codec.colorspace = codec.color_primaries = codec.color_trc = int(matrix)
    return stream


def upright(frame: Any, item: Item) -> Graph:
    """A filter that turns, squares, crops and makes even, in this order; the picture is converted to 8-bit 4:2:0."""
    steps = list(TURNS.get(round(frame.rotation), []))
    steps.append("scale=trunc(iw*sar/2)*2:ih,setsar=1")
    if item.crop:
        top, left, height, width = item.crop
        steps.append(f"crop={width}:{height}:{left}:{top}:exact=1")
    steps += ["crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0", "format=yuv420p"]
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    last: Any = source
    for step in ",".join(steps).split(","):
        name, _, arguments = step.partition("=")
        node = graph.add(name, arguments or None)
        last.link_to(node)
        last = node
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
