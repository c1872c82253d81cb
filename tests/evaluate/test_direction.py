"""The direction judge, on real clips of the world and on plain pictures."""

import io

import pytest
import torch
from einops import rearrange
from PIL import Image, ImageDraw

pytest.importorskip("cv2")

from kinema.evaluate.direction import direction, travel
from kinema.world.render import render_frames
from kinema.world.spec import ClipSpec
from kinema.world.sprites import SpritePack, labelled_subjects, pack_pictures

CAR = next(subject for subject in labelled_subjects() if subject.noun == "taxi" or "taxi" in subject.also)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> SpritePack:
    """A checked box in place of the taxi."""
    picture = Image.new("RGBA", (256, 256))
    draw = ImageDraw.Draw(picture)
    for row in range(3):
        for column in range(5):
            left, top = 28 + 40 * column, 90 + 40 * row
            draw.rectangle((left, top, left + 39, top + 39), fill="gold" if (row + column) % 2 else "black")
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=True)
    path = tmp_path_factory.mktemp("pack") / "taxi.kpack"
    pack_pictures([(CAR, out.getvalue())], path)
    return SpritePack.open(path)


@pytest.mark.parametrize(
    ("path", "wanted"), [("moves left", "left"), ("moves right", "right"), ("rises", "up"), ("falls", "down"), ("stays", "none")]
)
@pytest.mark.parametrize("place", ["grass", "plain blue"])
def test_world_clips_go_where_their_path_says(pack, path, wanted, place):
    spec = ClipSpec(seed=3, frames=17, height=64, width=64, subjects=(CAR.id,), path=path, place=place, shot="wide shot")
    assert direction(rearrange(render_frames(spec, pack), "T c H W -> T H W c")) == wanted


def test_a_patch_goes_as_far_as_it_was_moved():
    torch.manual_seed(0)
    smooth = lambda side: torch.nn.functional.interpolate(torch.rand(1, 3, side // 6, side // 6) * 255, size=(side, side), mode="bicubic")  # noqa: E731
    ground, patch = (rearrange(smooth(side)[0].clamp(0, 255), "c h w -> h w c").to(torch.uint8) for side in (96, 36))
    frames = ground.repeat(11, 1, 1, 1)
    for step in range(11):
        frames[step, 30:66, 10 + 3 * step : 46 + 3 * step] = patch
    right, down = travel(frames)
    assert right == pytest.approx(30 / 96, rel=0.3)
    assert abs(down) < 0.03


def test_one_frame_goes_nowhere():
    assert direction(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)) == "none"
