"""The clips of a tier of a dataset that `kinema curate` wrote, with training texts drawn from their captions."""

import json
from pathlib import Path

from kinema.caption.assemble import text_of
from kinema.caption.schema import check
from kinema.curation.cut import clip_path
from kinema.curation.funnel import CLIPS
from kinema.curation.table import MEASUREMENTS, TIERS, read_table, records_of
from kinema.curation.tiers import TIERS as NAMES
from kinema.data.clips import Clip, VideoFile
from kinema.errors import InputError

TEXTS = 4  # drawn of each caption


def curated_clips(dataset: Path, tier: str) -> list[Clip | InputError]:
    """Every clip that reached the tier and no person refused, by key; an error in place of each without a caption.

    Raises InputError for an unknown tier.
    """
    if tier not in NAMES:
        raise InputError(f"tier={tier!r} is unknown: use one of {', '.join(NAMES)}")
    captions = read_table(dataset / MEASUREMENTS)
    said = dict(zip(captions["key"], captions.get("caption") or [None] * len(captions["key"]), strict=True))
    reached = [row for row in records_of(read_table(dataset / TIERS)) if row["tier"] > NAMES.index(tier) and row["review"] != "refused"]
    return [clip_of(dataset, row["key"], row["file"], said[row["key"]]) for row in reached]


def clip_of(dataset: Path, key: str, file: str, caption: str | None) -> Clip | InputError:
    if caption is None:
        return InputError(f"{file} has no caption: leave `caption` out of the recipe's skip, or see its caption_error in {MEASUREMENTS}")
    texts = tuple(text_of(check(json.loads(caption)), key, epoch) for epoch in range(TEXTS))
    return VideoFile(key, dataset.name, tuple(dict.fromkeys(texts)), clip_path(dataset / CLIPS, file))
