"""Frames that come part by part: the same file, few waiting, and failures on either side reach the caller."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinema.errors import InputError
from kinema.media.video import WAITING, beside, write_parts, write_video


def frames(count: int) -> Tensor:
    return torch.randint(0, 255, (count, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_parts_make_the_file_that_the_whole_makes(tmp_path: Path):
    clip = frames(21)
    write_video(tmp_path / "whole.mp4", clip, 12, {"a": 1})
    write_parts(tmp_path / "parts.mp4", [clip[:1], clip[1:5], *clip[5:].split(8)], 12, {"a": 1})
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "parts.mp4").read_bytes()


def test_few_parts_wait_however_slow_the_work_is():
    made, done, ahead = 0, [], []

    def items() -> Iterator[int]:
        nonlocal made
        for made in range(1, 13):
            ahead.append(made - len(done))
            yield made

    def work(item: int) -> None:
        time.sleep(0.01)
        done.append(item)

    beside(work, items())
    assert done == list(range(1, 13))
    assert max(ahead) <= WAITING + 2


def test_failures_on_both_sides_reach_the_caller_and_leave_no_file(tmp_path: Path):
    def breaks() -> Iterator[Tensor]:
        yield frames(4)
        raise InputError("the source broke")

    for parts, message in ((breaks(), "source broke"), (iter([frames(4)[:, :31]]), "even"), (iter([]), "no frames")):
        with pytest.raises(InputError, match=message):
            write_parts(tmp_path / "clip.mp4", parts, 12)
    assert not list(tmp_path.iterdir())
