"""The operators that measure a clip. Each is a few lines: decode (once for all), call the pure functions of `filters/`, name the values."""

from dataclasses import dataclass
from typing import ClassVar

from kinema.curation.decode import footage, spread
from kinema.curation.duplicates import fingerprint
from kinema.curation.embed import embed
from kinema.curation.filters.aesthetic import colour_contrast, colourfulness
from kinema.curation.filters.borders import Borders, borders
from kinema.curation.filters.clarity import blur, sharpness
from kinema.curation.filters.light import brightness, contrast
from kinema.curation.filters.motion import motion
from kinema.curation.filters.quality import brisque
from kinema.curation.filters.safety import nsfw
from kinema.curation.filters.text import read_text, subtitle_top, text_area, trusted
from kinema.curation.filters.watermark import maps, static_overlay, watermarks
from kinema.curation.operator import Device, Item, Level, Measurement, Metric, Rows, Value, Values, Vector


def rows(**values: Value) -> Rows:
    """Five digits of each: networks differ from run to run in the seventh, and the same clip is to give the same table."""
    return [Measurement(name, float(f"{value:.5g}") if isinstance(value, float) else value) for name, value in values.items()]


@dataclass(frozen=True, kw_only=True)
class OnClip:
    """What all measuring operators share."""

    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "clip"
    needs: ClassVar[tuple[str, ...]] = ()
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    deadline_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Geometry(OnClip):
    """Size, length and rate of the clip as it is cut."""

    name: ClassVar[str] = "geometry"
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("width", "pixels", "at least"), Metric("height", "pixels", "at least"), Metric("short_side", "pixels", "at least"),
        Metric("seconds", "s", "between"), Metric("fps", "frames/s", "at least"), Metric("aspect", "width / height", "between"),
    )  # fmt: skip

    def run(self, item: Item, values: Values) -> Rows:
        clip = footage(item)
        height, width = float(clip.height), float(clip.width)
        return rows(
            width=width, height=height, short_side=min(height, width), seconds=clip.seconds, fps=clip.fps, aspect=width / height
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Light(OnClip):
    """Mean and spread of luma."""

    name: ClassVar[str] = "light"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("brightness", "luma 0-255", "between"), Metric("contrast", "luma levels", "at least"))

    def run(self, item: Item, values: Values) -> Rows:
        frames = footage(item).small
        return rows(brightness=brightness(frames), contrast=contrast(frames))


@dataclass(frozen=True, kw_only=True)
class BlackBorders(OnClip):
    """Rows and columns of black."""

    name: ClassVar[str] = "borders"
    version: ClassVar[str] = "2"
    gives: ClassVar[tuple[Metric, ...]] = (
        *(Metric(f"border_{edge}", "pixels") for edge in Borders._fields), Metric("border_area", "share", "at most"),
    )  # fmt: skip

    def run(self, item: Item, values: Values) -> Rows:
        clip = footage(item)
        found = borders(clip.full)
        scale = clip.height / clip.full.shape[1]
        edges = {f"border_{edge}": float(-(-pixels * scale // 1)) for edge, pixels in found._asdict().items()}
        return rows(**edges, border_area=found.area(*clip.full.shape[1:3]))


@dataclass(frozen=True, kw_only=True)
class Clarity(OnClip):
    """How soft the edges are."""

    name: ClassVar[str] = "clarity"
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("blur", "thousandths of the shorter side", "at most"),
        Metric("sharpness", "luma² at 256 px", "at least"),
    )

    def run(self, item: Item, values: Values) -> Rows:
        clip = footage(item)
        pixels = blur(clip.full)
        return rows(blur=None if pixels is None else 1000 * pixels / min(clip.full.shape[1:3]), sharpness=sharpness(clip.small))


@dataclass(frozen=True, kw_only=True)
class Movement(OnClip):
    """How much moves, by what, and how steadily."""

    name: ClassVar[str] = "motion"
    version: ClassVar[str] = "2"
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("motion", "diagonals per 0.5 s", "between"), Metric("motion_strong", "diagonals per 0.5 s", "at most"),
        Metric("motion_own", "diagonals per 0.5 s", "at least"), Metric("jitter", "diagonals", "at most"),
        Metric("frozen", "share", "at most"),
    )  # fmt: skip

    def run(self, item: Item, values: Values) -> Rows:
        clip = footage(item)
        found = motion(clip.small, clip.times)
        if found is None:
            return rows(**{metric.name: None for metric in self.gives})
        return rows(motion=found.mean, motion_strong=found.strong, motion_own=found.own, jitter=found.jitter, frozen=found.frozen)


@dataclass(frozen=True, kw_only=True)
class Watermark(OnClip):
    """The surest mark, its box, and what the baseline says."""

    name: ClassVar[str] = "watermark"
    version: ClassVar[str] = "3"  # also of the detector's weights
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("watermark", "probability", "at most"), Metric("watermark_area", "share", "at most"),
        Metric("static_overlay", "share", "at most"),
    )  # fmt: skip

    def run(self, item: Item, values: Values) -> Rows:
        seen = maps(footage(item).small)
        found, plain = watermarks(seen), static_overlay(seen)
        best = found[0] if found else None
        area = (best.right - best.left) * (best.bottom - best.top) if best else 0.0
        overlay = sum((box.right - box.left) * (box.bottom - box.top) for box in plain)
        return rows(watermark=best.score if best else 0.0, watermark_area=area, static_overlay=float(overlay))


@dataclass(frozen=True, kw_only=True)
class Quality(OnClip):
    """Technical quality."""

    name: ClassVar[str] = "quality"
    version: ClassVar[str] = "2"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("brisque", "0 clean - 100 ruined", "at most"),)

    def run(self, item: Item, values: Values) -> Rows:
        return rows(brisque=brisque(footage(item).full))


@dataclass(frozen=True, kw_only=True)
class Aesthetic(OnClip):
    """Colour and contrast."""

    name: ClassVar[str] = "aesthetic"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("colourfulness", "0-110"), Metric("colour_contrast", "0-1", "at least"))

    def run(self, item: Item, values: Values) -> Rows:
        frames = footage(item).small
        return rows(colourfulness=colourfulness(frames), colour_contrast=colour_contrast(frames))


@dataclass(frozen=True, kw_only=True)
class Safety(OnClip):
    """Not safe for work."""

    name: ClassVar[str] = "safety"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("nsfw", "probability", "at most"),)

    def run(self, item: Item, values: Values) -> Rows:
        return rows(nsfw=nsfw(footage(item).small))


@dataclass(frozen=True, kw_only=True)
class Text(OnClip):
    """Text and subtitles, in a few frames."""

    name: ClassVar[str] = "text"
    version: ClassVar[str] = "5"
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("text_area", "share", "at most"),
        Metric("subtitle_top", "share of the height; 1 without"),
    )
    frames: int = 4
    deadline_s: float = 120.0

    def run(self, item: Item, values: Values) -> Rows:
        boxes = trusted([read_text(frame) for frame in spread(footage(item).full, self.frames)])
        top = subtitle_top(boxes)
        return rows(text_area=text_area(boxes), subtitle_top=1.0 if top is None else top)


@dataclass(frozen=True, kw_only=True)
class Fingerprint(OnClip):
    """Perceptual hashes of eight frames and of what changes between them."""

    name: ClassVar[str] = "fingerprint"
    version: ClassVar[str] = "2"
    gives: ClassVar[tuple[Metric, ...]] = (Metric("fingerprint"),)

    def run(self, item: Item, values: Values) -> Rows:
        return rows(fingerprint=fingerprint(footage(item).small))


@dataclass(frozen=True, kw_only=True)
class Embedding(OnClip):
    """What the clip shows."""

    name: ClassVar[str] = "embedding"
    version: ClassVar[str] = "2"
    gives: ClassVar[tuple[Metric, ...]] = ()

    def run(self, item: Item, values: Values) -> Rows:
        return [Vector("embedding", tuple(embed(footage(item).small).tolist()))]
