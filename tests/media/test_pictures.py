"""Pictures as people bring them: turned, transparent, of other colour models, damaged, too large."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinema.errors import InputError
from kinema.media.image import read_image


def test_a_camera_that_was_held_upright_gives_an_upright_picture(tmp_path: Path):
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # turn right by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (40, 20, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path: Path, mode: str):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.convert(mode).save(tmp_path / "a.png", **({"transparency": 0} if mode == "P" else {}))
    assert read_image(tmp_path / "a.png").min() > 250


@pytest.mark.parametrize(("mode", "ending"), [("CMYK", "jpg"), ("L", "png"), ("1", "png"), ("RGB", "webp"), ("P", "gif")])
def test_other_colour_models_become_rgb(tmp_path: Path, mode: str, ending: str):
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / f"a.{ending}")
    read = read_image(tmp_path / f"a.{ending}")
    assert read.shape == (8, 8, 3)
    assert read.min() > 245


def test_sixteen_bits_become_eight(tmp_path: Path):
    Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.min() == 0
    assert read.max() == 255
    assert 120 < read.float().mean() < 135


def test_damaged_pictures_are_refused_by_name(tmp_path: Path):
    Image.effect_noise((200, 200), 50).convert("RGB").save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    for name, content in {"cut.jpg": data[: len(data) // 2], "text.png": b"no picture", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)


def test_huge_pictures_are_refused_before_they_are_read(tmp_path: Path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="89 million"):
        read_image(tmp_path / "huge.png")
    Image.new("1", (20_000, 400)).save(tmp_path / "long.png")
    assert read_image(tmp_path / "long.png").shape == (400, 20_000, 3)
