"""The sprite pack: what is drawn comes back, in order and in time; what cannot be had says so."""

import http.server
import io
import pickle
import threading
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image, ImageDraw

from kinema.errors import InputError
from kinema.world import download
from kinema.world.atlas import SIDE, source_frames
from kinema.world.sprites import SpritePack, Subject, is_still_subject, labelled_subjects, pack_pictures, unicode_name

CAT = next(subject for subject in labelled_subjects() if subject.id == "1f408")


def disc(color: str, left: int) -> Image.Image:
    picture = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(picture).ellipse((left, 96, left + 64, 160), fill=color)
    return picture


def webp(frames: list[Image.Image]) -> bytes:
    out = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:], "duration": 42} if len(frames) > 1 else {}
    frames[0].save(out, "WEBP", lossless=True, **more)
    return out.getvalue()


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> SpritePack:
    """A cat that is a red disc going right in 24 source frames, and a still apple that is a green disc."""
    path = tmp_path_factory.mktemp("pack") / "tiny.kpack"
    apple = Subject(id="1f34e", name="red apple", noun="red apple")
    moving = [disc("red", 8 * step) for step in range(24)]
    pack_pictures([(apple, webp([disc("green", 96)])), (CAT, webp(moving))], path)
    return SpritePack.open(path)


def test_every_label_is_a_subject_with_a_noun_and_an_action():
    subjects = labelled_subjects()
    assert len(subjects) == len({subject.id for subject in subjects}) == 734
    assert all(subject.noun and subject.action and subject.animated for subject in subjects)


def test_labelled_subjects_come_first_and_keep_their_labels(pack):
    assert [subject.name for subject in pack.subjects] == ["cat", "red apple"]
    assert pack.subject("1f408") == CAT
    assert pack.animated == (CAT,)


def test_frames_keep_their_order_and_their_transparency(pack):
    frames = pack.frames("1f408").float()
    assert frames.shape == (12, 4, SIDE, SIDE)
    columns = torch.arange(SIDE).float()
    centers = (frames[:, 3].sum(1) * columns).sum(1) / frames[:, 3].sum((1, 2))
    assert (centers.diff() > 0).all()
    assert frames[:, 3].amax() > 250
    assert frames[:, 3, 0].amax() == 0
    inside = frames[0, :3, SIDE // 2, round(32 * SIDE / 256)]
    assert inside[0] > 200
    assert inside[1:].max() < 40


def test_a_still_subject_has_one_frame(pack):
    assert pack.frames("1f34e").shape == (1, 4, SIDE, SIDE)


def test_the_bank_holds_every_frame_premultiplied(pack):
    bank = pack.all_frames(size=32, animated_only=False)
    assert bank.frames.shape == (13, 4, 32, 32)
    assert bank.starts.tolist() == [0, 12]
    assert bank.counts.tolist() == [12, 1]
    assert (bank.frames[:, :3].amax(1).int() <= bank.frames[:, 3].int() + 1).all()


def test_a_pack_survives_pickling(pack):
    again = pickle.loads(pickle.dumps(pack))
    assert torch.equal(again.frames("1f408"), pack.frames("1f408"))


def test_equal_pictures_make_equal_files(pack, tmp_path):
    pictures = [(CAT, webp([disc("red", 8 * step) for step in range(4)]))]
    for name in ("one", "two"):
        pack_pictures(pictures, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(("durations", "kept"), [([42] * 72, list(range(0, 72, 2))), ([83] * 5, [0, 1, 2, 3, 4]), ([42] * 4, [0, 2])])
def test_an_animation_keeps_its_duration_at_twelve_frames_a_second(durations, kept):
    assert source_frames(durations) == kept


@pytest.mark.parametrize("code", ["1f354", "26bd", "1f33c", "1f344", "1f388"])
def test_things_are_still_subjects(code):
    assert is_still_subject(code, unicode_name(code))


@pytest.mark.parametrize("code", ["0023-fe0f-20e3", "1f170-fe0f", "1f44d-1f3fb", "1f1e9-1f1ea", "1f500", "2648", "1f6b3", "27a1-fe0f"])
def test_letters_signs_flags_and_skin_tones_are_not(code):
    assert not is_still_subject(code, unicode_name(code))


def test_an_unknown_subject_and_a_missing_or_broken_pack_are_named(pack, tmp_path):
    with pytest.raises(InputError, match="cat"):
        pack.index("the cat")
    with pytest.raises(InputError, match="kinema world build"):
        SpritePack.open(tmp_path / "none.kpack")
    (tmp_path / "broken.kpack").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a sprite pack"):
        SpritePack.open(tmp_path / "broken.kpack")


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry that serves one body and understands `Range`."""

    body = bytes(range(256)) * 40
    asked: ClassVar[list[str | None]] = []

    def do_GET(self):
        span = self.headers.get("Range")
        self.asked.append(span)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(self.body) - start))
        self.end_headers()
        self.wfile.write(self.body[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def registry(monkeypatch):
    """A registry on this machine, and no npm on PATH."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(download, "DEFAULT_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
    Registry.asked.clear()
    yield Registry
    server.shutdown()
    server.server_close()


def pinned(registry, folder: Path) -> download.Tarball:
    whole = folder / "whole"
    whole.write_bytes(registry.body)
    return download.Tarball("@some/thing", "1.0.0", download.sha256_of(whole), 1)


def test_a_tarball_is_fetched_once(registry, tmp_path):
    tarball = pinned(registry, tmp_path)
    assert download.fetch(tarball, tmp_path / "npm").read_bytes() == registry.body
    download.fetch(tarball, tmp_path / "npm")
    assert len(registry.asked) == 1


def test_a_broken_download_is_taken_up_where_it_stopped(registry, tmp_path):
    tarball = pinned(registry, tmp_path)
    (tmp_path / f"{tarball.file}.part").write_bytes(registry.body[:1000])
    assert download.fetch(tarball, tmp_path).read_bytes() == registry.body
    assert registry.asked == ["bytes=1000-"]


def test_other_bytes_than_the_pinned_ones_are_refused_and_removed(registry, tmp_path):
    tarball = download.Tarball("@some/thing", "1.0.0", "0" * 64, 1)
    with pytest.raises(InputError, match="SHA-256"):
        download.fetch(tarball, tmp_path)
    assert not (tmp_path / tarball.file).exists()


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(download, "DEFAULT_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match="put the file at"):
        download.fetch(download.STILL, tmp_path)
