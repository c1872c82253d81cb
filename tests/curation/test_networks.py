"""Networks translated to ONNX say what they say in torch, and no worker that measures needs torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.curation.networks import NETWORKS, network, translate
from kinema.curation.speed import drawn
from kinema.curation.translate import built
from kinema.errors import WeightsError
from kinema.media.packaged import located
from kinema.media.video import write_video

MEASURES = """
import sys
from pathlib import Path
from kinema.curation.operator import Item
from kinema.curation.recipe import OPERATORS

path = Path(sys.argv[1])
items = {over: Item(over, path, over, is_cut=over == "clip") for over in ("source", "clip")}
for op in vars(OPERATORS).values():
    if op.over in items and op.name not in ("cut", "crops"):
        op.run(items[op.over], {})
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("name", ["efficientnet", "transnet"])
def test_a_translated_network_agrees_with_torch(name: str):
    net, example = built(name, located(NETWORKS[name]))
    seen = torch.from_numpy(np.random.default_rng(0).integers(0, 256, example.shape, dtype=np.uint8))
    with torch.inference_mode():
        wanted = net.eval()(seen).numpy()
    (said,) = network(name).run(None, {"seen": seen.numpy()})
    np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-5)


def test_a_cut_is_seen_by_the_translated_network():
    rng = np.random.default_rng(1)
    before, after = rng.integers(0, 256, (2, 27, 48, 3), dtype=np.uint8)
    frames = np.stack([before] * 50 + [after] * 50)
    (said,) = network("transnet").run(None, {"seen": frames[None]})
    assert said.shape == (2, 100)
    assert abs(int(said[0].argmax()) - 49) <= 1


def test_measuring_never_imports_torch(tmp_path: Path):
    write_video(tmp_path / "clip.mp4", drawn()[:36, ::2, ::2].copy(), 24)
    done = subprocess.run([sys.executable, "-c", MEASURES, str(tmp_path / "clip.mp4")], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    torch.save({"other": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth could not be translated"):
        translate("transnet", tmp_path / "weights.pth", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
