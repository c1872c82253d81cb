"""Shares, intervals, files and pictures of an evaluation."""

import csv
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kinema.evaluate.scores import Answer, Share, shares, wilson, write_csv, write_json
from kinema.evaluate.sheet import strip, write_sheets


def answer(rank: int = 1, place: bool = True, wanted: str = "", seen: str = "") -> Answer:
    return Answer("1f408", "1f408" if rank == 1 else "1f415", rank, "grass", "grass" if place else "sea", wanted, seen)


@given(st.integers(0, 300), st.integers(1, 300))
def test_an_interval_holds_its_share_and_stays_within_zero_and_one(hits, more):
    count = hits + more
    low, high = wilson(hits, count)
    assert 0 <= low <= hits / count + 1e-12
    assert hits / count - 1e-12 <= high <= 1


def test_an_interval_narrows_as_more_is_asked():
    widths = [high - low for low, high in (wilson(n // 2, n) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_known_interval():
    assert wilson(170, 200) == pytest.approx((0.794, 0.893), abs=1e-3)  # the textbook formula worked by hand


def test_only_what_was_asked_counts():
    found = shares([answer(1), answer(5, place=False, wanted="left", seen="left"), answer(6, wanted="up", seen="none")])
    assert [(share.hits, share.count) for share in found.values()] == [(1, 3), (2, 3), (2, 3), (1, 2)]
    assert str(Share.of([])) == "not asked"


def test_files_are_the_same_for_the_same_answers(tmp_path):
    ours, theirs = [answer(3, wanted="left", seen="right")], [answer(1, wanted="left", seen="left")]
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", {"generated": shares(ours), "real": shares(theirs)}, 33.3, {"model": "mini"})
        write_csv(tmp_path / f"{name}.csv", ["A cat, walking."], ours, theirs)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["scores"]["subject, among the first 5"]["real"]["value"] == 1
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert row["prompt"] == "A cat, walking."
    assert (row["direction_seen"], row["real_direction_seen"]) == ("right", "left")


def test_sheets_hold_every_video(tmp_path):
    video = torch.randint(0, 255, (9, 64, 64, 3), dtype=torch.uint8)
    strips = [strip("A cat walks on the grass " * 8, video)] * 41
    first, second = write_sheets(tmp_path, "sheet", strips)
    with Image.open(first) as whole, Image.open(second) as rest:
        assert whole.height > rest.height > strips[0].height
