"""Structured captions: read, mended, refused, and kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.caption.schema import FIELDS, JSON_SCHEMA, MOST_REPAIRS, CaptionRow, mended, parse, read_answer
from kinema.errors import InputError
from kinema.records import CAMERA_MOVEMENTS

GOOD = {name: f"Some {name}." for name in FIELDS} | {"camera_movement": "pan left"}


def test_a_valid_answer_needs_no_repair():
    reading = read_answer(json.dumps(GOOD))
    assert (reading.repairs, reading.error) == (0, "")
    assert reading.caption.to_json() == GOOD


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: f"```json\n{text}\n```",
        lambda text: f"Sure! Here is the caption:\n{text}\nAnything else?",
        lambda text: f"<think>Is it {{a}} dog?</think>{text}",
        lambda text: text[:-1] + ",}",
        lambda text: text.replace("Some dense.", "Some\ndense."),
    ],
)
def test_what_models_put_around_json_is_mended_without_asking(wrap):
    reading = read_answer(wrap(json.dumps(GOOD)))
    assert reading.repairs == 1
    assert reading.caption.short == GOOD["short"]


def test_two_repairs_and_no_more():
    asked = []

    def ask(answer, problem):
        asked.append(problem)
        return "still no JSON"

    reading = read_answer("no JSON", ask)
    assert reading.caption is None
    assert reading.repairs == len(asked) == MOST_REPAIRS
    assert "not JSON" in reading.error


def test_the_one_who_is_asked_hears_what_is_wrong():
    heard = []

    def ask(answer, problem):
        heard.append(problem)
        return json.dumps(GOOD)

    reading = read_answer(json.dumps(GOOD | {"camera_movement": "spiral"}), ask)
    assert "spiral" in heard[0]
    assert reading.caption is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"short": ""}, "short is empty"),
        ({"style": 3}, "style=3"),
        ({"mood": "x"}, "mood"),
        ({"camera_movement": "dolly"}, "dolly"),
    ],
)
def test_an_error_names_the_field(change, told):
    with pytest.raises(InputError, match=told):
        parse(json.dumps(GOOD | change))


def test_a_missing_field_is_named():
    with pytest.raises(InputError, match="lighting"):
        parse(json.dumps({name: text for name, text in GOOD.items() if name != "lighting"}))


def test_what_is_not_known_may_be_left_empty():
    assert parse(json.dumps(GOOD | {"camera_movement": "", "dense": ""})).camera_movement == ""


@given(st.text())
def test_mending_twice_is_mending_once_and_nothing_crashes(text):
    assert mended(mended(text)) == mended(text) or read_answer(text).caption is None
    assert read_answer(text).repairs <= MOST_REPAIRS


def test_rows_come_back_as_they_were():
    row = CaptionRow(key="k", caption=parse(json.dumps(GOOD)), source="person", quality=("reviewed",), flags=("too_short",))
    assert CaptionRow.from_json(json.loads(json.dumps(row.to_json()))) == row
    failed = CaptionRow(key="k", caption=None, source="endpoint:x", repairs=2, error="no JSON")
    assert CaptionRow.from_json(json.loads(json.dumps(failed.to_json()))) == failed
    with pytest.raises(InputError, match="no row"):
        CaptionRow.from_json({"caption": None})


def test_the_json_schema_asks_for_every_field_and_allows_the_14_movements_or_none():
    assert JSON_SCHEMA["required"] == list(GOOD)
    assert set(JSON_SCHEMA["properties"]["camera_movement"]["enum"]) == {"", *CAMERA_MOVEMENTS}
