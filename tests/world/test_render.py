"""The renderer: what the spec says is where the truth says, at any size, the same every time."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kinema.media.video import read_video
from kinema.records import CAMERA_MOVEMENTS, Caption
from kinema.world.camera import CameraPath, view_matrices
from kinema.world.paint import Floor, look_down, paint_floor
from kinema.world.plan import Plan
from kinema.world.render import plan_clip, render, render_batch, render_frames
from kinema.world.sample import sample
from kinema.world.scenes import Ground
from kinema.world.spec import ClipSpec, sample_spec
from kinema.world.sprites import SpritePack, Subject, default_path, labelled_subjects, pack_pictures

CAT = next(subject for subject in labelled_subjects() if subject.id == "1f408")  # faces left
APPLE = Subject(id="1f34e", name="red apple", noun="red apple", facing="front", travel="float", kind="food")
SPEC = ClipSpec(seed=5, frames=9, height=64, width=64, subjects=("1f408",), place="plain white", light="bright studio")


def webp(frames: list[Image.Image]) -> bytes:
    out = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:], "duration": 42} if len(frames) > 1 else {}
    frames[0].save(out, "WEBP", lossless=True, **more)
    return out.getvalue()


def halves(left: str, right: str) -> Image.Image:
    """A square whose halves differ, on nothing."""
    picture = Image.new("RGBA", (256, 256))
    picture.paste(left, (48, 48, 128, 208))
    picture.paste(right, (128, 48, 208, 208))
    return picture


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> SpritePack:
    """A cat that is red before (left) and blue behind, in two frames that differ a little; an apple that is all green."""
    path = tmp_path_factory.mktemp("pack") / "tiny.kpack"
    cat = [halves("#ff0000", "#0000ff")] * 2 + [halves("#c00000", "#0000c0")] * 2  # two frames at 12 a second
    pack_pictures([(CAT, webp(cat)), (APPLE, webp([halves("#00c000", "#00c000")]))], path)
    return SpritePack.open(path)


def colored(frames: torch.Tensor, channel: int) -> torch.Tensor:
    """Where a colour channel stands out [T H W], as 0 or 1."""
    rest = frames.float().sum(1) - frames[:, channel].float()
    return ((frames[:, channel] > 90) & (rest < 0.6 * frames[:, channel].float())).float()


def middle(mask: torch.Tensor) -> np.ndarray:
    """Column and row of a mask's centre of mass in each frame [T 2]."""
    total = mask.sum((1, 2)).clamp(min=1)
    columns = (mask.sum(1) * torch.arange(mask.shape[2])).sum(1) / total
    rows = (mask.sum(2) * torch.arange(mask.shape[1])).sum(1) / total
    return torch.stack([columns, rows], 1).numpy()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 128), (256, 160)])
def test_any_size_is_rendered(pack, height, width):
    frames = render_frames(replace(SPEC, height=height, width=width, frames=3), pack)
    assert frames.shape == (3, 3, height, width)
    assert frames.dtype == torch.uint8


@pytest.mark.parametrize("camera", ["static", "around left", "handheld"])
def test_the_same_spec_gives_the_same_bits(pack, camera):
    spec = replace(SPEC, place="grass", weather="rain", camera=camera)
    assert torch.equal(render_frames(spec, pack), render_frames(spec, pack))


def test_a_batch_is_its_clips(pack):
    specs = [SPEC, replace(SPEC, seed=6, path="spins")]
    assert torch.equal(render_batch(specs, pack), torch.stack([render_frames(spec, pack) for spec in specs]))


def test_a_still_camera_sees_a_still_scene(pack):
    frames = render_frames(replace(SPEC, place="forest", subjects=("1f34e",)), pack)
    outside = frames.clone().float()
    left, top, right, bottom = (
        np.array(plan_clip(replace(SPEC, place="forest", subjects=("1f34e",)), pack)[0].boxes())[0, 0].round().astype(int)
    )
    outside[..., max(top - 4, 0) : bottom + 12, max(left - 12, 0) : right + 12] = 0
    assert float((outside - outside[:1]).abs().max()) <= 1


@pytest.mark.parametrize("camera", CAMERA_MOVEMENTS)
@pytest.mark.parametrize("path", ["stays", "circles", "moves left"])
def test_boxes_lie_where_the_subject_is_seen(pack, camera, path):
    clip = render(replace(SPEC, camera=camera, path=path, subjects=("1f34e",), shot="wide shot"), pack)
    boxes = np.array(clip.truth["boxes"])[0]
    seen = colored(clip.frames, 1)
    inside = (boxes[:, 0] > 1) & (boxes[:, 2] < 63) & (boxes[:, 1] > 1) & (boxes[:, 3] < 63)
    assert inside.sum() >= 3
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5
    assert np.abs(middle(seen) - centers)[inside].max() < 1.2
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (seen.sum((1, 2)).numpy() / areas)[inside] == pytest.approx(0.95, abs=0.12)


@pytest.mark.parametrize(("path", "sign"), [("moves left", -1), ("moves right", 1)])
def test_the_subject_goes_and_looks_to_its_side(pack, path, sign):
    frames = render_frames(replace(SPEC, path=path, shot="wide shot"), pack)
    front, back = middle(colored(frames, 0)), middle(colored(frames, 2))
    seen = slice(2, -2)
    assert (np.diff(front[seen, 0]) * sign > 0).all()
    assert ((front - back)[seen, 0] * sign > 2).all()


def test_two_subjects_stand_side_by_side(pack):
    clip = render(replace(SPEC, subjects=("1f34e", "1f408")), pack)
    boxes = np.array(clip.truth["boxes"])
    assert (boxes[0, :, 2] < boxes[1, :, 0] + 2).all()
    assert (middle(colored(clip.frames, 1))[:, 0] < middle(colored(clip.frames, 0))[:, 0]).all()


def test_a_standing_subject_casts_a_shadow_and_a_high_one_less(pack):
    standing = render(replace(SPEC, subjects=("1f34e",)), pack)
    foot = int(np.array(standing.truth["boxes"])[0, 0, 3])
    ground = standing.frames[0, :, foot + 1 : foot + 4].float().mean((0, 1))
    assert ground[28:36].mean() < 0.85 * ground[:6].mean()
    rising = render_frames(replace(SPEC, subjects=("1f34e",), path="rises", pace="quickly"), pack)
    later = rising[-1, :, foot + 1 : foot + 4].float().mean((0, 1))
    assert later[28:36].mean() > ground[28:36].mean() + 10


def test_a_small_clip_looks_like_a_large_one_shrunk(pack):
    spec = replace(SPEC, place="grass", frames=3, camera="pan left")
    small = render_frames(spec, pack).float()
    large = render_frames(replace(spec, height=256, width=256), pack).float()
    error = (torch.nn.functional.avg_pool2d(large, 4) - small).pow(2).mean()
    assert 10 * torch.log10(255**2 / error) > 22


def test_the_loop_runs_on_a_still_subject(pack):
    frames = render_frames(replace(SPEC, frames=4), pack).float()
    assert (frames[0] - frames[2]).abs().max() < 6
    assert (frames[0] - frames[1]).abs().max() > 30


def test_truth_is_json_and_holds_the_whole_clip(pack):
    truth = json.loads(json.dumps(render(replace(SPEC, camera="pan left"), pack).truth))
    assert ClipSpec.from_json(truth["spec"]) == replace(SPEC, camera="pan left")
    assert Caption(**truth["caption"]).camera_movement == "pan left"
    assert np.array(truth["boxes"]).shape == (1, 9, 4)
    assert truth["camera"]["x"][0] > truth["camera"]["x"][-1]


def test_a_seed_becomes_a_video_and_its_truth(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    default_path().parent.mkdir(parents=True)
    shutil.copy(pack.path, default_path())
    video, truth = sample(7, tmp_path / "out", frames=3, height=64, width=96)
    told = json.loads(truth.read_text())
    assert told["spec"] == sample_spec(7, pack.subjects, 3, 64, 96).to_json() | {"subjects": told["spec"]["subjects"]}
    assert read_video(video)[0].shape == (3, 64, 96, 3)


def floor_seen(texture: torch.Tensor, haze_start: float = 1e6) -> torch.Tensor:
    """A ground as the resting camera sees it on a 64 x 64 frame, black above the horizon."""
    floor = Floor.of(Ground(texture, 2.0, (0.0, 0.0, 1.0), haze_start), torch.device("cpu"))
    camera = CameraPath.at_rest(1)
    plan = Plan(replace(SPEC, frames=1), 0.0, camera, view_matrices(camera, 0.0), ())
    canvas = torch.zeros(1, 3, 64, 64)
    paint_floor(canvas, look_down(plan, torch.device("cpu")), floor)
    return canvas[0]


def test_a_plain_ground_is_plain_below_the_horizon_alone():
    seen = floor_seen(torch.tensor([0.2, 0.6, 0.4])[:, None, None].expand(3, 64, 64))
    assert torch.allclose(seen[:, 33:], torch.tensor([0.2, 0.6, 0.4])[:, None, None].expand(3, 31, 64), atol=1e-4)
    assert seen[:, :31].max() == 0


def test_the_ground_shows_its_texels_where_they_lie():
    texture = torch.zeros(3, 64, 64)
    texture[0, :, :32] = 1  # red from x = 0 to 1, black from 1 to 2
    seen = floor_seen(texture)
    row = 60  # v = 28.5 / 64, depth 0.5 / v
    depth = 0.5 / (28.5 / 64)
    for column in range(64):
        x = (column + 0.5 - 32) / 64 * depth
        if abs(x % 1) > 0.06 and abs(x % 1) < 0.94:
            assert (seen[0, row, column] > 0.5) == (x % 2 < 1), column


def test_a_fine_pattern_fades_far_away_instead_of_flickering():
    checks = ((torch.arange(64)[:, None] // 8 + torch.arange(64) // 8) % 2).float().expand(3, 64, 64)
    seen = floor_seen(checks)
    assert seen[:, 58:].std() > 0.25
    assert seen[:, 34:36].std() < 0.1


def test_the_ground_ends_in_its_haze():
    seen = floor_seen(torch.ones(3, 8, 8), haze_start=1.5)
    assert seen[0, 33].mean() < 0.1 < 0.9 < seen[0, 63].mean()
    assert seen[2, 33].mean() > 0.9
