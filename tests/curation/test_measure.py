"""The operators on real files: they give what they promise; networks that come in packages see what they should."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from kinema.curation.decode import footage
from kinema.curation.filters.aesthetic import LINEAR_HEAD, LAIONPredictor
from kinema.curation.filters.safety import nsfw
from kinema.curation.filters.text import (
    Box,
    Reading,
    counts_alone,
    covered,
    legible,
    letters_of,
    read_text,
    subtitle_top,
    text_area,
    trusted,
)
from kinema.curation.filters.watermark import maps, watermarks
from kinema.curation.marks import Mark
from kinema.curation.operator import Item, Measurement, Operator, Vector
from kinema.curation.recipe import OPERATORS
from kinema.curation.speed import drawn, operators
from kinema.errors import WeightsError
from kinema.media.video import write_video


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> Item:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, drawn()[:36, ::2, ::2].copy(), 24)
    return Item("clip", path, "clip", is_cut=True)


@pytest.mark.parametrize("operator", operators(), ids=lambda operator: operator.name)
def test_an_operator_gives_the_values_it_promises(operator: Operator, item: Item):
    rows = operator.run(item, {})
    assert {row.name for row in rows if isinstance(row, Measurement)} == {metric.name for metric in operator.gives}
    assert all(row.value is not None for row in rows if isinstance(row, Measurement))
    assert operator.run(item, {}) == rows


def test_the_embedding_has_length_one(item: Item):
    (row,) = OPERATORS.embedding.run(item, {})
    assert isinstance(row, Vector)
    assert np.linalg.norm(row.values) == pytest.approx(1, abs=1e-4)


def written(text: str, top: int, size: int = 24) -> np.ndarray:
    """A line of white on a dim scene, 360 x 640."""
    picture = Image.fromarray(drawn()[0] // 2)
    ImageDraw.Draw(picture).text((60, top), text, font=ImageFont.load_default(size), fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(picture)


def test_text_is_read_where_it_stands():
    ((box, letters, alone),) = read_text(written("Where did you leave the keys?", 310))
    assert letters == "wheredidyouleavethekeys"
    assert alone
    assert box.left == pytest.approx(60 / 640, abs=0.02)
    assert box.top == pytest.approx(312 / 360, abs=0.03)
    assert 0.01 < covered([box]) < 0.08
    assert read_text(drawn()[0]) == []


def test_short_readings_must_be_certain():
    assert legible("keys", 0.7, 0.9)
    assert legible("OK", 0.95, 0.1)
    assert not legible("AF", 0.8, 0.1)
    assert not legible("HA", 0.95, 0.5)  # as large as a house: a shape
    assert not legible(letters_of("!?.,"), 1.0, 0.1)


def test_what_is_shorter_than_a_word_must_be_read_twice():
    here, there = Box(0.1, 0.1, 0.2, 0.2), Box(0.5, 0.5, 0.6, 0.6)
    assert trusted([[Reading(here, "60")], [], [], []]) == [[], [], [], []]
    assert trusted([[Reading(here, "60")], [Reading(there, "60")], [], []]) == [[here], [there], [], []]  # a sign that passes
    assert trusted([[Reading(here, "60"), Reading(there, "60")], []]) == [[], []]  # twice in one frame is still one frame
    assert trusted([[Reading(here, "keys", alone=True)], []]) == [[here], []]
    assert counts_alone("keys", 0.7, 0.2)
    assert counts_alone("EXIT", 0.95, 0.9)
    assert not counts_alone("HOCH", 0.7, 0.4)  # as tall as a row of houses


def test_a_subtitle_is_low_and_stays():
    low, high = Box(0.2, 0.85, 0.8, 0.92), Box(0.2, 0.1, 0.8, 0.2)
    other = Box(0.3, 0.855, 0.7, 0.925)  # the next line of words, in the same place
    assert subtitle_top([[low], [other], [low], [other]]) == pytest.approx(0.85)
    assert subtitle_top([[low], [], [], []]) is None
    assert subtitle_top([[high]] * 4) is None
    assert text_area([[low], []]) == pytest.approx(low.area / 2, rel=0.05)
    assert text_area([]) == 0


def test_overlapping_boxes_are_counted_once():
    one = Box(0.1, 0.1, 0.5, 0.5)
    assert covered([one, one, Box(0.2, 0.2, 0.3, 0.3)]) == pytest.approx(one.area, rel=0.02)


def test_a_landscape_is_safe():
    assert nsfw(drawn()[:8]) < 0.2


def test_the_shipped_detector_sees_a_plain_mark_and_where_it_is(item: Item):
    frames = footage(item).small
    height, width = frames.shape[1:3]
    picture = np.ones((24, 60, 4), np.float32)
    picture[6:18:4, 8:-8, :3] = 0.1
    top, left = 8, width - 70
    found = watermarks(maps(Mark(picture, top, left).over(frames)))
    assert found[0].score > 0.5
    assert (found[0].left + found[0].right) / 2 == pytest.approx((left + 30) / width, abs=0.05)
    assert (found[0].top + found[0].bottom) / 2 == pytest.approx((top + 12) / height, abs=0.05)


def test_the_published_aesthetic_predictor_is_read_from_a_folder(tmp_path: Path):
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    with pytest.raises(WeightsError, match="linear"):
        LAIONPredictor(tmp_path)
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=16
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    torch.save({"weight": torch.zeros(1, 16), "bias": torch.full((1,), 5.5)}, tmp_path / LINEAR_HEAD)
    assert LAIONPredictor(tmp_path).score(drawn()[:8]) == pytest.approx(5.5)
