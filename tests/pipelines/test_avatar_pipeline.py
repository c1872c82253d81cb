"""Pictures that speak: any length in windows that join, silence or noise refused in words, faces chosen, streams as long as the sound."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kinema.conditioning.audio import AudioConfig
from kinema.conditioning.avatar import Avatar, AvatarConfig, save_avatar
from kinema.conditioning.draft import DraftConfig
from kinema.conditioning.whisper import WhisperEncoder
from kinema.dit.lora import Lora
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.media.audio import RATE
from kinema.media.face import Box, find_faces
from kinema.pipelines import avatar as pipeline
from kinema.pipelines.avatar import KEPT, Acting, Portrait, TalkingFace, choose_face, listening, part, portrait
from kinema.pipelines.placement import Placement
from kinema.pipelines.store import ModelFiles
from kinema.pipelines.video import VideoPipeline
from kinema.presets import tiny
from kinema.vae.model import CausalVAE
from kinema.world.faces import draw_faces, draw_look
from kinema.world.speech import perform, sample_speech

needs_faces = pytest.mark.skipif(
    find_spec("mediapipe") is None or find_spec("ai_edge_litert") is None, reason="needs the face networks: pip install 'kinema[avatar]'"
)
ACTING = Acting(steps=2, window=13, guidance=1.5)


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """Tiny and random, but for the language model."""
    folder, config = tmp_path_factory.mktemp("tiny"), tiny()
    torch.manual_seed(0)
    dit, vae = DiT(config.dit), CausalVAE(config.vae)
    dit.init_weights()
    save_file(dit.state_dict(), folder / "dit.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in vae.state_dict().items()}, folder / "vae.safetensors")
    size = AvatarConfig(
        width=32,
        latent_channels=16,
        audio=AudioConfig(blocks=(0, 1), squeeze=4, width=8),
        draft=DraftConfig(width=16, layers=1, told=8),
        hidden=8,
    )
    save_avatar(folder / "avatar.safetensors", size, Avatar(size).state_dict(), Lora({}), {})
    files = ModelFiles(folder / "dit.safetensors", folder / "vae.safetensors")
    return TalkingFace(VideoPipeline(config, files, Placement.choose("cpu", "fp32")), folder / "avatar.safetensors")


@pytest.fixture(autouse=True)
def small_ears(monkeypatch):
    torch.manual_seed(0)
    encoder = WhisperEncoder().eval().requires_grad_(False)
    torch.nn.init.zeros_(encoder.positions)
    monkeypatch.setattr(pipeline, "load_whisper", lambda: encoder)


def a_face(side=64, seed=7):
    spec = replace(sample_speech(seed, frames=1, height=side, width=side), text="")
    return torch.from_numpy(draw_faces(spec.look, perform(spec, ()), side, side)[0])


PORTRAIT = Portrait(a_face(), Box(0.2, 0.2, 0.8, 0.9), True)


@pytest.mark.parametrize("way", ["speak", "stream"])
@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.5])
def test_the_video_lasts_as_long_as_the_sound(talking, way, seconds):
    parts = list(getattr(talking, way)(PORTRAIT, torch.randn(round(seconds * RATE)), ACTING))
    assert sum(map(len, parts)) == max(round(seconds * 12), 1)
    assert all(len(frames) <= ACTING.window for frames in parts)
    assert all(len(frames) <= ACTING.window - KEPT for frames in parts[1:])


def test_the_same_seed_gives_the_same_frames_and_another_does_not(talking):
    sound = torch.randn(RATE)
    first, again, other = (torch.cat(list(talking.speak(PORTRAIT, sound, replace(ACTING, seed=seed)))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_stream_never_needs_what_has_not_arrived(talking):
    sound = torch.randn(3 * RATE)
    changed = sound.clone()
    changed[2 * RATE :] += 1
    first, second = (next(talking.stream(PORTRAIT, each, ACTING)) for each in (sound, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize("seconds", [0, 601])
def test_no_speech_and_an_hour_of_it_are_refused(talking, seconds):
    with pytest.raises(InputError, match="speech of"):
        next(talking.speak(PORTRAIT, torch.zeros(seconds * RATE), ACTING))


@pytest.mark.parametrize(
    "wrong", [{"window": 5}, {"guidance": 0.0}, {"steps": 0}, {"begin": 0.0}, {"expression": "happy", "face_track": torch.zeros(3, 6)}]
)
def test_acting_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        Acting(**wrong)


def test_parts_that_do_not_stay_are_refused(talking):
    away = replace(talking.video.placement, offload="blocks")
    with pytest.raises(InputError, match="leave --offload out"):
        TalkingFace(VideoPipeline(talking.video.config, talking.video.files, away))


def test_a_face_is_chosen_from_the_left_or_by_its_size(caplog):
    left, right = Box(0.1, 0.1, 0.3, 0.3), Box(0.5, 0.1, 0.9, 0.5)
    assert choose_face([left, right], 1) == left
    assert choose_face([left, right], None) == right
    assert "--face N" in caplog.text
    assert choose_face([], None) is None
    for number in (0, 3):
        with pytest.raises(InputError, match="2 found"):
            choose_face([left, right], number)


def test_more_than_the_face_listens_but_not_all():
    heard = listening(Box(0.4, 0.4, 0.6, 0.6), 3, 8)
    assert heard.shape == (1, 3, 8, 8)
    assert 0 < heard.mean() < 0.5
    assert heard[0, 0, 4, 4] == 1


def test_a_track_goes_on_with_its_last_row():
    assert part(torch.tensor([[1.0], [2.0]]), 1, 3)[:, 0].tolist() == [2, 2, 2]


@needs_faces
def test_a_drawn_face_is_found_and_fills_the_cut_picture():
    wide = torch.full((200, 400, 3), 128, dtype=torch.uint8)
    wide[40:168, 250:378] = a_face(128)
    (box,) = find_faces(wide)
    assert 250 / 400 < (box.x0 + box.x1) / 2 < 378 / 400
    cut = portrait(wide, 64)
    assert cut.found
    assert cut.frame.shape == (64, 64, 3)
    assert cut.face.x1 - cut.face.x0 > 0.4


@needs_faces
def test_without_a_face_the_whole_picture_is_taken_and_this_is_said(caplog):
    cut = portrait(torch.full((100, 100, 3), 90, dtype=torch.uint8), 64)
    assert not cut.found
    assert "no face" in caplog.text


def test_a_tiny_picture_is_refused():
    with pytest.raises(InputError, match="too small"):
        portrait(torch.zeros(10, 10, 3, dtype=torch.uint8), 64)


@needs_faces
def test_two_faces_are_told_apart():
    both = torch.full((160, 320, 3), 200, dtype=torch.uint8)
    both[16:144, 16:144], both[16:144, 176:304] = a_face(128, 7), a_face(128, 16)
    assert len(find_faces(both)) == 2
    first, second = (portrait(both, 64, number).frame for number in (1, 2))
    assert not torch.equal(first, second)


def test_looks_differ():
    looks = {draw_look(np.random.default_rng(seed)).words for seed in range(50)}
    assert len(looks) > 40
