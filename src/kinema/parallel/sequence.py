"""One sample's tokens over several ranks.

At the trunk's entrance every rank keeps its part of the video tokens and its part of the text tokens, both as even as can be; at its
exit the video tokens come together again. Between the two, all is token by token but attention, and attention does not mind in
which order keys come: a rank's tokens are simply [its video, its text], and no block knows more.

Ulysses exchanges heads for tokens: every rank attends with some heads over all tokens. Where heads do not divide by the ranks, some
ranks take one more; a rank without heads only passes on. Source: DeepSpeed-Ulysses (arXiv 2309.14509).
The ring is in `ring.py`.

Gradients of the loss, which all ranks of a group compute alike, leave the trunk times the number of ranks and enter what lies before
it divided by it. So the mean over ranks, which data parallelism takes anyway, is right for every weight.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from kinema.dit.blocks import Context
from kinema.dit.model import DiT, Trunk
from kinema.errors import InputError
from kinema.parallel.collectives import Exchange, Join, Shared, Split, shares
from kinema.parallel.mesh import Method
from kinema.parallel.ring import Ring

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
TOKENS = 1  # axis of [B L D]


def part_of(counts: list[int], rank: int) -> slice:
    """Where a rank's share lies."""
    return list(map(slice, *zip(*pairwise([0, *accumulate(counts)]), strict=True)))[rank]


class Ulysses:
    """Attention of which every rank does some heads; `tokens` says how many tokens each rank brings."""

    def __init__(self, attend: Attend, group: ProcessGroup):
        self.attend, self.group = attend, group
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        self.tokens: list[int] = []

    def __call__(
        self,
        q: Float[Tensor, "B L N K"],
        k: Float[Tensor, "B L N K"],
        v: Float[Tensor, "B L N K"],
        key_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B L N K"]:
        """q, k, v: this rank's tokens; key_mask: of all tokens, rank by rank."""
        heads = shares(q.shape[2], self.ranks)
        q, k, v = self.to_heads(torch.stack([q.to(v.dtype), k.to(v.dtype), v]), heads).unbind(0)
        mixed = self.attend(q, k, v, key_mask) if heads[self.rank] else v
        return self.to_tokens(mixed, heads)

    def to_heads(self, x: Float[Tensor, "c B L N K"], heads: list[int]) -> Float[Tensor, "c B S n K"]:
        """Some tokens with all heads -> all tokens with some heads."""
        three, batch, own, _, width = x.shape
        sent = [three * batch * own * count * width for count in heads]
        received = [three * batch * count * heads[self.rank] * width for count in self.tokens]
        rows = torch.cat([part.flatten() for part in x.split(heads, dim=3)])
        parts = Exchange.apply(rows, sent, received, self.group).split(received)
        shaped = [part.view(three, batch, count, heads[self.rank], width) for part, count in zip(parts, self.tokens, strict=True)]
        return torch.cat(shaped, dim=2)

    def to_tokens(self, x: Float[Tensor, "B S n K"], heads: list[int]) -> Float[Tensor, "B L N K"]:
        """All tokens with some heads -> some tokens with all heads."""
        batch, _, own, width = x.shape
        mine = self.tokens[self.rank]
        sent = [batch * count * own * width for count in self.tokens]
        received = [batch * mine * count * width for count in heads]
        rows = torch.cat([part.flatten() for part in x.split(self.tokens, dim=1)])
        parts = Exchange.apply(rows, sent, received, self.group).split(received)
        return torch.cat([part.view(batch, mine, count, width) for part, count in zip(parts, heads, strict=True)], dim=2)


class SequenceSplit:
    """The hooks on a trunk that split its tokens and put them together again."""

    def __init__(self, group: ProcessGroup, attends: list[Ulysses | Ring]):
        self.group, self.attends = group, attends
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        self.video: list[int] = []
        self.tokens: list[int] = []

    def split(self, trunk: nn.Module, inputs: tuple[Tensor, Tensor, Context]) -> tuple[Tensor, Tensor, Context]:
        """Before the trunk: this rank's tokens and what belongs to them."""
        video, text, context = inputs
        if context.cross:
            raise InputError("conditions by cross-attention see a whole video: run them in one process, without sequence in the mesh")
        length = video.shape[TOKENS]
        self.video = shares(length, self.ranks)
        words = shares(text.shape[TOKENS], self.ranks)[::-1]  # who has a video token less takes a word more
        self.tokens = [pixels + word for pixels, word in zip(self.video, words, strict=True)]
        mine, spoken = part_of(self.video, self.rank), part_of(words, self.rank)
        video, text = (Split.apply(x, TOKENS, each, self.group, 1 / self.ranks) for x, each in ((video, self.video), (text, words)))
        context = Context(
            vector=Shared.apply(context.vector, self.group, 1 / self.ranks),
            turns=torch.cat([context.turns[:length][mine], context.turns[length:][spoken]]),
            key_mask=None if context.key_mask is None else self.by_rank(context.key_mask, length, words),
            given=None if context.given is None else context.given[:, mine],
        )
        return video, text, context

    def by_rank(self, mask: Bool[Tensor, "B S"], length: int, words: list[int]) -> Bool[Tensor, "B S"]:
        """A mask of [video, text] in the order in which ranks hold them."""
        video, text = mask[:, :length].split(self.video, dim=1), mask[:, length:].split(words, dim=1)
        return torch.cat([part for pair in zip(video, text, strict=True) for part in pair], dim=1)

    def join(self, trunk: nn.Module, inputs: Any, video: Float[Tensor, "B l D"]) -> Float[Tensor, "B L D"]:
        """After the trunk: all video tokens, on every rank."""
        return Join.apply(video, TOKENS, self.video, self.group, float(self.ranks))

    def run(self, call: Callable[..., Any], block: nn.Module, *inputs: Any) -> Any:
        """Run a block as `call` does; that attention knows the split of this very forward pass holds when it is recomputed, too."""
        return call(partial(self.step, self.tokens, block), *inputs)

    def step(self, tokens: list[int], block: nn.Module, *inputs: Any) -> Any:
        for attend in self.attends:
            attend.tokens = tokens
        return block(*inputs)


def split_sequence(dit: DiT, group: ProcessGroup, method: Method) -> None:
    """Let the ranks of a group share every sample's tokens within the trunk."""
    kind = {"ulysses": Ulysses, "ring": Ring}[method]
    attends = []
    for name in dit.plan().blocks:
        block = dit.get_submodule(name)
        block.attend = kind(block.attend, group)  # type: ignore[assignment]
        attends.append(block.attend)
    trunk: Trunk = dit.trunk
    hooks = SequenceSplit(group, attends)  # type: ignore[arg-type]
    trunk.register_forward_pre_hook(hooks.split)
    trunk.register_forward_hook(hooks.join)
    trunk.run = partial(hooks.run, trunk.run)
