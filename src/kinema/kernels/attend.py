"""Attention over all tokens: one function that every block calls.

Backend: PyTorch's scaled_dot_product_attention, except where a CPU without AMX only infers. There its flash kernel reaches a quarter
of oneDNN's speed (616 tokens, 6 heads of 64, one Zen core: 8.0 ms in bfloat16 and 7.4 ms in float32, against 3.6 and 4.0 ms), so
attention is written out, a block of queries at a time. A mask only ever hides keys, so memory stays linear in the token count.
"""

from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kinema.kernels.linear import has_onednn, onednn_product

BLOCK = 1 << 19  # scores of one block of queries: 2 MiB of float32, about a core's cache


@cache
def _amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


def attend(
    q: Float[Tensor, "B L N K"],
    k: Float[Tensor, "B S N K"],
    v: Float[Tensor, "B S N K"],
    key_mask: Bool[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B L N K"]:
    """Softmax attention with scale 1 / sqrt(K).

    key_mask: True marks a real token; each row needs at least one. None: all are real, which leaves PyTorch its fastest kernels.
    """
    if has_onednn(q) and not _amx():
        return _attend_written_out(q, k, v, key_mask)
    mask = None if key_mask is None else key_mask[:, None, None, :]
    mixed = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
    return mixed.transpose(1, 2)


def _attend_written_out(
    q: Float[Tensor, "B L N K"], k: Float[Tensor, "B S N K"], v: Float[Tensor, "B S N K"], key_mask: Bool[Tensor, "B S"] | None
) -> Float[Tensor, "B L N K"]:
    """Head by head, with float32 scores; padding is left out rather than masked."""
    mixed = torch.empty_like(q)
    scale = q.shape[-1] ** -0.5
    for row in range(len(q)):
        real = slice(None) if key_mask is None or key_mask[row].all() else key_mask[row]
        queries = (q[row].float() * scale).transpose(0, 1).contiguous()
        keys = k[row, real].float().transpose(0, 1).contiguous()
        values = v[row, real].permute(1, 2, 0).contiguous()
        for head in range(q.shape[2]):
            _attend_head(queries[head], keys[head], values[head], mixed[row, :, head])
    return mixed


def _attend_head(q: Float[Tensor, "L K"], k: Float[Tensor, "S K"], v: Float[Tensor, "K S"], into: Float[Tensor, "L K"]) -> None:
    step = max(64, BLOCK // k.shape[0])
    for rows, out in zip(q.split(step), into.split(step), strict=True):
        shares = onednn_product(rows, k).softmax(-1).to(v.dtype)
        out.copy_(onednn_product(shares, v))
