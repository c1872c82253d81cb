"""The matrix product of a linear layer, by the library that is fast on this hardware.

For float32 on a CPU, PyTorch calls MKL, which on AMD processors reaches less than half of oneDNN's speed (92 against 209 GFLOP/s on one
Zen core). So without gradients float32 goes to oneDNN; every other case is PyTorch's own choice.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

PLAIN = (Tensor, FakeTensor)  # a dry run must take the way that the real one takes
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_onednn(x: Tensor) -> bool:
    """Can `onednn_product` take tensors like this one, here and now? It knows no gradients or autocast."""
    plain = type(x) in PLAIN and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    free = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
    return ONEDNN and plain and free


def onednn_product(
    x: Float[Tensor, "*any i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None, *, gelu: bool = False
) -> Float[Tensor, "*any o"]:
    """x @ weight.T + bias. Both are made contiguous: for other strides oneDNN falls back to a loop a thousand times slower."""
    if torch.compiler.is_compiling():
        return product_in_graph(x, weight, bias, gelu)
    bend, kind = ("gelu", "tanh") if gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias, bend, [], kind)


@torch.library.custom_op("kinema::onednn_product", mutates_args=())
def product_in_graph(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """`onednn_product` as a compiler takes it: as it is, whereas it would send float32 to MKL."""
    return onednn_product(x, weight, bias, gelu=gelu)


@product_in_graph.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def linear(x: Float[Tensor, "*any i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None) -> Float[Tensor, "*any o"]:
    """x @ weight.T + bias, any device and dtype."""
    if x.dtype == torch.float32 and has_onednn(x):
        return onednn_product(x, weight, bias)
    return F.linear(x, weight, bias)


def linear_gelu(x: Float[Tensor, "*any i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]) -> Float[Tensor, "*any o"]:
    """GELU (tanh form) of `linear`; fused where oneDNN does it, at a quarter of the separate GELU's time."""
    if has_onednn(x):
        return onednn_product(x, weight, bias, gelu=True)
    return F.gelu(linear(x, weight, bias), approximate="tanh")
