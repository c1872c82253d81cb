"""The image-text model: texts that differ in one thing, a space of unit vectors, and training that brings together what belongs so."""

from importlib.util import find_spec

import pytest
import torch

from kinema.errors import InputError, WeightsError
from kinema.evaluate.alignment import training
from kinema.evaluate.alignment.model import ImageText, Towers, TowersConfig, padded, weights_hash
from kinema.evaluate.alignment.texts import COLORS, DIMENSIONS, contrast, right_texts
from kinema.evaluate.backbones import MINILM, EfficientNetLite0, MiniLM
from kinema.evaluate.practice import make_shard
from kinema.media.imagenet import EFFICIENTNET
from kinema.train.loop import LoopConfig, fit
from kinema.world.recogniser import Recogniser
from kinema.world.scenes import PLACES
from kinema.world.spec import ClipSpec, sample_spec
from kinema.world.sprites import labelled_subjects

KNOWN = {subject.id: subject for subject in labelled_subjects()}
packaged = pytest.mark.skipif(
    find_spec(EFFICIENTNET.module) is None or find_spec(MINILM.module) is None,
    reason="the backbones' packages are not installed: make setup",
)


def spec(**changes) -> ClipSpec:
    plain = {
        "seed": 3,
        "frames": 33,
        "height": 128,
        "width": 128,
        "subjects": (next(iter(KNOWN)),),
        "path": "moves left",
        "camera": "zoom in",
    }
    return ClipSpec(**{**plain, **changes})


def test_right_texts_are_the_same_each_time_and_name_the_place():
    texts = right_texts(spec(), KNOWN, 0)
    assert texts == right_texts(spec(), KNOWN, 0)
    assert texts != right_texts(spec(), KNOWN, 1)
    assert any(phrase.lower() in texts[-1].lower() for phrase in PLACES["grass"].phrases)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_pair_differs_where_it_should(dimension):
    right, wrong = contrast(spec(), KNOWN, dimension, 0)
    assert right.lower() != wrong.lower()
    words = [set(text.lower().replace(".", "").replace(",", "").split()) for text in (right, wrong)]
    if dimension == "direction":
        assert words[0] ^ words[1] <= {"left", "right", "leftwards", "rightwards", "leftward", "rightward"}
    if dimension == "color":
        assert words[0] ^ words[1] <= {*COLORS, "a", "an"}


def test_what_cannot_be_asked_is_not():
    assert contrast(spec(path="spins"), KNOWN, "direction", 0) is None
    assert contrast(spec(camera="static"), KNOWN, "camera", 0) is None


def test_pairs_of_many_clips_are_texts():
    for seed in range(20):
        some = sample_spec(seed, labelled_subjects())
        for dimension in DIMENSIONS:
            pair = contrast(some, KNOWN, dimension, 0)
            assert pair is None or all(pair)


def test_padding_changes_no_text():
    torch.manual_seed(0)
    reading, states = Towers(TowersConfig()).eval().reading, [torch.randn(5, 384), torch.randn(9, 384)]
    together = reading(*padded(states))
    torch.testing.assert_close(together, torch.cat([reading(*padded([state])) for state in states]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))


def test_the_area_under_the_curve():
    right, wrong = torch.tensor([3.0, 4, 5]), torch.tensor([0.0, 1, 2])
    assert training.area_under_curve(right, wrong) == 1
    assert training.area_under_curve(wrong, right) == 0
    assert training.area_under_curve(right, right) == 0.5


def test_recalls_count_what_ranks_high():
    assert training.recalls(torch.eye(12)) == {"R@1": 1, "R@5": 1, "R@10": 1}
    assert training.recalls(-torch.eye(12)) == {"R@1": 0, "R@5": 0, "R@10": 0}


@packaged
def test_minilm_knows_what_means_alike():
    black, dark, car = MiniLM()(["a black cat", "a dark kitten", "a red car"])
    assert black @ dark > 0.5 > black @ car
    assert float(black.norm()) == pytest.approx(1, abs=1e-5)


@pytest.fixture
def judge(tmp_path):
    torch.manual_seed(0)
    Recogniser(tuple(KNOWN), tuple(PLACES)).save(tmp_path / "judge")
    return tmp_path / "judge"


@packaged
def test_pictures_videos_and_texts_are_unit_vectors_of_one_space(judge, tmp_path):
    Towers(TowersConfig()).save(tmp_path / "alignment.safetensors", weights_hash(judge))
    model = ImageText.load(tmp_path, judge)
    video = torch.randint(0, 255, (7, 3, 64, 96), dtype=torch.uint8)
    vectors = [model.image(video), model.video(video)[None], model.video(video[:2])[None], model.text(["a cat", "a dog on the grass"])]
    assert [vector.shape for vector in vectors] == [(7, 256), (1, 256), (1, 256), (2, 256)]
    for vector in vectors:
        torch.testing.assert_close(vector.norm(dim=1), torch.ones(len(vector)), atol=1e-4, rtol=1e-4)
    assert model.text([]).shape == (0, 256)
    with pytest.raises(InputError, match="without frames"):
        model.video(video[:0])


@packaged
def test_a_model_of_another_recogniser_is_refused(judge, tmp_path):
    Towers(TowersConfig()).save(tmp_path / "alignment.safetensors", "0" * 64)
    with pytest.raises(WeightsError, match="another recogniser"):
        ImageText.load(tmp_path, judge)
    with pytest.raises(WeightsError, match=r"alignment\.sh"):
        ImageText.load(tmp_path / "nowhere", judge)


@packaged
def test_training_brings_together_what_belongs_together(judge, tmp_path):
    from kinema.world.sprites import SpritePack, default_path

    if not default_path().exists():
        pytest.skip("no sprite pack here: kinema world build")
    pack = SpritePack.open()
    for split in ("train", "heldout"):
        make_shard(0, pack, EfficientNetLite0.load(), split, 8).write(tmp_path / f"{split}-0000.safetensors")
    known = {subject.id: subject for subject in pack.subjects}
    eyes = Recogniser.load(judge)
    lesson, heldout = (training.Lesson.read(tmp_path, split, known, eyes) for split in ("train", "heldout"))
    task = training.AlignmentTask(Towers(TowersConfig(dropout=0.0)), weights_hash(judge), lesson, heldout, 8)
    before = training.score(task.model.eval(), lesson)["video to text"]["R@1"]
    fit(task, LoopConfig(out=tmp_path / "run", steps=30, lr=1e-3, ema=0.5, warmup=2))
    assert training.score(task.model, lesson)["video to text"]["R@1"] > max(0.6, before)
    assert set(training.score(task.model, heldout)) == {"video to text", "text to video", *DIMENSIONS}
    assert ImageText.load(tmp_path / "run", judge).text(["a cat"]).shape == (1, 256)
