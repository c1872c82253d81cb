"""Small films with known content, twenty poisoned files, and operators that are quick, or misbehave on purpose.

A module of its own: worker processes import it by name.
"""

import ctypes
import json
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np

from kinema.curation.cut import Cut
from kinema.curation.exact import frames_of
from kinema.curation.funnel import Funnel, Work, run
from kinema.curation.operator import Device, Item, Level, Measurement, Metric, Rejection, Rows, Span, Table, Values, Vector
from kinema.curation.probe import Probe
from kinema.curation.recipe import Effort, Recipe, Thresholds
from kinema.curation.scan import scan
from kinema.curation.tiers import Ladder

HEIGHT, WIDTH, FPS = 48, 64, 12


def picture(seed: int, index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frame `index`: a bar that moves over a ramp, so that no two frames are alike."""
    rows, columns = np.mgrid[:height, :width]
    frame = np.stack([(columns * 3 + seed * 40) % 256, (rows * 4 + seed * 17) % 256, (rows + columns + seed * 29) % 256], -1)
    frame[:, (index * 2) % width : (index * 2) % width + 6] = (250, (seed * 60) % 256, 20)
    return frame.astype(np.uint8)


def write_film(
    path: Path,
    frames: int = 24,
    seed: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    pix_fmt: str = "yuv420p",
    times: Callable[[int], int] = lambda index: index,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """times: frame index -> its time in steps of 1/FPS."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"threads": "1", "bf": "0"} | (options or {}))
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, FPS)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(seed, index, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = times(index), Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turned(path: Path) -> Path:
    """The film, marked as one to be shown turned by 90 degrees: the matrix in its track header is replaced."""
    data = bytearray(write_film(path).read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and ids, reserved, layer to volume
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def flipped(path: Path) -> Path:
    """A film with noise over a stretch of its pictures."""
    data = bytearray(write_film(path, frames=48).read_bytes())
    middle = data.index(b"mdat") + len(data) // 3
    data[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(data)
    return path


def poison(folder: Path) -> dict[str, str]:
    """Twenty files that break software, each with the outcome it must have: the state of the source, and the reason if there is one."""
    folder.mkdir()
    (folder / "empty.mp4").touch()
    whole = write_film(folder / "cut_tail.mp4", 60, seed=9, muxer={"movflags": "+faststart"}).read_bytes()
    (folder / "cut_tail.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    late = write_film(folder / "no_moov.mp4").read_bytes()
    (folder / "no_moov.mp4").write_bytes(late[: late.index(b"moov") - 4])
    write_sound(folder / "sound_only.mp4")
    write_film(folder / "one_frame.mp4", 1)
    write_film(folder / "odd_size.mkv", 24, 1, (49, 65), "yuv444p")
    turned(folder / "turned.mp4")
    write_film(folder / "variable_rate.mp4", seed=2, times=lambda index: index + 5 * (index > 12) + 9 * (index > 18))
    write_film(folder / "ten_bit.mp4", 24, 3, pix_fmt="yuv420p10le")
    write_film(folder / "한국어\n이름.mp4", 24, 4)
    write_film(folder / "plain.mp4", 24, 5)
    (folder / "twin.mp4").write_bytes((folder / "plain.mp4").read_bytes())
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    (folder / "text.mp4").write_text("This is no film.\n" * 40)
    os.mkfifo(folder / "pipe.mp4")
    flipped(folder / "flipped.mp4")
    for seed, name in enumerate(("crashes", "hangs", "hungry", "raises"), start=10):
        write_film(folder / f"{name}.mp4", 24, seed)
    return {
        "empty.mp4": "failed open_failed", "cut_tail.mp4": "rejected partial_decode", "no_moov.mp4": "failed open_failed",
        "sound_only.mp4": "failed no_video_stream", "one_frame.mp4": "rejected too_short", "odd_size.mkv": "in", "turned.mp4": "in",
        "variable_rate.mp4": "in", "ten_bit.mp4": "in", "한국어\n이름.mp4": "in", "plain.mp4": "in", "twin.mp4": "rejected duplicate_file",
        "loop.mp4": "failed open_failed", "dangling.mp4": "failed open_failed", "text.mp4": "failed open_failed",
        "pipe.mp4": "failed open_failed", "crashes.mp4": "failed worker_crash", "hangs.mp4": "failed timeout",
        "hungry.mp4": "failed out_of_memory", "raises.mp4": "failed operator_error", "flipped.mp4": "in",
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What operators of these tests share."""

    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "clip"
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[Metric, ...]] = ()
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    deadline_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Mischief(Fixed):
    """Does what the file's name says."""

    name: ClassVar[str] = "mischief"
    over: ClassVar[Level] = "source"
    deadline_s: float = 2.0

    def run(self, item: Item, values: Values) -> Rows:
        match item.path.stem:
            case "crashes":
                ctypes.string_at(0)
            case "hangs":
                time.sleep(1e6)
            case "hungry":
                bytearray(2**40)
            case "raises":
                raise ZeroDivisionError("of no use")
        return []


@dataclass(frozen=True, kw_only=True)
class Stretches(Fixed):
    """Clips of `frames` frames, one after another."""

    name: ClassVar[str] = "stretches"
    over: ClassVar[Level] = "source"
    needs: ClassVar[tuple[str, ...]] = ("probe",)
    frames: int = 8

    def run(self, item: Item, values: Values) -> Rows:
        times = [frame.time for frame in frames_of(item)]
        step = times[1] - times[0] if len(times) > 1 else 0.1
        ends = [*times[1:], times[-1] + step]
        spans = [
            Span(start, start + self.frames, times[start], ends[start + self.frames - 1])
            for start in range(0, len(times) - self.frames + 1, self.frames)
        ]
        return spans or [Rejection("too_short", f"{len(times)} frames")]


@dataclass(frozen=True, kw_only=True)
class Luma(Fixed):
    """Mean brightness, and a small vector."""

    name: ClassVar[str] = "luma"
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("brightness", "0 to 255", "at least"),
        Metric("clip_height"),
        Metric("clip_width"),
        Metric("clip_frames"),
    )
    scale: float = 1.0
    nap_s: float = 0.0

    def run(self, item: Item, values: Values) -> Rows:
        time.sleep(self.nap_s)
        frames = np.stack([frame.to_ndarray(format="gray") for frame in frames_of(item)])
        count, height, width = frames.shape
        found = {"brightness": frames.mean() * self.scale, "clip_height": height, "clip_width": width, "clip_frames": count}
        return [Vector("look", tuple(frames.mean((0, 1))[:4].tolist())), *(Measurement(k, float(v)) for k, v in found.items())]


@dataclass(frozen=True, kw_only=True)
class Trim(Fixed):
    """Cuts the upper rows off every clip that starts at an even multiple of 16 frames."""

    name: ClassVar[str] = "trim"
    needs: ClassVar[tuple[str, ...]] = ("luma",)
    gives: ClassVar[tuple[Metric, ...]] = (Metric("kept_area", "share", "at least"),)
    rows: int = 8

    def run(self, item: Item, values: Values) -> Rows:
        if item.start % 16:
            return [Measurement("kept_area", 1.0)]
        height, width = int(values["clip_height"] or 0), int(values["clip_width"] or 0)
        crop = (self.rows, 0, height - self.rows, width)
        return [Measurement("kept_area", 1 - self.rows / height), Span(item.start, item.end, item.start_s, item.end_s, crop)]


@dataclass(frozen=True, kw_only=True)
class Ranks(Fixed):
    """Over the whole set: each clip's place by brightness, as a share."""

    name: ClassVar[str] = "ranks"
    over: ClassVar[Level] = "set"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("rank"),)

    def run_set(self, table: Table) -> dict[str, Rows]:
        order = np.argsort(np.array(table.column("brightness"), float), kind="stable")
        return {table.items[index].key: [Measurement("rank", rank / len(order))] for rank, index in enumerate(order.tolist())}


@dataclass(frozen=True, kw_only=True)
class Caption(Fixed):
    """Over kept clips, in batches; dies on a batch in which a clip starts at frame 16, unless alone."""

    name: ClassVar[str] = "caption"
    over: ClassVar[Level] = "kept"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("caption"),)
    batch: ClassVar[int] = 3

    def run_batch(self, items: list[Item], values: list[Values]) -> list[Rows]:
        if len(items) > 1 and any(item.start == 16 for item in items):
            ctypes.string_at(0)
        return [[Measurement("caption", f"luma {each['brightness']:.1f}")] for each in values]

    def run(self, item: Item, values: Values) -> Rows:
        raise AssertionError("an operator with a batch is asked by the batch")


NONE = Thresholds(**{each.name: Ladder() for each in fields(Thresholds)})
RISING = replace(NONE, brightness=Ladder(at_least=(80.0, 110.0, 120.0, 140.0, 150.0)), kept_area=Ladder(at_least=(0.6, 0.6, 0.6, 0.6, 0.9)))


def funnel(*changes: Any, memory_mb: int = 2048) -> Funnel:
    """A small funnel; operators in `changes` take the place of those of their name, or are added."""
    operators: dict[str, Any] = {op.name: op for op in (Probe(), Stretches(), Cut(), Luma(), Trim(), Ranks())}
    for change in changes:
        operators[change.name] = change
    ordered = sorted(operators.values(), key=lambda op: (op.name != "mischief", ("source", "clip", "kept", "set").index(op.over)))
    return Funnel(
        Recipe(thresholds=RISING, engine=Effort(memory_mb=memory_mb)),
        tuple(op for op in ordered if op.over != "set"),
        tuple(op for op in ordered if op.over == "set"),
    )


def go(raw: Path, out: Path, work: Work = Work(workers=1), *changes: Any) -> dict[str, Any]:
    """Curate; returns the summary."""
    run(funnel(*changes), scan(raw, work.shard), out, work, lambda *_: None)
    return json.loads((out / "summary.json").read_text()) if work.shard == (0, 1) else {}


def library(folder: Path, films: int = 6) -> Path:
    """A folder of good films, in two subfolders."""
    for seed in range(films):
        (folder / f"part{seed % 2}").mkdir(parents=True, exist_ok=True)
        write_film(folder / f"part{seed % 2}" / f"film{seed}.mp4", 40, seed)
    return folder
