"""A shard: a safetensors file of stacked tensors with one JSON row a sample in its metadata.

Shards appear under their final name only when whole, so a reader may follow a folder that a writer is still filling.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Rows = Sequence[Mapping[str, Any]]


def write_shard(path: Path, tensors: Mapping[str, Tensor], rows: Rows) -> None:
    """Write one shard atomically; every tensor's first axis runs over `rows`."""
    assert all(len(tensor) == len(rows) for tensor in tensors.values()), "a shard's tensors and rows must be of one length"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata={"rows": json.dumps(list(rows))})
    partial.replace(path)


def read_shard(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The tensors and the rows of one shard."""
    with safe_open(path, "pt", device=device) as shard:
        tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        return tensors, json.loads(shard.metadata()["rows"])


def follow(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Shards of `folder` not yet in `seen`, oldest first; adds them to it as they are taken."""
    for path in sorted(folder.glob("*.safetensors"), key=lambda file: (file.stat().st_mtime_ns, file.name)):
        if path not in seen:
            seen.add(path)
            yield path
