"""Specs: drawn from a seed alone, in the shares that training needs, with the held-out pairs kept apart."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from kinema.errors import InputError
from kinema.records import CAMERA_MOVEMENTS
from kinema.world.motion import PATHS
from kinema.world.scenes import LIGHTS, PLACES, WEATHERS
from kinema.world.spec import ClipSpec, held_camera, held_place, is_held_out, sample_spec
from kinema.world.sprites import Subject, labelled_subjects
from kinema.world.style import STYLES

STILL = tuple(Subject(id=f"still-{n}", name=f"thing {n}", noun=f"thing {n}") for n in range(50))
SUBJECTS = (*labelled_subjects(), *STILL)
SPECS = [sample_spec(seed, SUBJECTS) for seed in range(3000)]


def share(kept) -> float:
    return sum(map(kept, SPECS)) / len(SPECS)


def test_a_seed_gives_one_spec_on_every_machine():
    code = (
        "import json; from kinema.world.spec import sample_spec; from kinema.world.sprites import labelled_subjects as all_;"
        "subjects = tuple(all_()); draws = [(seed, split) for seed in range(20) for split in ('train', 'heldout')];"
        "print(json.dumps([sample_spec(seed, subjects, split=split).to_json() for seed, split in draws]))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": n}, capture_output=True, check=True).stdout for n in "12"]
    assert runs[0] == runs[1]
    assert len({json.dumps(row | {"seed": 0}) for row in json.loads(runs[0])}) > 35


def test_a_spec_survives_json():
    for spec in SPECS[:50]:
        assert ClipSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_training_never_sees_a_held_out_pair():
    assert not any(map(is_held_out, SPECS))


def test_held_out_clips_always_hold_one():
    held = [sample_spec(seed, SUBJECTS, split="heldout") for seed in range(200)]
    assert all(map(is_held_out, held))
    assert len({spec.subjects for spec in held}) > 150


def test_about_as_many_pairs_are_held_out_as_said():
    places = [held_place(subject.id, place) for subject in SUBJECTS for place in PLACES]
    cameras = [held_camera(subject.id, camera) for subject in SUBJECTS for camera in CAMERA_MOVEMENTS if camera != "static"]
    assert sum(places) / len(places) == pytest.approx(0.04, abs=0.005)
    assert sum(cameras) / len(cameras) == pytest.approx(0.03, abs=0.005)
    assert not any(held_camera(subject.id, "static") for subject in SUBJECTS)


def test_shares_are_those_of_the_recipe():
    still = {subject.id for subject in STILL}
    assert share(lambda spec: spec.subjects[0] in still) == pytest.approx(0.08, abs=0.02)
    assert share(lambda spec: len(spec.subjects) == 2) == pytest.approx(0.15, abs=0.03)
    assert share(lambda spec: spec.style == "3D render") == pytest.approx(0.6, abs=0.03)
    assert share(lambda spec: spec.camera == "static") == pytest.approx(0.46, abs=0.03)
    assert share(lambda spec: spec.place.startswith("plain ")) == pytest.approx(0.12, abs=0.02)
    assert share(lambda spec: PATHS[spec.path].heading in ("left", "right")) > 0.25


def test_everything_in_the_tables_is_drawn():
    for field, table in (("place", PLACES), ("path", PATHS), ("style", STYLES), ("camera", CAMERA_MOVEMENTS)):
        drawn = Counter(getattr(spec, field) for spec in SPECS)
        assert set(drawn) == set(table)
        assert min(drawn.values()) >= 5


def test_light_and_weather_suit_the_place():
    assert all(spec.light in PLACES[spec.place].lights and spec.light in LIGHTS for spec in SPECS)
    assert all(spec.weather in PLACES[spec.place].weathers and spec.weather in WEATHERS for spec in SPECS)


def test_animated_subjects_are_drawn_alike():
    drawn = Counter(spec.subjects[0] for spec in SPECS)
    assert sum(subject.id in drawn for subject in labelled_subjects()) > 0.93 * 734
    assert max(drawn[subject.id] for subject in labelled_subjects()) < 20


def test_what_is_not_in_the_world_is_refused():
    with pytest.raises(InputError, match=r"place='attic'.*'grass'"):
        replace(SPECS[0], place="attic")
    with pytest.raises(InputError, match="one or two"):
        replace(SPECS[0], subjects=())
