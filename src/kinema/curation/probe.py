"""What a file's header says, and whether its packets keep the promise; nothing is decoded but the first frame."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import av

from kinema.curation.exact import decoded, opened, short
from kinema.curation.operator import Device, Item, ItemError, Level, Measurement, Metric, Rejection, Rows, Values

VARIABLE = 0.1  # steps between frames that differ by more than this share of the mean make a variable rate


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Opens the file and walks its packets: cheap, and it finds a cut tail and a stream without frames."""

    name: ClassVar[str] = "probe"
    version: ClassVar[str] = "2"
    over: ClassVar[Level] = "source"
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("width", "pixels"), Metric("height", "pixels"), Metric("fps", "frames/s"), Metric("seconds", "s"),
        Metric("frames", "frames"), Metric("codec"), Metric("rotation", "degrees"),
        Metric("variable_rate"), Metric("time_ratio", "found / promised"),
    )  # fmt: skip
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    deadline_s: float = 60.0
    least_ratio: float = 0.98  # of the promised time for which there must be packets

    def run(self, item: Item, values: Values) -> Rows:
        with opened(item) as container:
            first = next(decoded(container), None)
            if first is None:
                raise ItemError("no_frames", "no frame decodes")
            stream = container.streams.video[0]
            promised, rate = promised_seconds(container), float(stream.average_rate or stream.guessed_rate or 0)
        times = packet_times(item)
        fps = rate or (len(times) - 1) / max(times[-1] - times[0], 1e-6)
        ratio = min(length(times, fps) / promised, 1.0) if promised else 1.0
        facts = {"width": first.width, "height": first.height, "fps": fps, "seconds": length(times, fps), "frames": len(times)}
        facts |= {"rotation": first.rotation, "variable_rate": varies(times), "time_ratio": ratio}
        rows: list[Any] = [Measurement(name, float(value)) for name, value in facts.items()]
        rows.append(Measurement("codec", stream.codec_context.name))
        if ratio < self.least_ratio:
            rows.append(Rejection("partial_decode", f"{length(times, fps):.2f} of {promised:.2f} s"))
        return rows


def promised_seconds(container: Any) -> float:
    """How long the picture is as the header says; 0 where it does not."""
    stream = container.streams.video[0]
    return float(stream.duration * stream.time_base) if stream.duration else 0.0


def packet_times(item: Item) -> list[float]:
    """When each frame is shown, in seconds, in order; a tail that is cut off ends the list."""
    times: list[float] = []
    with opened(item) as container:
        try:
            for packet in container.demux(video=0):
                if packet.size:
                    times.append(float(packet.pts * packet.time_base) if packet.pts is not None else len(times) * 1e-9)
        except (av.FFmpegError, OSError) as error:
            if not times:
                raise ItemError("no_frames", short(error)) from error
    return sorted(times)


def length(times: list[float], fps: float) -> float:
    return max(times[-1] - times[0], 0.0) + 1 / fps if fps else 0.0


def varies(times: list[float]) -> bool:
    steps = [b - a for a, b in pairwise(times)]
    mean = sum(steps) / max(len(steps), 1)
    return any(abs(step - mean) > VARIABLE * mean for step in steps)
