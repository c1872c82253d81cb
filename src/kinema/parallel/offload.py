"""A transformer whose blocks' weights come when they work and leave after: from disk or host memory, the next while one works.

From outside the model: only the trunk's way to run a block is set. On CUDA the copies run on a stream of their own, from pinned memory.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kinema.dit.model import DiT

Fetch = Callable[[str], Mapping[str, Tensor]]
"""The name of a block -> its weights by their names within it, on the CPU."""


class BlockStream:
    """Runs a trunk's blocks with weights that `fetch` brings, `ahead` blocks before they are needed.

    The blocks of `dit` hold no weights of their own (they lie on the meta device).
    """

    def __init__(self, dit: DiT, fetch: Fetch, device: torch.device, ahead: int = 1):
        names = dit.plan().blocks
        self.fetch, self.device, self.ahead = fetch, device, ahead
        self.order = list(names)
        self.names = {dit.get_submodule(name): name for name in names}
        self.coming: dict[str, Future[Mapping[str, Tensor]]] = {}
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.call: Callable[..., Any] = dit.trunk.run
        dit.trunk.run = self.run

    def run(self, block: nn.Module, *inputs: Any) -> Any:
        name = self.names[block]
        self.expect(name)
        weights = self.coming.pop(name).result()
        self.expect_after(name)
        if self.side is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_stream(self.side)
            for tensor in weights.values():
                tensor.record_stream(here)
        return self.call(WithWeights(block, weights), *inputs)

    def expect(self, name: str) -> None:
        """Let a block's weights be brought, if they are not on their way."""
        if name not in self.coming:
            self.coming[name] = self.reader.submit(self.bring, name)

    def expect_after(self, name: str) -> None:
        """The blocks that come next; after the last, the first ones for the next step."""
        place = self.order.index(name)
        wanted = [self.order[(place + i) % len(self.order)] for i in range(1, self.ahead + 1)]
        for other in [each for each in self.coming if each not in wanted]:
            del self.coming[other]  # a step that left blocks out
        for each in wanted:
            self.expect(each)

    def bring(self, name: str) -> Mapping[str, Tensor]:
        weights = self.fetch(name)
        if self.side is None:
            return weights
        with torch.cuda.stream(self.side):
            pinned = {key: tensor if tensor.is_pinned() else tensor.pin_memory() for key, tensor in weights.items()}
            moved = {key: tensor.to(self.device, non_blocking=True) for key, tensor in pinned.items()}
            self.side.synchronize()  # pinned memory must outlive its copy; this thread has nothing else to do
        return moved

    def rest(self) -> None:
        """Forget what is on its way; the next call brings it again."""
        self.coming.clear()


class WithWeights(nn.Module):
    """A block that works with weights lent to it."""

    def __init__(self, block: nn.Module, weights: Mapping[str, Tensor]):
        super().__init__()
        self.lent = block, dict(weights)  # in a tuple, so that the block is no part of this

    def forward(self, *inputs: Any) -> Any:
        return functional_call(*self.lent, inputs, strict=True)
