"""An avatar's doors: fresh, they change no bit; each of them, once it has learned, changes the output, and only where it may."""

import json
from dataclasses import replace

import pytest
import torch

from kinema.conditioning.audio import WINDOW, AudioConfig, windows
from kinema.conditioning.avatar import Avatar, AvatarConfig, Drive, load_avatar, save_avatar
from kinema.conditioning.draft import DraftConfig
from kinema.conditioning.expression import NAMES, named_track
from kinema.conditioning.pose import read_pose, scaled
from kinema.conditioning.track import grouped
from kinema.dit.lora import Lora, Pair
from kinema.dit.model import DiT
from kinema.errors import InputError, WeightsError
from kinema.presets import tiny

CONFIG = AvatarConfig(
    width=32,
    latent_channels=16,
    audio=AudioConfig(blocks=(0, 1), squeeze=4, width=8),
    draft=DraftConfig(width=16, layers=1, told=8),
    hidden=8,
)
FRAMES, LATENTS = 9, 3


def a_drive(seed=0):
    torch.manual_seed(seed)
    return Drive(
        heard=torch.randn(1, 40, 5, 384),
        expression=torch.rand(1, FRAMES, 6),
        has_expression=torch.tensor([True]),
        pose=torch.randn(1, FRAMES, 5),
        has_pose=torch.tensor([True]),
        reference=torch.randn(1, 16, 8, 8),
        mask=torch.ones(1, LATENTS, 4, 4),
    )


def outputs(avatar, drive):
    torch.manual_seed(1)
    dit = DiT(tiny().dit).eval()
    inputs = torch.randn(1, 16, LATENTS, 8, 8), torch.tensor([500.0]), torch.randn(1, 5, 576), None, torch.randn(1, 576)
    with torch.inference_mode():
        return dit(*inputs, added=None if avatar is None else avatar(drive))


def trained(seed=2):
    torch.manual_seed(seed)
    avatar = Avatar(CONFIG).eval()
    for parameter in avatar.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return avatar


def test_a_fresh_avatar_changes_no_bit():
    assert torch.equal(outputs(Avatar(CONFIG), a_drive()), outputs(None, None))


def test_a_fresh_sketch_repeats_the_picture():
    drive = a_drive()
    sketch = Avatar(CONFIG).sketch(drive)
    assert torch.equal(sketch, drive.reference[:, :, None].expand_as(sketch))


@pytest.mark.parametrize("field", ["heard", "expression", "pose", "reference"])
def test_every_door_matters_once_it_has_learned(field):
    avatar, drive = trained(), a_drive()
    other = replace(drive, **{field: getattr(a_drive(5), field)})
    assert not torch.allclose(outputs(avatar, drive), outputs(avatar, other), atol=1e-4)


@pytest.mark.parametrize(("flag", "field"), [("has_expression", "expression"), ("has_pose", "pose")])
def test_a_track_that_is_not_there_is_not_read(flag, field):
    avatar, drive = trained(), replace(a_drive(), **{flag: torch.tensor([False])})
    other = replace(drive, **{field: getattr(a_drive(5), field)})
    assert torch.equal(outputs(avatar, drive), outputs(avatar, other))


def test_only_the_face_listens():
    avatar, drive = trained(), a_drive()
    mask = torch.zeros(1, LATENTS, 4, 4)
    mask[:, :, 1:3, 1:3] = 1
    added = avatar(replace(drive, mask=mask)).cross[0](torch.randn(1, LATENTS * 16, 32))
    heard = added.abs().sum(-1).reshape(LATENTS, 4, 4) > 0
    assert torch.equal(heard, mask[0] > 0)


def test_a_latent_hears_its_own_frames_alone():
    avatar, drive = trained(), a_drive()
    later = drive.heard.clone()
    later[:, 35:] += 1  # 0.7 s on, the last of nine frames and the reach of its window apart
    first, second = (avatar.voice(replace(drive, heard=heard)) for heard in (drive.heard, later))
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.equal(first[:, 2], second[:, 2])


def test_a_window_lies_around_its_frame_and_is_empty_beyond_the_sound():
    states = torch.arange(1.0, 101.0)[None, :, None]
    found = windows(states, 30, 12)[0, :, :, 0]
    assert found.shape == (30, WINDOW)
    assert found[12, WINDOW // 2] == pytest.approx(12.5 / 12 * 50 + 1, abs=1)
    assert (found[0, :3] == 0).all()
    assert (found[-1] == 0).all()


def test_windows_of_a_later_part_are_those_of_the_whole():
    states = torch.randn(1, 200, 3)
    assert torch.equal(windows(states, 20, 12, first=10), windows(states, 30, 12)[:, 10:])


def test_frames_are_grouped_as_the_autoencoder_groups_them():
    assert grouped(torch.arange(9.0)[None]).tolist() == [[[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]]


def test_what_is_saved_is_loaded_and_strangers_are_refused(tmp_path):
    avatar = trained()
    lora = Lora({"single_blocks.0.linear2": Pair(torch.randn(2, 6), torch.randn(4, 2), 2.0)})
    save_avatar(tmp_path / "a.safetensors", CONFIG, avatar.state_dict(), lora, {"base_sha256": "abc"})
    found = load_avatar(tmp_path / "a.safetensors")
    assert found.avatar.config == CONFIG
    assert found.about["base_sha256"] == "abc"
    assert found.lora.pairs["single_blocks.0.linear2"].alpha == 2.0
    for name, tensor in avatar.state_dict().items():
        torch.testing.assert_close(found.avatar.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)
    (tmp_path / "b.safetensors").write_bytes(b"no")
    for name in ("b.safetensors", "absent.safetensors"):
        with pytest.raises(WeightsError):
            load_avatar(tmp_path / name)


def test_a_named_expression_comes_up_from_neutral():
    track = named_track("happy", 12)
    assert track[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert track[-1, NAMES.index("happy")] == 1
    with pytest.raises(InputError, match="grumpy"):
        named_track("grumpy", 12)


def test_a_pose_counts_from_the_first_frame_and_nonsense_is_refused(tmp_path):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps({"yaw": [5.0, 10.0], "x": [0.1, 0.2]}))
    track = read_pose(path)
    assert track.shape == (2, 5)
    assert scaled(track)[0].abs().max() == 0
    for wrong in (
        "[]",
        "{",
        json.dumps({"yaw": [1], "roll": [1, 2]}),
        json.dumps({"yaw": [900.0]}),
        json.dumps({"yaw": ["a"]}),
        json.dumps({"z": [1]}),
    ):
        path.write_text(wrong)
        with pytest.raises(InputError):
            read_pose(path)
