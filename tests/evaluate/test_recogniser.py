"""The recogniser: what it learns from, that it learns, what it says of a video, and that it comes back from disk."""

import io
import json
import math
from importlib.util import find_spec

import pytest
import torch
from PIL import Image, ImageDraw

from kinema.errors import InputError, WeightsError
from kinema.evaluate import naming, pieces, practice
from kinema.evaluate.backbones import EfficientNetLite0
from kinema.media.imagenet import EFFICIENTNET
from kinema.train.loop import LoopConfig, fit
from kinema.world.nets import Finder, Found, best_boxes
from kinema.world.recogniser import Recogniser, spread
from kinema.world.scenes import PLACES
from kinema.world.sprites import SpritePack, labelled_subjects, pack_pictures

pytestmark = pytest.mark.skipif(find_spec(EFFICIENTNET.module) is None, reason="the backbone's package is not installed: make setup")
SUBJECTS = tuple(subject.id for subject in labelled_subjects()[:3])


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
def clips(pack, tmp_path_factory):
    """A folder with a few clips of both splits, and pieces of them."""
    folder = tmp_path_factory.mktemp("clips")
    backbone = EfficientNetLite0.load()
    for split, count in (("train", 12), ("heldout", 4)):
        practice.make_shard(0, pack, backbone, split, count).write(folder / f"{split}-0000.safetensors")
    pieces.prepare_pieces(pack, folder, folder / "pieces", 8)
    return folder


@pytest.fixture(scope="module")
def shard(clips) -> practice.Shard:
    return next(practice.read_shards(clips, "train"))


def test_clips_come_back_from_disk_with_their_specs_and_boxes(shard):
    assert len(shard.specs) == len(shard.frames) == len(shard.middle) == len(shard.last) == 12
    assert shard.frames.shape[1:] == (practice.FRAMES, 3, practice.SIDE, practice.SIDE)
    assert {subject for spec in shard.specs for subject in spec.subjects} == set(SUBJECTS)
    assert all(math.isnan(box[1].sum()) == (len(spec.subjects) == 1) for box, spec in zip(shard.boxes, shard.specs, strict=True))


def test_the_same_number_gives_the_same_clips(pack, shard):
    again = practice.make_shard(0, pack, EfficientNetLite0.load(), "train", 2)
    assert torch.equal(again.frames, shard.frames[:2])
    assert again.specs == shard.specs[:2]


def test_clips_that_are_there_are_not_made_again(pack, clips):
    before = (clips / "heldout-0000.safetensors").stat().st_mtime_ns
    assert practice.prepare(pack, clips, 4, "heldout") == [clips / "heldout-0000.safetensors"]
    assert (clips / "heldout-0000.safetensors").stat().st_mtime_ns == before


def test_rows_of_many_tensors_are_as_rows_of_one():
    whole = torch.randn(9, 2)
    rows, numbers = practice.Rows([whole[:4], whole[4:5], whole[5:]]), torch.tensor([8, 0, 4, 4, 5, 3])
    assert len(rows) == 9
    assert torch.equal(rows[numbers], whole[numbers])


def test_wear_keeps_what_a_clip_shows():
    torch.manual_seed(0)
    clip = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    clip[..., 16:48, 16:48] = 200
    for _ in range(20):
        seen = practice.worn(clip).float()
        assert seen.shape == clip.shape
        assert seen[..., 24:40, 24:40].mean() > seen[..., :8, :].mean() + 40


def test_the_block_codec_keeps_what_is_smooth():
    plain = torch.full((4, 3, 32, 32), 0.5)
    assert (practice.coded(plain, 0.02) - plain).abs().max() < 0.02


def test_frames_are_fitted_to_a_height_and_keep_their_aspect():
    assert practice.fitted(torch.zeros(2, 3, 72, 128, dtype=torch.uint8)).shape == (2, 3, 192, 352)


def test_a_piece_is_what_its_square_holds():
    frame = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    frame[:, :, 20:40, 50:70] = 255
    middle, side = pieces.middles_and_sides(torch.tensor([[50.0, 20, 70, 40]]))
    assert (pieces.cut(frame, middle, side)[..., 8:-8, 8:-8] > 0.99).all()
    assert pieces.cut(frame, middle, 2 * side).mean() == pytest.approx(0.25, abs=0.02)
    left_half = pieces.cut(frame, middle - torch.tensor([10.0, 0]), side)
    assert torch.allclose(pieces.cut(frame, middle - torch.tensor([10.0, 0]), side, torch.tensor([True])), left_half.flip(-1), atol=1e-4)


def test_the_share_of_a_box_in_sight():
    boxes = torch.tensor([[0.0, 0, 10, 10], [-5, 0, 5, 10], [70, 0, 80, 10], [math.nan] * 4])
    assert pieces.visible(boxes, 64, 64).tolist() == [1, 0.5, 0, 0]


def test_laid_sprites_show_their_colour(pack):
    torch.manual_seed(0)
    sprite, green = pack.frames(SUBJECTS[1])[0], []
    for _ in range(16):
        piece = pieces.laid(sprite, torch.full((3, 128, 128), 128, dtype=torch.uint8))
        assert piece.shape == (3, pieces.SIDE, pieces.SIDE)
        assert piece.isfinite().all()
        green.append(float(piece[1].mean() - piece[0].mean()))
    assert sum(green) > 0


def test_a_wanted_heat_gives_its_boxes_back():
    boxes = torch.tensor([[[2.0, 3, 7, 8], [7, 1, 12, 4]]])
    heat, told = naming.wanted(boxes, 12, 12)
    found, hot = best_boxes(Found((heat - 0.5) * 40, told), 2, 1.0)
    order = found[0, :, 0].argsort()
    torch.testing.assert_close(found[0, order], boxes[0], atol=1e-4, rtol=1e-4)
    assert (hot > 0.9).all()


def test_nobody_in_sight_wants_no_heat():
    heat, told = naming.wanted(torch.full((1, 2, 4), math.nan), 6, 6)
    assert (heat == 0).all()
    assert told.isfinite().all()


def test_a_finder_learns_where_things_are(clips):
    torch.manual_seed(0)
    lesson, finder = naming.Lesson.read(clips, "train"), Finder()
    optimizer, every = torch.optim.AdamW(finder.parameters(), 5e-3), torch.arange(len(lesson.places))
    maps = lesson.middle[every].float(), lesson.last[every].float()
    losses = []
    for _ in range(25):
        heat, astray = naming.finding_loss(finder(*maps), lesson.boxes)
        optimizer.zero_grad()
        (heat + astray).backward()
        optimizer.step()
        losses.append(float((heat + astray).detach()))
    assert losses[-1] < 0.4 * losses[0]


def test_it_learns_to_tell_subjects_apart(clips, shard, tmp_path):
    torch.manual_seed(0)
    recogniser = Recogniser(SUBJECTS, tuple(PLACES))
    task = naming.JudgesTask(recogniser, naming.Lesson.read(clips, "train"), pieces.Pieces.read(clips / "pieces"), [shard], 48)
    fit(task, LoopConfig(out=tmp_path, steps=30, lr=2e-3, ema=0.8, warmup=3))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["subject_top1"] > 0.7  # a third by chance
    assert scores["subject_top1"] <= scores["subject_top5"] == 1  # there are but three
    again = Recogniser.load(tmp_path)
    assert naming.accuracy(again, [shard])["subject_top1"] == pytest.approx(scores["subject_top1"], abs=0.1)


def test_no_clips_are_told_in_words(tmp_path):
    with pytest.raises(InputError, match=r"kinema\.evaluate\.practice"):
        naming.Lesson.read(tmp_path, "train")


def test_frames_are_spread_over_the_whole_video():
    frames = torch.arange(33, dtype=torch.uint8)[:, None, None, None].expand(33, 3, 8, 8)
    assert spread(frames, 5)[:, 0, 0, 0].tolist() == [0, 8, 16, 24, 32]
    assert spread(frames[:2], 5)[:, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("size", [(64, 96), (256, 256)])
def test_a_video_of_any_size_is_read_the_same_after_saving(tmp_path, size):
    recogniser = Recogniser(("a", "b", "c", "d"), ("grass", "sea")).eval()
    recogniser.save(tmp_path)
    video = torch.randint(0, 255, (3, 3, *size), dtype=torch.uint8)
    again = Recogniser.load(tmp_path)
    assert (again.subjects, again.places) == (recogniser.subjects, recogniser.places)
    reading = again.read(video)
    torch.testing.assert_close(reading.places, recogniser.read(video).places, atol=1e-2, rtol=1e-2)
    assert reading.places.exp().sum() == pytest.approx(1, abs=1e-4)
    assert reading.subjects.exp().sum() == pytest.approx(1, abs=1e-4)


def test_a_missing_recogniser_says_how_to_make_one(tmp_path):
    with pytest.raises(WeightsError, match=r"recogniser\.sh"):
        Recogniser.load(tmp_path)
