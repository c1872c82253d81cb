"""Training of the watermark detector: what it begins with and what it is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.curation.filters.session import onnx_session
from kinema.curation.filters.watermark import PRETRAINED
from kinema.curation.watermark_training import (
    CHECKPOINT,
    CUT,
    FRAMES,
    SIDE,
    Sample,
    WatermarkNet,
    batch_of,
    fit,
    loss_of,
    start_from,
    targets,
)  # fmt: skip


@pytest.fixture
def clips() -> np.ndarray:
    """Two grounds of slow waves."""
    y, x, t = np.mgrid[:SIDE, :SIDE, :FRAMES]
    waves = np.stack([128 + 60 * np.sin((x + shift * y) / 20 + t / 3) for shift in (0.5, 2.0)]).astype(np.uint8)
    return np.repeat(np.moveaxis(waves, -1, 1)[..., None], 3, axis=-1)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    disc = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 14
    return [np.dstack([np.full((32, 32, 3), 200, np.uint8), 255 * disc.astype(np.uint8)])]


def test_an_exported_detector_can_be_trained_on(tmp_path: Path, clips, pictures):
    seen, *_ = batch_of(clips, pictures, np.random.default_rng(0))
    net = WatermarkNet()
    start_from(net, PRETRAINED, seen)
    other = batch_of(clips, pictures, np.random.default_rng(1))[0]
    (shipped,) = onnx_session(PRETRAINED).run(None, {"maps": other.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(other), torch.from_numpy(shipped), atol=1e-3, rtol=1e-4)
        apart = (
            (net.train()(seen)[:, 0] - torch.from_numpy(onnx_session(PRETRAINED).run(None, {"maps": seen.numpy()})[0][:, 0])).abs().max()
        )
    assert apart < 1e-3  # what the norms measure on this batch is what they were set to
    fit(net, clips, pictures, tmp_path, steps=1)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 1


def test_cells_around_a_mark_are_asked_for_its_box_and_others_for_nothing():
    wanted, weight = targets(Sample(np.zeros((6, CUT, CUT), np.float32), [(32, 40, 24, 32)], [(96, 96, 16, 16)]))
    row, column = 5, 7  # the cell whose middle is (44, 60)
    assert wanted[0, row, column] == 1
    np.testing.assert_allclose(wanted[1:, row, column], [60 - 40, 44 - 32, 72 - 60, 56 - 44])
    assert weight[13, 13] == 0  # where nothing is asked
    assert wanted[0].sum() < 12
    assert weight.sum() > 200


def test_the_loss_is_least_where_cells_say_what_is_wanted():
    wanted, weight = (torch.from_numpy(each)[None] for each in targets(Sample(np.zeros((6, CUT, CUT), np.float32), [(32, 40, 24, 32)], [])))
    right = torch.cat([20 * (wanted[:, :1] - 0.5), wanted[:, 1:]], 1)
    wrong = torch.cat([right[:, :1], 2 * right[:, 1:]], 1)
    silent = torch.cat([torch.full_like(right[:, :1], -10.0), right[:, 1:]], 1)
    assert loss_of(right, wanted, weight) < 0.01
    assert loss_of(wrong, wanted, weight) > 0.3
    assert loss_of(silent, wanted, weight) > 0.3
