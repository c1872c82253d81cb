"""What the page offers of the models that are here, and what it says before anybody presses a button."""

from dataclasses import replace

import pytest

MUCH = 2**40  # bytes


@pytest.fixture
def served(service):
    """A service that has published models too, as far as the page is concerned."""
    from kinema.presets import MODELS
    from kinema.serve.fitting import Fitting

    def served(*names):
        return replace(service, models={name: Fitting(MODELS[name](), MUCH) for name in names})

    return served


def test_a_model_that_needs_a_picture_is_offered_where_pictures_are_given(served):
    from kinema.serve.controls import sides

    tabs = {side.name: side.models for side in sides(served("mini", "t2v_13b", "i2v_13b", "i2v_13b_concat").models)}
    assert tabs["text"] == ["mini", "t2v_13b"]
    assert tabs["image"] == ["mini", "i2v_13b", "i2v_13b_concat"]
    assert "text" not in [side.name for side in sides(served("i2v_13b").models)]
    assert "image" not in [side.name for side in sides(served("t2v_13b").models)]


@pytest.mark.parametrize("names", [("i2v_13b",), ("i2v_13b_concat",), ("t2v_13b",), ("mini", "i2v_13b")])
def test_the_page_stands_whatever_models_there_are(served, build, names):
    from starlette.testclient import TestClient

    with TestClient(build(served(*names)), base_url="http://localhost") as client:
        assert client.get("/").status_code == 200
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == list(names)


@pytest.fixture
def files(tmp_path, speech_form):
    """A wide picture and a voice on the disk, where the page puts them."""
    from PIL import Image

    Image.new("RGB", (240, 80)).save(tmp_path / "wide.png")
    (tmp_path / "voice.wav").write_bytes(speech_form["audio"][1])
    return str(tmp_path / "wide.png"), str(tmp_path / "voice.wav")


def test_the_expected_time_counts_what_is_given(service, files):
    from kinema.serve.controls import defaults, sides
    from kinema.serve.speeches import served
    from kinema.serve.studio import work_named

    if not served(service.models):
        pytest.skip("needs the face networks and Whisper: pip install 'kinema[avatar]'")
    wide, voice = files
    _, image, avatar = sides(service.models)
    usual = defaults(service.models["mini"], image) | {"model": "mini", "seed": -1, "prompt": "", "lora_scale": 1}
    square, given = work_named(service, image, usual), work_named(service, image, usual | {"input_reference": wide})
    assert (square.name, given.name) == ("mini", "mini")
    assert given.denoise != square.denoise  # the size follows the picture
    acted = {"audio": voice, "input_reference": wide, "steps": 4, "seed": -1, "guidance": 1, "begin": 0.1, "face": 0}
    one, two = (work_named(service, avatar, acted | {"steps": steps}) for steps in (4, 8))
    assert two.denoise == 2 * one.denoise
    assert two.name == "mini avatar"
    assert service.times.estimate(one).seconds > 0


def test_times_that_were_measured_are_what_is_expected_next(service):
    from kinema.serve.speeches import speech

    made = speech(3.0, {"seed": 0, "image": "", "audio": ""})
    work = made.work(service.models["mini"].config)
    assert not service.times.estimate(work).measured
    service.times.add(work, {"denoise": 3.0, "decode": 1.0})
    assert service.times.estimate(work).seconds == pytest.approx(4)
    longer = replace(made, frames=33 + 28).work(service.models["mini"].config)
    assert service.times.estimate(longer).seconds == pytest.approx(4)  # two windows as well
