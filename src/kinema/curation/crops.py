"""Black borders and subtitles are cut away; what is left is measured again, or thrown away if it is too little."""

from dataclasses import dataclass
from typing import ClassVar

from kinema.curation.filters.borders import Borders
from kinema.curation.operator import Crop, Device, Item, Level, Measurement, Metric, Rejection, Rows, Span, Values


def crop_of(height: int, width: int, black: Borders, subtitle_top: float) -> Crop | None:
    """What is left without borders and below-line text, edges moved inwards to even pixels; None where all may stay.

    subtitle_top: share of the height where subtitles begin; 1 without.
    """
    top, left = (edge + edge % 2 for edge in (black.top, black.left))
    bottom = min(height - black.bottom, int(height * subtitle_top) if subtitle_top < 1 else height)
    bottom, right = (edge - edge % 2 for edge in (bottom, width - black.right))
    if (top, left, bottom, right) == (0, 0, height - height % 2, width - width % 2):
        return None
    return top, left, max(0, bottom - top), max(0, right - left)


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Gives a cropped span in the clip's place; kept_area is 1 where nothing is cut away."""

    name: ClassVar[str] = "crops"
    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "clip"
    needs: ClassVar[tuple[str, ...]] = ("geometry", "borders", "text")
    gives: ClassVar[tuple[Metric, ...]] = (Metric("kept_area", "share", "at least"),)
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    least_area: float = 0.6  # HunyuanVideo 1.5
    deadline_s: float = 10.0

    def run(self, item: Item, values: Values) -> Rows:
        height, width = (int(float(values[name] or 0)) for name in ("height", "width"))
        black = Borders(*(int(float(values[f"border_{edge}"] or 0)) for edge in Borders._fields))
        top = values["subtitle_top"]
        crop = crop_of(height, width, black, 1.0 if top is None else float(top))
        if crop is None:
            return [Measurement("kept_area", 1.0)]
        area = crop[2] * crop[3] / (height * width)
        if area < self.least_area:
            return [Measurement("kept_area", area), Rejection("crop_too_small", f"{area:.2f} is left")]
        return [Measurement("kept_area", area), Span(item.start, item.end, item.start_s, item.end_s, crop)]
