"""Talking faces: the same seed gives the same clip, and the truth is what the picture shows."""

import json
from dataclasses import asdict, replace
from importlib.util import find_spec

import numpy as np
import pytest

from kinema.errors import InputError
from kinema.world.faces import EXPRESSIONS, Performance, boxes, draw_faces, draw_look
from kinema.world.speech import blinks, is_held_out, perform, render_speech, sample_speech
from kinema.world.voice import Phoneme, mouth_track, the_voice

needs_voice = pytest.mark.skipif(find_spec("hibari") is None, reason="needs the voice: pip install 'kinema[avatar]'")


def still(opening, frames=1):
    zeros = np.zeros(frames)
    neutral = np.eye(len(EXPRESSIONS))[:1].repeat(frames, 0)
    return Performance(
        opening=zeros + opening,
        width=zeros,
        blink=zeros,
        expression=neutral,
        yaw=zeros,
        pitch=zeros,
        roll=zeros,
        center=np.zeros((frames, 2)),
        radius=0.9,
    )


def test_the_wider_the_mouth_opens_the_more_of_its_box_changes():
    look = draw_look(np.random.default_rng(3))
    acted = still(0.0)
    x0, y0, x1, y1 = boxes(acted, look, 64, 64)[1][0].round().astype(int)
    shut, *opened = (draw_faces(look, still(opening), 64, 64)[0].astype(float) for opening in (0.0, 0.25, 0.5, 1.0))
    inside = [np.abs(face - shut)[y0:y1, x0:x1].sum() for face in opened]
    everywhere = [np.abs(face - shut).sum() for face in opened]
    assert inside[0] < inside[1] < inside[2]
    assert all(part > 0.9 * whole for part, whole in zip(inside, everywhere, strict=True))


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if name != "neutral"])
def test_every_expression_can_be_seen(name):
    look = draw_look(np.random.default_rng(4))
    shown = replace(still(0.0), expression=np.eye(len(EXPRESSIONS))[[list(EXPRESSIONS).index(name)]])
    assert np.abs(draw_faces(look, shown, 64, 64).astype(float) - draw_faces(look, still(0.0), 64, 64)).mean() > 0.5


def test_a_mouth_is_shut_for_lips_and_silence_and_open_for_vowels():
    said = (Phoneme("ɑ", 0.5, 1.0), Phoneme("m", 1.0, 1.5), Phoneme("ɑ", 1.5, 2.0))
    opening, _ = mouth_track(said, 3.0, 12)
    assert len(opening) == 36
    assert opening[8] > 0.8
    assert opening[21] > 0.8
    assert max(opening[14], opening[2], opening[30]) < 0.1
    assert 0 <= opening.min() <= opening.max() <= 1


def test_the_first_frame_has_open_eyes():
    assert all(blinks(np.random.default_rng(seed), 200, 12)[0] == 0 for seed in range(50))


def test_held_out_sentences_and_looks_are_never_trained_on():
    trained, held = ([sample_speech(seed, split) for seed in range(40)] for split in ("train", "heldout"))
    assert not any(is_held_out(spec.text) for spec in trained if spec.text)
    assert all(is_held_out(spec.text) for spec in held if spec.text)


@needs_voice
def test_a_seed_gives_one_clip_and_its_truth_fits_frame_by_frame():
    spec = sample_speech(7, frames=17)
    first, second = render_speech(spec), render_speech(spec)
    assert (first.frames == second.frames).all()
    assert (first.sound == second.sound).all()
    assert len(first.sound) == round(17 / 12 * 24_000)
    json.dumps(first.truth)
    tracks = ("opening", "width", "blink", "expression", "yaw", "pitch", "roll", "x", "y", "face", "mouth")
    assert {len(first.truth[name]) for name in tracks} == {17}
    assert first.truth["spec"] == asdict(spec)


@needs_voice
def test_phonemes_lie_in_order_within_the_sound_and_a_faster_voice_is_shorter():
    slow, fast = (the_voice().speak("Hello there, old friend. How are you?", pace=pace, seed=1) for pace in (0.8, 1.3))
    assert len(fast.sound) < 0.8 * len(slow.sound)
    ends = [phoneme.end for phoneme in slow.phonemes]
    assert ends == sorted(ends)
    assert ends[-1] <= len(slow.sound) / 24_000


@needs_voice
def test_a_higher_voice_says_the_same_at_the_same_time():
    low, high = (the_voice().speak("All good things come to those who wait.", pitch=pitch, seed=1) for pitch in (0.7, 1.4))
    assert low.phonemes == high.phonemes
    assert centroid(high.sound) > centroid(low.sound)


def centroid(sound):
    power = np.abs(np.fft.rfft(sound))[:1000] ** 2  # below some 700 Hz: where the pitch lies
    return (power * np.arange(1000)).sum() / power.sum()


@needs_voice
def test_what_cannot_be_said_is_refused():
    for wrong in ({"text": "  "}, {"text": "Hi.", "pace": 9.0}, {"text": "Hi.", "pitch": 0.1}):
        with pytest.raises(InputError):
            the_voice().speak(**wrong)


def test_silence_needs_no_mouth():
    spec = replace(sample_speech(1), text="")
    assert perform(spec, ()).opening.max() == 0
