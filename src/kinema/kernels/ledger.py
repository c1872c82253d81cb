"""What a computation would allocate and multiply, without doing it: a ledger over tensors that have shapes and no numbers.

On the CPU the tensors are PyTorch's fake ones, so that code takes the way it takes for real; for an accelerator they lie on the meta
device, whose ways are the accelerator's. Libraries' own scratch space is not seen, nor what an allocator keeps for later.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten
CONVOLUTIONS = {ATEN.convolution.default, ATEN.conv3d.default, ATEN.mkldnn_convolution.default}
PRODUCTS = {"aten.linear.default", "mkldnn._linear_pointwise.default"}


class Ledger(TorchDispatchMode):
    """Counts while it is entered: bytes alive, their peak, and floating-point operations of products and convolutions.

    known: tensors that are there before, and do not count.
    """

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.live = self.peak = 0
        self.flops = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.enter(tensor)
        self.peak = max(self.peak, self.live)
        self.flops += flops_of(function, args, out)
        return out

    def enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.live += size
            weakref.finalize(storage, self.leave, key, size)

    def leave(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


def flops_of(function: Any, args: tuple[Any, ...], out: Any) -> float:
    """Two a multiplication and addition."""
    if function in CONVOLUTIONS:
        return 2.0 * out.numel() * args[1][0].numel()
    if str(function) in PRODUCTS:
        return 2.0 * out.numel() * args[1].shape[1]
    if function in (ATEN.mm.default, ATEN.bmm.default, ATEN.addmm.default):
        return 2.0 * out.numel() * args[-1 if function is ATEN.addmm.default else 0].shape[0 if function is ATEN.addmm.default else -1]
    return 0.0


@contextmanager
def pretended(accelerator: bool) -> Iterator[str]:
    """Within, tensors made on the device that is given have no numbers."""
    mode = nullcontext() if accelerator else FakeTensorMode()
    with mode, torch.inference_mode():  # type: ignore[attr-defined]
        yield "meta" if accelerator else "cpu"
