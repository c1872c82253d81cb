"""What prompts ask for, sets of prompts, and texts that calibrate: read by rule, never guessed."""

import json

import pytest

from kinema.errors import InputError
from kinema.evaluate.promptsets import GENERAL, WAY_POINTS, read_set, world_set
from kinema.world.asked import actions, nouns, other_actions, read
from kinema.world.sprites import default_path, labelled_subjects


def test_a_prompt_is_taken_apart():
    asked = read("A cat and a dog walk quickly to the left in the kitchen, pixel art style, the camera zooms in.")
    assert asked.subjects == ("cat", "dog")
    assert (asked.number, asked.place, asked.style, asked.camera, asked.direction, asked.pace) == (
        2,
        "kitchen",
        "pixel art",
        "zoom in",
        "left",
        1,
    )


@pytest.mark.parametrize(
    ("prompt", "heading"),
    [
        ("a car comes in from the left", "right"),
        ("a car drives from right to left", "left"),
        ("a cat on the left and a dog on the right jump", ""),
        ("a ball sways left and right", ""),
        ("a cat, the camera pans left", ""),
        ("a bird rises up into the air", "up"),
        ("a leaf falls down from above", "down"),
    ],
)
def test_only_the_subjects_direction_is_its_direction(prompt, heading):
    assert read(prompt).direction == heading


def test_what_stands_in_a_place_is_no_subject():
    assert read("a cat in a flower field with a windmill").subjects == ("cat",)


def test_numbers_are_said_or_counted():
    assert [read(p).number for p in ("three dogs", "a dog", "a cat and a dog", "dogs")] == [3, 1, 2, 0]


def test_relations_need_two_subjects():
    assert read("a cat to the left of a dog").relation == "left"
    assert read("a cat on the left").relation == ""


def test_every_noun_belongs_to_a_subject_that_is_known():
    known = {subject.id for subject in labelled_subjects()}
    assert all(set(ids) <= known and ids for ids in nouns().values())


def test_other_actions_are_others_in_the_same_form():
    others = other_actions("bounces up and down", 5)
    assert len(set(others)) == 5
    assert {actions()[other][1] for other in others} == {actions()["bounces up and down"][1]}
    assert "bounces" not in {actions()[other][0] for other in others}


def test_the_general_set_has_sixteen_dimensions_of_eight_different_prompts():
    asks = read_set("general")
    dimensions = [ask.dimension for ask in asks]
    assert {dimensions.count(name) for name in dimensions} == {8}
    assert len(set(dimensions)) == 16
    assert len({ask.prompt for ask in asks}) == len(asks)
    assert GENERAL.suffix == ".jsonl"


def test_columns_of_any_file_are_read(tmp_path):
    (tmp_path / "a.csv").write_text(",prompt,category\n0,A cat.,animals\n1,A dog.,\n", encoding="utf-8")
    assert [(ask.prompt, ask.dimension) for ask in read_set(str(tmp_path / "a.csv"))] == [("A cat.", "animals"), ("A dog.", "")]
    way = [[0.1 * n, 0.5] for n in range(9)]
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "A cat.", "way": way, "seed": 4}) + "\n", encoding="utf-8")
    (ask,) = read_set(str(tmp_path / "b.jsonl"))
    assert ask.seed == 4
    assert ask.way[3] == pytest.approx((0.3, 0.5))
    (tmp_path / "c.jsonl").write_text(json.dumps({"prompt": "A cat.", "way": [[1, 2]]}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="9 points"):
        read_set(str(tmp_path / "c.jsonl"))


def test_a_public_benchmarks_table_loads_as_it_is(tmp_path):
    text = ',prompt\n0,"In the barn, two cats sleep."\n1,A comet crosses the sky.\n2,"A man says ""hello"", then waves."\n'
    (tmp_path / "benchmark.csv").write_text(text, encoding="utf-8")
    asks = read_set(str(tmp_path / "benchmark.csv"))
    assert [ask.prompt for ask in asks] == ["In the barn, two cats sleep.", "A comet crosses the sky.", 'A man says "hello", then waves.']


def test_the_worlds_set_carries_its_truth():
    if not default_path().exists():
        pytest.skip("no sprite pack here: kinema world build")
    asks = world_set(None, 6)
    assert len({ask.prompt for ask in asks}) == 6
    assert any(ask.way for ask in asks)
    assert all(bool(ask.way) == (ask.dimension == "place") for ask in asks)
    assert all(read(ask.prompt).place for ask in asks)
    assert all(len(ask.way) in (0, WAY_POINTS) for ask in asks)
