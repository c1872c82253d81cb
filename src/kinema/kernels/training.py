"""Attention with gradients on a CPU that multiplies bfloat16 but has no AMX: written out, as matrix products.

PyTorch's flash kernel takes half of a training step there. Measured beside other work, one thread, 6 heads of 64, forward and backward:
8 x 208 tokens 58 ms against 140, 2 x 640 tokens 204 against 296, 1 x 2368 tokens 1568 against 1959, at the same accuracy.
The price is memory: a head's weights are kept for the backward pass, so long sequences stay with the flash kernel.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.kernels.linear import ONEDNN, onednn_product

MOST_WEIGHTS = 1 << 26  # attention weights of one call: 128 MiB


@cache
def _is_faster() -> bool:
    return ONEDNN and torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def suits(q: Tensor, v: Tensor) -> bool:
    """Whether `attend_with_gradients` takes these, and gains."""
    plain = type(v) is Tensor and v.device.type == "cpu" and v.dtype == torch.bfloat16 and torch.is_grad_enabled()
    size = q.shape[0] * q.shape[1] * q.shape[2] * v.shape[1]
    return plain and size <= MOST_WEIGHTS and not torch.compiler.is_compiling() and _is_faster()


def attend_with_gradients(
    q: Float[Tensor, "B L N K"], k: Float[Tensor, "B S N K"], v: Float[Tensor, "B S N K"], key_mask: Bool[Tensor, "B S"] | None
) -> Float[Tensor, "B L N K"]:
    """Softmax attention with scale 1 / sqrt(K), in bfloat16; scores are float32."""
    heads = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
    hidden = None if key_mask is None else (~key_mask).repeat_interleave(q.shape[2], dim=0)
    mixed: Tensor = WrittenOut.apply(*heads, hidden)  # type: ignore[assignment]
    return mixed.unflatten(0, (q.shape[0], -1)).transpose(1, 2)


class WrittenOut(torch.autograd.Function):
    """[H L K], [H S K], [H S K] and the hidden keys [H S] -> [H L K], where H is all heads of all samples.

    Source of the backward pass: Dao et al. 2022 (arXiv 2205.14135), appendix B.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> Tensor:
        weights = torch.empty((*q.shape[:2], k.shape[1]), dtype=v.dtype)
        for head, (rows, keys) in enumerate(zip(q.float() * q.shape[-1] ** -0.5, k.float(), strict=True)):
            scores = onednn_product(rows, keys)
            if hidden is not None:
                scores.masked_fill_(hidden[head], -torch.inf)
            weights[head] = scores.softmax(-1)
        mixed = torch.bmm(weights, v)
        ctx.save_for_backward(q.to(v.dtype), k.to(v.dtype), v, weights, mixed)
        ctx.dtypes = q.dtype, k.dtype
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (q, k, v, weights, mixed), (grad,) = ctx.saved_tensors, gradients
        by_value = torch.bmm(weights.transpose(1, 2), grad)
        by_score = torch.bmm(grad, v.transpose(1, 2)).sub_((grad * mixed).sum(-1, keepdim=True)).mul_(weights).mul_(q.shape[-1] ** -0.5)
        return torch.bmm(by_score, k).to(ctx.dtypes[0]), torch.bmm(by_score.transpose(1, 2), q).to(ctx.dtypes[1]), by_value, None
