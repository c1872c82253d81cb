"""Captions of the clips that are kept, by the captioner that the recipe names, and how the camera moves."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kinema.caption.captioner import Kind, captioner, described
from kinema.curation.decode import footage
from kinema.curation.operator import Device, Item, Level, Measurement, Metric, Rows, Values
from kinema.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Captions:
    """captioner: "offline", "camera" (the movement alone), "transformers" (model: folder or name), "endpoint" (url, and model: its name).

    A clip whose captioner failed has no caption and keeps why; training leaves it out.
    """

    name: ClassVar[str] = "caption"
    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "kept"
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[Metric, ...]] = (
        Metric("caption", "JSON"), Metric("caption_source"), Metric("caption_flags"), Metric("caption_error"),
        Metric("camera_movement"), Metric("camera_confidence", "0-1"),
    )  # fmt: skip
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    captioner: Kind = "offline"
    model: str = ""
    url: str = ""
    deadline_s: float = 180.0

    def __post_init__(self) -> None:
        if self.captioner in ("transformers", "endpoint") and not self.model:
            raise InputError(f"operators.caption.captioner={self.captioner!r} needs operators.caption.model")

    def run(self, item: Item, values: Values) -> Rows:
        from kinema.caption.camera import movement

        seen = footage(item)
        camera = movement(seen.small, 1 / float(np.median(np.diff(seen.times)))) if len(seen.small) > 2 else None
        found: dict[str, str | float | None] = {
            "camera_movement": camera.told if camera else "", "camera_confidence": round(camera.confidence, 3) if camera else None,
        }  # fmt: skip
        who = captioner(self.captioner, self.model, self.url)
        if who is not None:
            row = described(item.key, seen.small, who, camera.told if camera else "")
            text = json.dumps(row.caption.to_json(), ensure_ascii=False) if row.caption else None
            found |= {"caption": text, "caption_source": row.source, "caption_flags": " ".join(row.flags), "caption_error": row.error}
        return [Measurement(name, value) for name, value in found.items()]
