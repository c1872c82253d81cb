"""The packaged ImageNet network: the published one's numbers, and clear words where the package is not there."""

from importlib.util import find_spec

import pytest
import torch

from kinema.errors import MissingExtraError, WeightsError
from kinema.media.imagenet import EFFICIENTNET, EfficientNetLite0
from kinema.media.packaged import Packed, located

packaged = pytest.mark.skipif(find_spec(EFFICIENTNET.module) is None, reason="its package is not installed: make setup")


@packaged
def test_the_backbone_agrees_with_the_package_it_comes_from():
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="the network's own code is not installed")
    theirs = published.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(located(EFFICIENTNET)))
    pictures = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        wanted = theirs.eval().extract_features((pictures - 0.5) * 2).mean(dim=(2, 3))
        torch.testing.assert_close(EfficientNetLite0.load().embed(pictures), wanted, atol=1e-4, rtol=1e-4)


def test_a_backbone_that_is_not_installed_names_the_extra():
    absent = Packed("no-such-package", "no_such_package", "weights", "0" * 64, "evaluate")
    with pytest.raises(MissingExtraError, match=r"kinema\[evaluate\]"):
        located(absent)


@packaged
def test_a_backbone_with_other_bytes_is_refused():
    with pytest.raises(WeightsError, match="SHA-256"):
        located(EFFICIENTNET._replace(sha256="0" * 64))
