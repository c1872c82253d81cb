"""Rows that pass between stages: plain data that a person can open."""

from dataclasses import asdict, dataclass

CAMERA_MOVEMENTS = (
    "zoom in", "zoom out",
    "pan up", "pan down", "pan left", "pan right",
    "tilt up", "tilt down", "tilt left", "tilt right",
    "around left", "around right",
    "static", "handheld",
)  # fmt: skip
"""The 14 classes of HunyuanVideo (arXiv 2412.03603, §3.2)."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The structured caption of HunyuanVideo (arXiv 2412.03603, §3.2); every field is an English sentence or phrase."""

    short: str
    dense: str
    background: str
    style: str
    shot_type: str
    lighting: str
    atmosphere: str
    camera_movement: str  # one of CAMERA_MOVEMENTS

    def to_json(self) -> dict[str, str]:
        return asdict(self)
