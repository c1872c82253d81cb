"""Attention over all tokens: one function that every block calls.

Backend: PyTorch's scaled_dot_product_attention, except where a CPU without AMX only infers. There its flash kernel reaches half
of oneDNN's speed (616 tokens, 6 heads of 64, one Zen core: 8.0 ms in bfloat16 and 7.4 ms in float32, against 4.0 and 4.5 ms), so
attention is written out, a block of queries at a time; for training see training.py. A mask only ever hides keys.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kinema.kernels.linear import ONEDNN, has_onednn, onednn_product
from kinema.kernels.training import attend_with_gradients, suits

BLOCK = 1 << 21  # scores of one head and block of queries: 8 MiB of float32; smaller blocks spend their time starting threads


@torch.compiler.assume_constant_result
def _amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


def backend(device: torch.device, dtype: torch.dtype) -> str:
    """What `attend` calls there while nothing is trained, and why."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return "scaled_dot_product_attention, PyTorch's choice for each call"
    if not ONEDNN or _amx():
        return "scaled_dot_product_attention, PyTorch's flash kernel for CPUs"
    return "oneDNN products, a block of queries at a time: twice as fast as PyTorch's kernel on a CPU without AMX"


def attend(
    q: Float[Tensor, "B L N K"],
    k: Float[Tensor, "B S N K"],
    v: Float[Tensor, "B S N K"],
    key_mask: Bool[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B L N K"]:
    """Softmax attention with scale 1 / sqrt(K), in the dtype of v; q and k may come in float32 whatever v is.

    key_mask: True marks a real token; each row needs at least one. None: all are real, which leaves PyTorch its fastest kernels.
    """
    if has_onednn(v) and not _amx():
        return attend_in_graph(q, k, v, key_mask) if torch.compiler.is_compiling() else _attend_written_out(q, k, v, key_mask)
    if suits(q, v):
        return attend_with_gradients(q, k, v, key_mask)
    mask = None if key_mask is None else key_mask[:, None, None, :]
    q, k, v = (x.to(v.dtype).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def attend_dry(
    q: Float[Tensor, "B L N K"], k: Float[Tensor, "B S N K"], v: Float[Tensor, "B S N K"], key_mask: Bool[Tensor, "B S"] | None = None
) -> Float[Tensor, "B L N K"]:
    """Allocates what `attend` does, in a few steps: for a ledger, which would see a long sequence's blocks one by one for minutes."""
    if not has_onednn(v) or _amx():
        held = [q.to(v.dtype), k.to(v.dtype)]
        return torch.empty(v.shape[:1] + q.shape[1:], dtype=v.dtype, device=v.device) if held else v
    held = [_heads_first(x[0], 1.0) for x in (q, k)]
    length, others = min(q.shape[1], max(64, BLOCK // k.shape[1])), k.shape[1]
    held += [q.new_empty(length, others, dtype=torch.float32) for _ in range(2)]  # scores, and their softmax
    if v.dtype != torch.float32:
        held.append(q.new_empty(q.shape[2], length, others, dtype=v.dtype))
    mixed = [v.new_empty(q.shape[1:]) for _ in range(len(q))]
    return torch.stack([torch.cat([row]) if length < q.shape[1] else row for row in mixed])


def _attend_written_out(
    q: Float[Tensor, "B L N K"], k: Float[Tensor, "B S N K"], v: Float[Tensor, "B S N K"], key_mask: Bool[Tensor, "B S"] | None
) -> Float[Tensor, "B L N K"]:
    """Sample by sample and head by head, a block of queries at a time; padding is left out rather than masked."""
    mix = _mix_heads if v.dtype == torch.float32 else _mix_together
    rows = []
    for row in range(len(q)):
        real = slice(None) if key_mask is None or key_mask[row].all() else key_mask[row]
        queries, keys = _heads_first(q[row], q.shape[-1] ** -0.5), _heads_first(k[row, real], 1.0)
        blocks = queries.split(max(64, BLOCK // keys.shape[1]), dim=1)
        mixed = [mix(block, keys, v[row, real].transpose(0, 1)).transpose(0, 1) for block in blocks]
        rows.append(mixed[0] if len(mixed) == 1 else torch.cat(mixed))
    return torch.stack(rows)


@torch.library.custom_op("kinema::attend", mutates_args=())
def attend_in_graph(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
    """`_attend_written_out` as a compiler takes it: as it is."""
    return _attend_written_out(q, k, v, key_mask)


@attend_in_graph.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
    return v.new_empty(q.shape)


def _heads_first(x: Float[Tensor, "L N K"], scale: float) -> Float[Tensor, "N L K"]:
    """In float32, scaled, and contiguous, in a single pass."""
    moved = x.transpose(0, 1)
    return torch.mul(moved, scale, out=torch.empty(moved.shape, dtype=torch.float32))


def _mix_heads(q: Float[Tensor, "N L K"], k: Float[Tensor, "N S K"], v: Float[Tensor, "N S K"]) -> Float[Tensor, "N L K"]:
    """In float32 oneDNN must do both products, and it takes one head at a time."""
    heads = zip(q, k, v.transpose(1, 2), strict=True)
    return torch.stack([onednn_product(onednn_product(rows, keys).softmax(-1), values) for rows, keys, values in heads])


def _mix_together(q: Float[Tensor, "N L K"], k: Float[Tensor, "N S K"], v: Float[Tensor, "N S K"]) -> Float[Tensor, "N L K"]:
    """Scores and softmax in float32; rounded, all heads share the second product."""
    shares = torch.empty((*q.shape[:2], k.shape[1]), dtype=v.dtype)
    for share, rows, keys in zip(shares, q, k, strict=True):
        share.copy_(onednn_product(rows, keys).softmax(-1))
    return torch.bmm(shares, v)
