"""The offline captioner: it says what it is sure of, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.caption.offline import OfflineCaptioner, fields
from kinema.caption.real_scores import FIELDS, read_labels
from kinema.caption.schema import check
from kinema.caption.sight import CHOICES, Chances, Seen, everyday, everyday_best, sure
from kinema.errors import KinemaError
from kinema.records import CAMERA_MOVEMENTS

LABELS = Path(__file__).with_name("real_clips.csv")
LIMITS = dict.fromkeys(("subject", "place", *CHOICES, "world", "filmed", "filmed.subject", "filmed.place", "filmed.style"), 0.8)
WORLD = Seen(is_world=True, subject="cat", place="beach", style="watercolour", light="golden sunset", weather="rain", shot="close-up")


def chances(chance: float, world: float) -> Chances:
    best = {"subject": "dog", "place": "moon", "style": "sketch", "light": "overcast", "weather": "snow", "shot": "wide shot"}
    if world < 0.5:
        best |= {"place": "by a lake", "style": "live action", "wider": "animal"}
    return Chances({name: (word, chance) for name, word in best.items()}, world, 120.0)


def test_nothing_below_its_threshold_is_told():
    assert sure(chances(0.79, 0.99), LIMITS) == Seen(is_world=True)
    assert sure(chances(0.81, 0.99), LIMITS).subject == "dog"
    assert sure(chances(1.0, 0.5), LIMITS) == Seen(is_world=False)  # neither the world's for certain, nor filmed
    filmed = sure(chances(0.79, 0.01), LIMITS)
    assert (filmed.subject, filmed.place, filmed.style) == ("", "", "")
    assert sure(chances(0.81, 0.01), LIMITS) == Seen(is_world=False, subject="dog", place="by a lake", style="live action", light="bright")


def test_where_the_kind_is_unsure_the_wider_word_is_told():
    best = {"subject": ("fox", 0.5), "wider": ("animal", 0.9), "place": ("by a lake", 0.1), "style": ("live action", 0.9)}
    assert sure(Chances(best, 0.0, 80.0), LIMITS).subject == "animal"


def test_every_sure_field_is_in_the_caption_and_leaves_with_its_certainty():
    whole = fields(WORLD)
    check(whole.to_json())
    words = {"subject": "cat", "place": "beach", "style": "watercolo", "light": "sunset", "weather": "rain", "shot": "close-up"}
    for name, word in words.items():
        assert word in str(whole).lower(), name
        assert word not in str(fields(replace(WORLD, **{name: ""}))).lower(), name


def test_a_clip_of_which_nothing_is_sure_gets_no_caption():
    assert fields(Seen(is_world=False)).short == ""
    assert fields(Seen(is_world=True)).dense == ""


def test_the_everyday_words_share_no_class_and_are_summed():
    numbers = [number for kind, _, _, numbers in everyday() for number in numbers]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) <= set(range(1000))
    chances = torch.zeros(1000)
    chances[[281, 285]], chances[151], chances[975] = 0.3, 0.2, 0.2
    best = everyday_best(chances)
    assert best["subject"] == ("cat", pytest.approx(0.6))
    assert best["wider"] == ("animal", pytest.approx(0.8))
    assert best["place"][0] == "by a lake"


def test_the_hand_labels_are_sixty_clips_in_known_words():
    clips = read_labels(LABELS)
    assert len(clips) >= 60
    assert all(0.8 < clip.end - clip.start < 4 for clip in clips)
    assert all(set(clip.truth["camera_movement"]) <= set(CAMERA_MOVEMENTS) for clip in clips)
    assert all(any(clip.truth[name] for name in FIELDS) for clip in clips)


def test_what_is_seen_of_rendered_clips_is_mostly_right():
    from kinema.world.render import render
    from kinema.world.spec import sample_spec
    from kinema.world.sprites import SpritePack

    try:
        pack, who = SpritePack.open(), OfflineCaptioner()
        who.eyes.recogniser  # noqa: B018  # loads it
    except KinemaError as error:
        pytest.skip(f"needs the sprites and EfficientNet's weights: {error}")
    told = right = 0
    for seed in range(4):
        spec = sample_spec(seed, pack.subjects, 5, 128, 128, "heldout")
        seen = who.eyes.see(render(spec, pack).frames)
        assert seen.is_world
        said = {name: getattr(seen, name) for name in ("place", *CHOICES) if getattr(seen, name)}
        told, right = told + len(said), right + sum(getattr(spec, name) == word for name, word in said.items())
    assert right >= 0.8 * told > 0


def test_a_plain_grey_clip_shows_no_subject():
    who = OfflineCaptioner()
    try:
        seen = who.eyes.see(torch.full((5, 3, 128, 128), 128, dtype=torch.uint8))
    except KinemaError as error:
        pytest.skip(f"needs EfficientNet's weights: {error}")
    assert seen.subject == ""
