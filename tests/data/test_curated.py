"""A dataset that `kinema curate` wrote, as training reads it."""

import json

import pytest
from encoded import moving, tiny_encoder

from kinema.curation.cut import clip_path
from kinema.curation.table import MEASUREMENTS, TIERS, write_table
from kinema.data.encode import EncodeJob, encode_folder
from kinema.data.store import Store
from kinema.errors import InputError
from kinema.media.video import write_video
from kinema.records import Caption

CAPTION = Caption(
    short="A pattern moves.",
    dense="A pattern moves down.",
    background="",
    style="",
    shot_type="",
    lighting="",
    atmosphere="",
    camera_movement="static",
)


@pytest.fixture
def dataset(tmp_path):
    """Four clips: of the first tier, of the second, of the second but refused by a person, and of the second without a caption."""
    rows = [("a1", 1, None, CAPTION), ("b2", 2, "accepted", CAPTION), ("c3", 2, "refused", CAPTION), ("d4", 2, None, None)]
    for key, *_ in rows:
        path = clip_path(tmp_path / "set" / "clips", key * 16)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving(5, 32, 32), fps=8)
    said = [json.dumps(caption.to_json()) if caption else None for *_, caption in rows]
    write_table(tmp_path / "set" / MEASUREMENTS, [{"key": row[0], "caption": text} for row, text in zip(rows, said, strict=True)])
    write_table(tmp_path / "set" / TIERS, [{"key": key, "file": key * 16, "tier": tier, "review": word} for key, tier, word, _ in rows])
    return tmp_path / "set"


@pytest.mark.parametrize(("tier", "keys"), [("256p", {"a1", "b2"}), ("360p", {"b2"}), ("540p", set())])
def test_the_clips_of_a_tier_are_encoded_with_texts_of_their_captions(dataset, tmp_path, tier, keys):
    report = encode_folder(EncodeJob(clips=dataset, out=tmp_path / "out", tier=tier, sides=(32,), frames=(5,), batch=2), tiny_encoder())
    rows = {row["clip"]: row for row in Store(tmp_path / "out").rows()} if keys else {}
    assert rows.keys() == keys
    assert all(text.lower().startswith("a pattern moves") for row in rows.values() for text in row["texts"])
    assert [("no caption" in reason) for reason in report.failed] == ([True] if tier != "540p" else [])


def test_a_tier_that_does_not_exist_is_refused_by_name(dataset, tmp_path):
    with pytest.raises(InputError, match=r"480p.*256p, 360p"):
        encode_folder(EncodeJob(clips=dataset, out=tmp_path / "out", tier="480p"), tiny_encoder())
