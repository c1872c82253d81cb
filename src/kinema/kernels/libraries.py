"""Attention kernels beside the default, for CUDA: PyTorch's cuDNN one, and those of other libraries where they are installed.

They are never needed; FlashAttention and SageAttention come as packages of their own or, built for most GPUs, through the `kernels`
package, which fetches them once.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kinema.errors import InputError

HUB = "kernels"


@dataclass(frozen=True)
class Library:
    """Where a kernel comes from; it takes q, k, v as [B L N K]."""

    module: str
    function: str
    hub: str  # its name for the `kernels` package
    install: str

    def source(self) -> str | None:
        """Who has it here; nothing is imported."""
        return next((name for name in (self.module, HUB) if importlib.util.find_spec(name)), None)

    def load(self) -> Callable[..., Any]:
        """Raises InputError where it is not to be had."""
        source = self.source()
        if source is None:
            raise InputError(f"attention={self.module}: not installed here; {self.install}, or pip install {HUB}, or leave attention=sdpa")
        try:
            module = importlib.import_module(source)
            found: Callable[..., Any] = getattr(module.get_kernel(self.hub) if source == HUB else module, self.function)
        except Exception as error:  # a build for another torch or GPU fails in its own ways
            raise InputError(f"attention={self.module}: {source} does not load here ({error}); leave attention=sdpa") from error
        return found


LIBRARIES = {
    "flash2": Library("flash_attn", "flash_attn_func", "kernels-community/flash-attn2", "pip install flash-attn"),
    "flash3": Library("flash_attn_interface", "flash_attn_func", "kernels-community/flash-attn3", "build FlashAttention's hopper folder"),
    "sage": Library("sageattention", "sageattn", "kernels-community/sage-attention", "pip install sageattention"),
}
OPTIONS: dict[str, dict[str, Any]] = {"sage": {"tensor_layout": "NHD"}}


def attend_cudnn(q: Float[Tensor, "B L N K"], k: Float[Tensor, "B S N K"], v: Float[Tensor, "B S N K"]) -> Float[Tensor, "B L N K"]:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


@cache
def kernel(name: str) -> Callable[..., Any]:
    return attend_cudnn if name == "cudnn" else LIBRARIES[name].load()


class LibraryAttend:
    """A kernel as a block calls it: padded keys are left out row by row rather than masked, which these kernels cannot do."""

    def __init__(self, name: str):
        """Raises InputError where the library is not to be had."""
        self.name, self.kernel, self.options = name, kernel(name), OPTIONS.get(name, {})

    def __call__(
        self,
        q: Float[Tensor, "B L N K"],
        k: Float[Tensor, "B S N K"],
        v: Float[Tensor, "B S N K"],
        key_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B L N K"]:
        q, k = q.to(v.dtype), k.to(v.dtype)
        if key_mask is None:
            return self.mix(q, k, v)
        rows = ((q[i : i + 1], k[i : i + 1, real], v[i : i + 1, real]) for i, real in enumerate(key_mask))
        return torch.cat([self.mix(*row) for row in rows])

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = self.kernel(q, k, v, **self.options)
        mixed: Tensor = found[0] if isinstance(found, tuple) else found  # some editions give the log-sum-exp too
        return mixed
