"""Files that people give: what is taken, what is refused and when, and what comes of it."""

import io
import zlib

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

SMALL = {"prompt": "a cat", "size": "64x64", "frames": 5, "steps": 2}
RED = (200, 40, 40)
NOT_TAKEN = [b"", b"GIF89a" + bytes(100), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"#EXTM3U\nfile:///etc/passwd", b"PK\x03\x04" * 10,
             b"\x80\x04\x95" + bytes(50), b"ffconcat version 1.0\nfile /etc/passwd"]  # fmt: skip


def picture(colour=RED, size=(64, 64), kind="png"):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def chunk(name, data):
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(width, height, *chunks):
    """A PNG whose header says what it likes."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def video(path, frames=9, fps=12, side=64):
    from kinema.media.video import write_video

    write_video(path, torch.from_numpy(np.broadcast_to(np.array(RED, np.uint8), (frames, side, side, 3)).copy()), fps)
    return path.read_bytes()


def give(client, content, name="x.png"):
    return client.post("/v1/files", files={"file": (name, content)})


@pytest.fixture
def uploads(tmp_path):
    from kinema.serve.uploads import Uploads

    return Uploads(tmp_path)


def checked(uploads, content):
    from kinema.serve import intake

    upload = uploads.add("ann", io.BytesIO(content))
    intake.measure(upload)
    intake.check(upload)
    return upload


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_what_a_file_is_shows_in_its_first_bytes_not_in_its_name(client, kind):
    answer = give(client, picture(kind=kind), "../../etc/passwd.mp4").json()
    assert answer["kinema"] == {"type": f"image/{kind}", "kind": "picture"}
    assert client.get(f"/v1/files/{answer['id']}").json() == answer


@pytest.mark.parametrize("content", NOT_TAKEN)
def test_other_kinds_are_not_taken(client, content):
    assert give(client, content, "x.png").status_code == 400


def test_only_the_content_names_a_file_on_the_disk(client, service):
    give(client, picture(), "../../\x00evil name.png")
    give(client, picture(), "again.png")
    names = [path.name for path in (service.folder / "uploads").rglob("*")]
    assert len(names) == 2  # one user, one file
    assert all(len(name) == 64 and int(name, 16) for name in names)


def test_a_file_is_cut_off_at_its_limit_and_leaves_nothing(client, service):
    answer = give(client, picture() + bytes(17 * 2**20))
    assert (answer.status_code, "16 MiB" in answer.json()["error"]["message"]) == (400, True)
    assert not [path for path in (service.folder / "uploads").rglob("*") if path.is_file()]


def test_one_user_cannot_fill_the_disk(uploads, monkeypatch):
    from kinema.errors import InputError
    from kinema.serve import uploads as module

    monkeypatch.setattr(module, "OF_ONE_USER", 1000)
    uploads.add("ann", io.BytesIO(picture() + bytes(500)))
    with pytest.raises(InputError, match="delete some"):
        uploads.add("ann", io.BytesIO(picture() + bytes(600)))
    assert uploads.add("bob", io.BytesIO(picture() + bytes(600)))


def test_uploads_are_forgotten_a_week_after_their_last_use(uploads):
    import os

    old, used = (uploads.add("ann", io.BytesIO(picture(colour))) for colour in (RED, (0, 0, 0)))
    for upload in (old, used):
        os.utime(upload.path, (0, 0))
    uploads.find("ann", used.id)
    uploads.add("ann", io.BytesIO(picture((9, 9, 9))))
    assert (old.path.exists(), used.path.exists()) == (False, True)


def test_nobody_finds_anothers_upload_or_a_path(uploads):
    name = uploads.add("ann", io.BytesIO(picture())).id
    assert uploads.find("ann", name)
    assert uploads.find("bob", name) is None
    for wrong in ("", "file_", "file_..", "file_../" + name, "file_/etc/passwd", "\x00"):
        assert uploads.find("ann", wrong) is None


@pytest.mark.parametrize("field", ["input_reference", "last_frame"])
def test_a_form_carries_the_picture_and_json_its_name(client, field):
    form = {name: (None, str(value)) for name, value in SMALL.items()} | {field: ("p.png", picture())}
    sent = client.post("/v1/videos", files=form).json()["kinema"]["request"]
    name = give(client, picture()).json()["id"]
    named = client.post("/v1/videos", json=SMALL | {field: name}).json()["kinema"]["request"]
    again = client.post("/v1/videos", json=SMALL | {field: {"file_id": name}}).json()["kinema"]["request"]
    assert sent["given"] == named["given"] == again["given"]
    assert (sent["given"][0]["at"], sent["given"][0]["kind"]) == (0 if field == "input_reference" else -1, "picture")


def test_a_picture_of_the_subject_is_no_frame_of_the_video(client):
    form = {name: (None, str(value)) for name, value in SMALL.items()} | {"subject": ("p.png", picture())}
    sent = client.post("/v1/videos", files=form).json()["kinema"]["request"]
    assert not sent.get("given")
    assert (sent["reference"]["kind"], len(sent["reference"]["sha256"])) == ("picture", 64)
    alone = client.post("/v1/videos", json=SMALL | {"recalls": False}).json()["kinema"]["request"]
    assert alone["recalls"] is False
    assert "reference" not in alone


def test_a_repeated_form_with_a_file_is_the_same_job(client):
    form = {name: (None, str(value)) for name, value in SMALL.items()} | {"input_reference": ("p.png", picture())}
    first, second = (client.post("/v1/videos", files=form, headers={"Idempotency-Key": "k"}).json()["id"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"input_reference": "file_none"}, "not here"),
        ({"input_reference": {"image_url": "http://169.254.169.254/"}}, "file_id"),
        ({"continue_from": "video_none"}, "not here"),
        ({"stability": True}, "first frame"),
    ],
)
def test_what_was_not_given_cannot_be_used(client, wrong, word):
    answer = client.post("/v1/videos", json=SMALL | wrong)
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]


def test_a_video_is_no_first_frame_and_a_file_belongs_into_its_field(client, tmp_path):
    name = give(client, video(tmp_path / "v.mp4")).json()["id"]
    assert "is a video" in client.post("/v1/videos", json=SMALL | {"input_reference": name}).json()["error"]["message"]
    assert client.post("/v1/videos", json=SMALL | {"continue_from": name}).json()["kinema"]["request"]["given"][0]["kind"] == "footage"
    assert client.post("/v1/videos", files={"prompt": ("p.png", picture())}).status_code == 400


def test_the_size_follows_the_picture_where_none_is_chosen(client):
    name = give(client, picture(size=(128, 64))).json()["id"]
    request = client.post("/v1/videos", json={"prompt": "a cat", "input_reference": name}).json()["kinema"]["request"]
    assert request["width"] >= 2 * request["height"]  # the nearest bucket


def test_a_pixel_bomb_is_refused_before_it_is_queued(client):
    name = give(client, png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(1000))))).json()["id"]
    answer = client.post("/v1/videos", json=SMALL | {"input_reference": name})
    assert (answer.status_code, "pixels" in answer.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize("content", [
    png(64, 64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 * 2**20))), chunk(b"IDAT", zlib.compress(bytes(1000)))),
    picture()[:60],
    png(64, 64),
    b"\xff\xd8\xff" + bytes(1000),
    b"RIFF\x00\x00\x00\x00WEBP" + bytes(100),
    b"\0\0\0\x18ftypisom" + bytes(1000),
    b"\x1aE\xdf\xa3" + bytes(1000),
    b"\0\0\0\x18ftyp\n#EXTM3U\nfile:///etc/passwd\n",
])  # fmt: skip
def test_bombs_and_damage_are_told_as_what_they_are(uploads, content):
    from kinema.errors import InputError

    with pytest.raises(InputError, match=r"damaged|holds no"):
        checked(uploads, content)


def test_videos_end_at_a_minute_and_lose_nothing_below(uploads, tmp_path):
    from kinema.errors import InputError

    assert checked(uploads, video(tmp_path / "short.mp4", frames=50, fps=1)).kind == "video"
    with pytest.raises(InputError, match="60 s"):
        checked(uploads, video(tmp_path / "long.mp4", frames=70, fps=1))


def test_a_header_that_hides_the_length_does_not_help(uploads, tmp_path):
    from kinema.errors import InputError
    from kinema.serve import intake

    upload = uploads.add("ann", io.BytesIO(video(tmp_path / "long.mp4", frames=70, fps=1)))
    with pytest.raises(InputError, match="60 s"):
        intake.check(upload)  # which does not look at the header


def test_frames_are_counted_before_they_fill_the_memory(uploads, tmp_path, monkeypatch):
    from kinema.errors import InputError
    from kinema.serve import intake

    monkeypatch.setattr(intake, "MOST_DECODED", 5 * 64 * 64)
    with pytest.raises(InputError, match="held"):
        checked(uploads, video(tmp_path / "v.mp4", frames=9))


def colour_of(content, frame, tmp_path):
    from kinema.media.video import read_video

    file = tmp_path / "made.mp4"
    file.write_bytes(content)
    return read_video(file)[0][frame].float().mean((0, 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_openai_client_animates_a_picture_and_the_result_is_continued(server, finished, tmp_path):
    from openai import OpenAI

    with OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=120) as client:
        made = client.videos.create_and_poll(
            prompt="a red wall", model="mini", size="64x64", input_reference=("wall.png", picture()),
            extra_body={"frames": "9", "steps": "2"}, poll_interval_ms=200,
        )  # fmt: skip
        assert made.status == "completed", made.error
        content = client.videos.download_content(made.id).read()
        assert (colour_of(content, 0, tmp_path) - torch.tensor(RED)).abs().max() < 40
    body = SMALL | {"frames": 13, "continue_from": made.id}
    name = httpx.post(f"{server.url}/v1/videos", json=body, timeout=60).raise_for_status().json()["id"]
    assert finished(server, name)["status"] == "completed"
    again = httpx.get(f"{server.url}/v1/videos/{name}/content", timeout=60).content
    taken = colour_of(content, 4, tmp_path)  # 13 frames go on from the last 5 of 9
    assert (colour_of(again, 0, tmp_path) - taken).abs().max() < 40


def test_damage_is_found_by_the_worker_which_goes_on(server, finished):
    file = picture(size=(256, 256), kind="jpeg")[:700]
    form = {name: (None, str(value)) for name, value in SMALL.items()} | {"input_reference": ("p.jpg", file)}
    name = httpx.post(f"{server.url}/v1/videos", files=form, timeout=60).raise_for_status().json()["id"]
    job = finished(server, name)
    assert (job["status"], "damaged" in job["error"]["message"]) == ("failed", True)
    name = httpx.post(f"{server.url}/v1/videos", json=SMALL, timeout=60).json()["id"]
    assert finished(server, name)["status"] == "completed"
