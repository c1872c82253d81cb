"""The recogniser: what it learns from, that it learns, what it says of a video, and that it comes back from disk."""

import io
import itertools
import json

import pytest
import torch
from PIL import Image, ImageDraw

from kinema.errors import WeightsError
from kinema.evaluate import practice
from kinema.evaluate.nets import FrameNet, FrameNetConfig, place_net, subject_net
from kinema.evaluate.recogniser import Recogniser, accuracies, fit, fitted, rate_at
from kinema.world.sprites import SpritePack, labelled_subjects, pack_pictures

TINY = FrameNetConfig(classes=3, size=32, widths=(16, 32), blocks=(1, 1), strides=(2, 2))


def shape(index: int) -> bytes:
    """A red disc, a green square, a blue triangle."""
    picture = Image.new("RGBA", (256, 256))
    draw = ImageDraw.Draw(picture)
    if index == 0:
        draw.ellipse((40, 40, 216, 216), fill="red")
    elif index == 1:
        draw.rectangle((40, 40, 216, 216), fill="green")
    else:
        draw.polygon([(128, 30), (30, 220), (226, 220)], fill="blue")
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> SpritePack:
    path = tmp_path_factory.mktemp("pack") / "shapes.kpack"
    pack_pictures([(subject, shape(index)) for index, subject in enumerate(labelled_subjects()[:3])], path)
    return SpritePack.open(path)


@pytest.fixture(scope="module")
def sprites(pack) -> practice.Sprites:
    return practice.Sprites.of(pack, "cpu")


def test_practice_pictures_show_every_subject_in_many_states(sprites):
    pictures, wanted = practice.practice_batch(sprites, 64, 48)
    assert pictures.shape == (64, 3, 48, 48)
    assert set(wanted.tolist()) == {0, 1, 2}
    assert pictures.isfinite().all()
    assert pictures.min() > -0.5
    assert pictures.max() < 1.5
    assert pictures.std(dim=0).mean() > 0.1


def test_a_placed_sprite_has_the_size_that_was_asked_for(sprites):
    torch.manual_seed(0)
    picks = practice.pick_frames(sprites.large, torch.ones(64, dtype=torch.long))
    for scales in ((0.3, 0.30001), (0.6, 0.60001)):
        alpha = practice.drawn(sprites.large, picks, practice.placements(64, scales, sprites.device), 64)[:, 3]
        shown = (alpha.sum((1, 2)) / 64**2).amax()  # of those that lie within the picture, unsqueezed
        assert shown == pytest.approx((scales[0] * 176 / 256) ** 2, rel=0.1)


def test_the_block_codec_keeps_what_is_smooth(sprites):
    plain = torch.full((4, 3, 32, 32), 0.5)
    assert (practice.coded(plain) - plain).abs().max() < 0.02


@pytest.mark.parametrize("config", [subject_net(734), place_net(40), TINY])
@pytest.mark.parametrize("width", [32, 64])
def test_a_net_takes_any_width(config, width):
    assert FrameNet(config).eval()(torch.rand(2, 3, 32, width)).shape == (2, config.classes)


def test_both_nets_fit_in_six_megabytes_of_float16():
    recogniser = Recogniser(tuple(map(str, range(734))), tuple(map(str, range(40))))
    assert sum(value.numel() for value in recogniser.state_dict().values()) * 2 < 6e6


def test_frames_are_fitted_to_a_height_and_keep_their_aspect():
    assert fitted(torch.zeros(2, 3, 72, 128, dtype=torch.uint8), 64).shape == (2, 3, 64, 112)


def test_the_rate_rises_then_falls_to_nothing():
    rates = [rate_at(step / 100) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) > 0.95
    assert rates[100] < 1e-6
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[6:]))


def test_accuracies_count_the_first_and_the_first_five():
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4]])
    assert accuracies(logits, torch.tensor([0, 4, 5])) == pytest.approx((1 / 3, 2 / 3))


def test_a_net_learns_from_practice(sprites, tmp_path):
    torch.manual_seed(0)
    net = FrameNet(TINY)
    fit(net, ((pictures, wanted) for pictures, wanted in _easy(sprites)), seconds=4.0, log=tmp_path / "log.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]
    pictures, wanted = next(_easy(sprites))
    assert accuracies(net(pictures), wanted)[0] > 0.6  # a third by chance


def _easy(sprites):
    """Large sprites on plain colours."""
    while True:
        wanted = torch.randint(3, (64,))
        layer = practice.drawn(sprites.large, sprites.large.starts[wanted], practice.placements(64, (0.7, 1.0), sprites.device), 32)
        yield layer[:, :3] + (1 - layer[:, 3:]) * 0.5, wanted


def test_a_video_is_read_the_same_after_saving(tmp_path):
    recogniser = Recogniser(("a", "b", "c", "d"), ("grass", "sea")).eval()
    recogniser.save(tmp_path)
    video = torch.randint(0, 255, (3, 3, 64, 96), dtype=torch.uint8)
    again = Recogniser.load(tmp_path)
    assert (again.subjects, again.places) == (recogniser.subjects, recogniser.places)
    reading = again.read(video)
    torch.testing.assert_close(reading.subjects, recogniser.read(video).subjects, atol=1e-2, rtol=1e-2)
    assert reading.places.exp().sum() == pytest.approx(1, abs=1e-4)


def test_a_missing_recogniser_says_how_to_make_one(tmp_path):
    with pytest.raises(WeightsError, match=r"recogniser\.sh"):
        Recogniser.load(tmp_path)
