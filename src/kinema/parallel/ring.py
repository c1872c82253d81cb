"""Ring attention: queries stay, keys and values go round.

Every rank attends with its own queries over one rank's keys after another, and adds the partial results up by their log-sum-exp.
No rank ever holds all keys, and heads need not divide. Source: Ring Attention (arXiv 2310.01889).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed import P2POp, ProcessGroup

from kinema.errors import InputError


class Ring:
    """Attention over the tokens of all ranks; `tokens` says how many each of them brings."""

    def __init__(self, attend: Callable[..., Tensor], group: ProcessGroup):
        """attend: how a single rank attends; the ring needs the log-sum-exp as well and calls PyTorch's own kernels."""
        self.group = group
        self.tokens: list[int] = []

    def __call__(
        self,
        q: Float[Tensor, "B L N K"],
        k: Float[Tensor, "B L N K"],
        v: Float[Tensor, "B L N K"],
        key_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B L N K"]:
        """q, k, v: this rank's tokens; key_mask: of all tokens, rank by rank."""
        q, k, v = (x.to(v.dtype).transpose(1, 2).contiguous() for x in (q, k, v))
        masks = None if key_mask is None or key_mask.all() else key_mask.split(self.tokens, dim=1)
        return RingAttention.apply(q, k, v, masks, self.tokens, self.group).transpose(1, 2)


class RingAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, masks: Any, tokens: list[int], group: ProcessGroup) -> Tensor:  # type: ignore[override]
        """q, k, v [B N L K] -> [B N L K]."""
        out, lse = torch.zeros_like(q, dtype=torch.float32), q.new_full(q.shape[:3], -torch.inf, dtype=torch.float32)
        for owner, pair in travelling(torch.stack([k, v]), tokens, group):
            part, part_lse = attend_rows(q, pair[0], pair[1], None if masks is None else masks[owner])
            total = torch.logaddexp(lse, part_lse)
            out = out * weight(lse, total) + part * weight(part_lse, total)
            lse = total
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.masks, ctx.tokens, ctx.group = masks, tokens, group
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        q, k, v, out, lse = ctx.saved_tensors
        grad, dq, home = grad.contiguous(), torch.zeros_like(q), None
        for owner, pair in travelling(torch.stack([k, v]), ctx.tokens, ctx.group):
            part_q, *parts = rows_backward(grad, q, pair[0], pair[1], out, lse, None if ctx.masks is None else ctx.masks[owner])
            dq = dq + part_q
            home = torch.stack(parts) if home is None else home + torch.stack(parts)
            home = pass_on(home, owner, ctx.tokens, ctx.group).wait()  # the gradient goes round with its keys, and gets home at last
        assert home is not None
        return dq, home[0], home[1], None, None, None


def weight(lse: Float[Tensor, "B N L"], total: Float[Tensor, "B N L"]) -> Float[Tensor, "B N L 1"]:
    """The share that a part has in the whole."""
    return (lse - total).exp().nan_to_num(0.0)[..., None]  # no key at all in either: -inf - -inf


class Sending:
    """A tensor on its way to the next rank, and the one that comes from the previous."""

    def __init__(self, works: list[Any], sent: Tensor, received: Tensor):
        self.works, self.sent, self.received = works, sent, received

    def wait(self) -> Tensor:
        for work in self.works:
            work.wait()
        return self.received


def pass_on(x: Float[Tensor, "two B N l K"], owner: int, tokens: list[int], group: ProcessGroup) -> Sending:
    """Send what belongs to rank `owner` to the next rank, and take what belongs to the one before it."""
    rank, ranks = dist.get_rank(group), len(tokens)
    coming = x.new_empty((*x.shape[:3], tokens[(owner - 1) % ranks], x.shape[4]))
    peers = [dist.get_global_rank(group, (rank + step) % ranks) for step in (1, -1)]
    moves = [P2POp(dist.isend, x, peers[0], group), P2POp(dist.irecv, coming, peers[1], group)]
    moves = [move for move in moves if move.tensor.numel()]
    return Sending(dist.batch_isend_irecv(moves) if moves else [], x, coming)


def travelling(pair: Float[Tensor, "two B N l K"], tokens: list[int], group: ProcessGroup) -> Iterator[tuple[int, Tensor]]:
    """Every rank's pair, this one's first, with whose it is; the next is under way while the caller works."""
    rank, ranks = dist.get_rank(group), len(tokens)
    for step in range(ranks):
        owner = (rank - step) % ranks
        sending = pass_on(pair, owner, tokens, group) if step + 1 < ranks else None
        yield owner, pair
        if sending is not None:
            pair = sending.wait()


def attend_rows(q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "B l"] | None) -> tuple[Tensor, Tensor]:
    """Attention over some keys and its log-sum-exp; keys that are padding are left out, sample by sample."""
    if mask is None:
        return attend_part(q, k, v)
    rows = [attend_part(q[i : i + 1], k[i : i + 1, :, real], v[i : i + 1, :, real]) for i, real in enumerate(mask)]
    return torch.cat([out for out, _ in rows]), torch.cat([lse for _, lse in rows])


def rows_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, mask: Bool[Tensor, "B l"] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v where `out` and `lse` are those of all keys."""
    if mask is None:
        return part_backward(grad, q, k, v, out, lse)
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for i, real in enumerate(mask):
        row = slice(i, i + 1)
        dq[row], dk[row, :, real], dv[row, :, real] = part_backward(grad[row], q[row], k[row, :, real], v[row, :, real], out[row], lse[row])
    return dq, dk, dv


def attend_part(q: Tensor, k: Tensor, v: Tensor) -> tuple[Float[Tensor, "B N L K"], Float[Tensor, "B N L"]]:
    """PyTorch's flash kernel with its log-sum-exp; without queries or keys there is nothing to add."""
    if not (q.numel() and k.numel()):
        return torch.zeros_like(q), q.new_full(q.shape[:3], -torch.inf, dtype=torch.float32)
    if q.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    else:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(*in_half(q, k, v))[:2]
    return out, lse


def part_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not (q.numel() and k.numel()):
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(grad, q, k, v, out, lse, 0.0, False)
    none = torch.zeros(0, dtype=torch.int32, device=q.device)  # no packed sequences, and no dropout's random state
    seed = torch.zeros((), dtype=torch.uint64, device=q.device)
    args = (*in_half(grad, q, k, v), out, lse, none, none, q.shape[2], k.shape[2], 0.0, False, seed, seed)
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(*args)[:3]


def in_half(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Raises InputError for float32, which flash attention on a GPU does not take."""
    if tensors[0].dtype not in (torch.bfloat16, torch.float16):
        raise InputError(f"ring attention on a GPU works in bfloat16 or float16, not {tensors[0].dtype}: use mesh method=ulysses")
    return tensors
