"""How pictures that move are judged: flashes and drift."""

import math

import pytest
import torch
from einops import repeat

from kinema.evaluate.i2v import Drift, psnr, steps_of


def moving(frames: int = 24) -> torch.Tensor:
    """A noisy square that goes to the right at one speed."""
    draw = torch.Generator().manual_seed(0)
    square = torch.randint(0, 255, (16, 16, 3), generator=draw, dtype=torch.uint8)
    video = torch.full((frames, 32, 64, 3), 90, dtype=torch.uint8)
    for number, frame in enumerate(video):
        frame[8:24, number : number + 16] = square
    return video


def test_a_video_that_goes_on_as_it_began_does_not_drift():
    drift = Drift.of(moving())
    assert drift.colour < 0.01
    assert drift.sharpness == pytest.approx(1, abs=0.01)
    assert drift.motion == pytest.approx(1, abs=0.01)


def test_each_kind_of_drift_is_told_by_its_own_number():
    video = moving()
    pale, soft, slow = video.clone(), video.clone(), video.clone()
    pale[16:] += 20
    blurred = torch.nn.functional.avg_pool2d(video[16:].float().permute(0, 3, 1, 2), 3, stride=1, padding=1)
    soft[16:] = blurred.permute(0, 2, 3, 1).to(torch.uint8)
    slow[16:] = repeat(video[16], "H W c -> T H W c", T=8)
    assert Drift.of(pale).colour > 10
    assert Drift.of(soft).sharpness < 0.8
    assert Drift.of(slow).motion == 0


def test_what_never_moved_cannot_move_less():
    still = repeat(moving(1)[0], "H W c -> T H W c", T=9)
    assert Drift.of(still).motion == math.inf
    assert steps_of(still) == [0.0] * 8


def test_fidelity_falls_with_the_damage():
    frame = moving(1)
    noise = torch.randn(frame.shape, generator=torch.Generator().manual_seed(1))
    damaged = [(frame + size * noise).clamp(0, 255).to(torch.uint8) for size in (2, 8, 32)]
    values = [psnr(frame, each) for each in (frame, *damaged)]
    assert values[0] == math.inf
    assert values == sorted(values, reverse=True)
