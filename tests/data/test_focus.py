"""Where subjects are: boxes become shares of latent cells through every view, are kept with the clip, and weigh in the loss."""

import json

import numpy as np
import pytest
import torch

from kinema.data.clips import View, fitted, folder_clips
from kinema.data.focus import coverage, focus_of, through
from kinema.errors import InputError
from kinema.media.video import VideoInfo, write_video
from kinema.train.objective import Draws, flow_loss


def boxes(*each: tuple[float, float, float, float], frames: int = 5) -> torch.Tensor:
    return torch.tensor(each, dtype=torch.float32)[:, None].expand(-1, frames, -1)


def test_a_box_covers_the_cells_that_it_lies_on_by_their_share():
    found = coverage(boxes((0, 0, 32, 32)), 32, 32)
    assert found.shape == (2, 4, 4)
    assert (found == 1).all()
    half = coverage(boxes((4, 0, 16, 32)), 32, 32)[0]
    torch.testing.assert_close(half, torch.tensor([0.5, 1, 0, 0]).expand(4, 4))
    assert torch.equal(coverage(boxes((-9, -9, 99, 99)), 32, 32), found)
    assert not coverage(boxes((40, 0, 60, 32)), 32, 32).any()


def test_two_subjects_cover_what_either_does_and_a_latent_frame_is_the_mean_of_its_frames():
    apart = coverage(boxes((0, 0, 8, 8), (24, 24, 32, 32)), 32, 32)[0]
    assert apart.sum() == 2
    assert apart[0, 0] == apart[3, 3] == 1
    late = boxes((0, 0, 8, 8)).clone()
    late[:, 1:4] = 99  # in one of the last four frames alone
    assert coverage(late, 32, 32)[:, 0, 0].tolist() == [1, 0.25]


@pytest.mark.parametrize(
    ("height", "width", "crop"), [(64, 96, (0.5, 0.5)), (96, 64, (0.5, 0.0)), (48, 48, (0.5, 0.5)), (50, 130, (1.0, 1.0))]
)
def test_a_box_goes_through_a_view_as_the_pixels_do(height: int, width: int, crop: tuple[float, float]):
    box, view = (height // 4, width // 3, height // 2, width // 2), View(0, 1, 1, (32, 32), crop)
    frame = torch.zeros(height, width, 3, dtype=torch.uint8)
    frame[box[0] : box[2], box[1] : box[3]] = 255
    white = (fitted(frame, view)[0] + 1) / 2
    seen = through(boxes((box[1], box[0], box[3], box[2]), frames=1), height, width, view)
    left, top, right, bottom = seen[0, 0].clamp(0, 32).tolist()
    assert white.sum() == pytest.approx((right - left) * (bottom - top), rel=0.15, abs=8)


def test_boxes_lie_beside_a_video_and_are_refused_where_they_do_not_fit(tmp_path):
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    for name in ("none", "good", "short", "wrong"):
        write_video(tmp_path / f"{name}.mp4", torch.from_numpy(frames), fps=8)
        (tmp_path / f"{name}.txt").write_text("a pattern")
    (tmp_path / "good.boxes.json").write_text(json.dumps(boxes((0, 0, 16, 32)).tolist()))
    (tmp_path / "short.boxes.json").write_text(json.dumps(boxes((0, 0, 16, 32), frames=3).tolist()))
    (tmp_path / "wrong.boxes.json").write_text("[[1, 2, 3, 4]]")
    clips = {clip.id: clip for clip in folder_clips(tmp_path)}
    assert len(clips) == 4
    info, view = VideoInfo(5, 32, 32, 8.0, "h264"), View(0, 5, 1, (32, 32))
    assert focus_of(clips["none.mp4"], info, view) is None
    assert focus_of(clips["good.mp4"], info, view).sum() == 2 * 4 * 2
    with pytest.raises(InputError, match="boxes of 3 frames"):
        focus_of(clips["short.mp4"], info, view)
    with pytest.raises(InputError, match="four numbers"):
        focus_of(clips["wrong.mp4"], info, view)


def test_cells_count_in_the_loss_as_much_as_they_are_told_to():
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(2, 4, 3, 4, 4, generator=generator) for _ in range(2))
    given = torch.zeros(2, 3, dtype=torch.bool)
    given[1, 0] = True
    draws = Draws(torch.tensor([0.3, 0.8]), given.any(1), given, noise)
    text, pooled = torch.zeros(2, 1, 3), torch.zeros(2, 3)
    error = (noise - data).square().mean(1)  # of a model that always answers 0

    def loss(counts: torch.Tensor | None) -> torch.Tensor:
        return flow_loss(lambda x, *_, **__: torch.zeros_like(x), data, text, None, pooled, draws, None, counts)

    torch.testing.assert_close(loss(None), torch.stack([error[0].mean(), error[1, 1:].mean()]))
    torch.testing.assert_close(loss(torch.full_like(error, 5.0)), loss(None))
    one = torch.zeros_like(error)
    one[:, :, 1, 2] = 1
    torch.testing.assert_close(loss(one), torch.stack([error[0, :, 1, 2].mean(), error[1, 1:, 1, 2].mean()]))
