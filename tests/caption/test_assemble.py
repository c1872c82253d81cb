"""Training texts: a function of key and epoch, made of the caption's own words."""

from dataclasses import replace

import pytest

from kinema.caption.assemble import text_of
from kinema.errors import InputError
from kinema.records import Caption

WHOLE = Caption(
    short="A heron stands in a river.",
    dense="A grey heron stands in a shallow river and looks into the water.",
    background="Reeds and trees.",
    style="Documentary footage.",
    shot_type="Wide shot.",
    lighting="Soft morning light.",
    atmosphere="Calm.",
    camera_movement="zoom in",
)
EMPTY = Caption(**dict.fromkeys(WHOLE.to_json(), ""))


def draws(caption, count=300):
    return [text_of(caption, "clip", epoch) for epoch in range(count)]


def test_the_same_clip_and_epoch_give_the_same_text_and_others_differ():
    assert draws(WHOLE) == draws(WHOLE)
    assert len(set(draws(WHOLE))) > 100
    assert text_of(WHOLE, "clip", 3) != text_of(WHOLE, "other", 3)


def test_every_field_is_said_now_and_then_in_several_orders():
    told = [text.lower() for text in draws(WHOLE)]
    for words in ("heron", "reeds", "documentary", "wide shot", "morning", "calm", "zoom"):
        assert any(words in text for text in told)
    both = [text for text in told if "documentary" in text and "wide shot" in text]
    assert {text.index("documentary") < text.index("wide shot") for text in both} == {True, False}


def test_every_text_says_what_happens():
    assert all("heron stands" in text.lower() for text in draws(WHOLE))


def test_an_empty_field_is_never_said_and_leaves_no_gap():
    short = replace(EMPTY, short=WHOLE.short)
    assert {text.lower().rstrip(".") for text in draws(short, 50)} == {"a heron stands in a river"}
    for text in draws(replace(WHOLE, camera_movement="", style=""), 50):
        assert "camera" not in text
        assert ".." not in text
        assert ", ," not in text


def test_either_of_short_and_dense_will_do_but_one_must_be_there():
    assert text_of(replace(EMPTY, dense=WHOLE.dense), "clip", 0)
    with pytest.raises(InputError, match="caption the clip again"):
        text_of(EMPTY, "clip", 0)
