"""What a training step keeps, where, and what it computes twice; block by block.

Activations: "none" are recomputed, those between matrix products and attention ("selective": the products' results are kept, and
norms, modulation, rotation and GELU are cheap), or all within a block ("full": only its inputs are kept). They may wait for the
backward pass in host memory. The optimiser's moments may lie there between steps.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from kinema.dit.model import DiT

Checkpointing = Literal["none", "selective", "full"]
ATEN = torch.ops.aten
KEPT = {
    ATEN.mm.default,
    ATEN.addmm.default,
    ATEN.bmm.default,
    ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    ATEN._scaled_dot_product_flash_attention.default,
    ATEN._scaled_dot_product_efficient_attention.default,
    ATEN._scaled_dot_product_cudnn_attention.default,
}
"""Operations whose results are kept under "selective". What ranks exchange is exchanged again: it arrives in place, not as a result."""


def save_memory(dit: DiT, checkpointing: Checkpointing, offload: bool) -> None:
    """Run every block of the trunk so."""
    run: Callable[..., Any] = dit.trunk.run
    if checkpointing == "full":
        run = partial(checkpoint, use_reentrant=False)
    elif checkpointing == "selective":
        contexts = partial(create_selective_checkpoint_contexts, policy)
        run = partial(checkpoint, use_reentrant=False, context_fn=contexts)
    dit.trunk.run = partial(run_offloaded, run) if offload else run


def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def run_offloaded(run: Callable[..., Any], block: nn.Module, *inputs: Any) -> Any:
    """Run a block whose saved tensors lie in host memory until they are needed."""
    kept: AbstractContextManager[Any] = save_on_cpu(pin_memory=torch.cuda.is_available()) if torch.is_grad_enabled() else nullcontext()
    with kept:
        return run(block, *inputs)


def compile_blocks(dit: DiT) -> None:
    """Compile block by block: blocks of a kind share their code, so that it takes the time of two."""
    for name in dit.plan().blocks:
        dit.get_submodule(name).compile()


def offload_moments(optimizer: torch.optim.Optimizer, host: str = "cpu") -> None:
    """Keep an optimiser's moments in host memory between its steps; the numbers stay the same."""
    optimizer.register_step_pre_hook(lambda each, *_: move_moments(each, None))
    optimizer.register_step_post_hook(lambda each, *_: move_moments(each, host))


def move_moments(optimizer: torch.optim.Optimizer, place: str | None) -> None:
    """place: None is where each weight lies. Counters of steps, which have no shape, stay."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                state[name] = value.to(place or weight.device)
