"""Optimisers, the learning-rate schedule, clipping, and the moving average of the weights; on sharded weights too."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from kinema.parallel.shard import local

Kind = Literal["adamw", "muon"]


def optimizers(model: nn.Module, kind: Kind, lr: float, weight_decay: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """AdamW for everything; or Muon for the matrices and kernels inside the blocks and AdamW for the rest. Frozen weights are left out.

    muon_lr: Muon's own rate; its updates are scaled to AdamW's size (`match_rms_adamw`), so the two may share a value.
    Source: Jordan et al. 2024 (Muon), who treat kernels as matrices too; Liu et al. 2025 (arXiv 2502.16982) for the scaling.
    """
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if kind == "muon" and is_hidden_matrix(name, weight)]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for _, weight in named if id(weight) not in chosen]
    decayed, plain = [w for w in rest if w.ndim > 1], [w for w in rest if w.ndim <= 1]
    groups = [{"params": weights, "weight_decay": decay} for weights, decay in ((decayed, weight_decay), (plain, 0.0)) if weights]
    found: list[torch.optim.Optimizer] = []
    if groups:
        found.append(torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=named[0][1].is_cuda))
    if matrices:
        flat = [weight if weight.ndim == 2 else as_matrix(weight) for weight in matrices]
        found.append(torch.optim.Muon(flat, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        found[-1].register_step_pre_hook(lend_gradients)
        found[-1].register_step_post_hook(drop_gradients)
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return found


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """A matrix or kernel between hidden states: not an embedding, not a modulation, not the last layer."""
    return weight.ndim >= 2 and "blocks." in name and "mod" not in name and "adaLN" not in name


def as_matrix(kernel: nn.Parameter) -> nn.Parameter:
    """A convolution's kernel as Muon wants it, in the same memory: a row an output channel."""
    matrix = nn.Parameter(rows_of(kernel.detach(), kernel))
    assert matrix.data_ptr() == kernel.data_ptr(), "a kernel must be contiguous, channels first or last"
    matrix.kernel = kernel  # type: ignore[attr-defined]
    return matrix


def rows_of(tensor: Tensor, kernel: Tensor) -> Tensor:
    """Columns in the order in which `kernel` lies in memory."""
    return tensor.flatten(1) if kernel.is_contiguous() else tensor.movedim(1, -1).flatten(1)


def lend_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Before a step: kernels' gradients as matrices."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if hasattr(weight, "kernel") and weight.kernel.grad is not None:
                weight.grad = rows_of(weight.kernel.grad, weight.kernel)


def drop_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    optimizer.zero_grad(set_to_none=True)


def optimizer_state(model: nn.Module, found: Iterable[torch.optim.Optimizer]) -> dict[str, dict[str, Tensor]]:
    """The optimisers' moments by the name of their weight; all are there even before the first step."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    state: dict[str, dict[str, Tensor]] = {}
    for optimizer in found:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                state[names[id(getattr(weight, "kernel", weight))]] = moments(optimizer, weight)
    return state


def moments(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, Tensor]:
    """What the optimiser keeps of one weight: zeros where it has not stepped yet."""
    if not optimizer.state[weight]:
        names = ("momentum_buffer",) if isinstance(optimizer, torch.optim.Muon) else ("exp_avg", "exp_avg_sq")
        optimizer.state[weight] = {name: torch.zeros_like(weight, memory_format=torch.preserve_format) for name in names}
        if not isinstance(optimizer, torch.optim.Muon):
            on_device = weight.device if optimizer.defaults["fused"] else "cpu"
            optimizer.state[weight]["step"] = torch.zeros((), dtype=torch.float32, device=on_device)
    return dict(optimizer.state[weight])


def restore_optimizers(model: nn.Module, found: Iterable[torch.optim.Optimizer], state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Go on from `optimizer_state`; rates come from the schedule."""
    here = optimizer_state(model, found)
    with torch.no_grad():
        for name, kept in here.items():
            for key, tensor in kept.items():
                tensor.copy_(state[name][key])


def learning_rate(progress: float, step: int, warmup: int, floor: float) -> float:
    """The share of the peak rate: linear warm-up by steps, then a cosine over progress in [0, 1] down to `floor`."""
    return min(1.0, (step + 1) / max(warmup, 1)) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def clip_gradients(weights: Iterable[Tensor], largest: float) -> Tensor:
    """Scale all gradients so that their common norm is at most `largest`; returns the norm before, the same on every rank.

    Gradients may be sharded, over several meshes too: each mesh's share of the norm is summed by itself.
    """
    by_mesh: dict[Any, list[Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            by_mesh.setdefault(weight.grad.device_mesh if isinstance(weight.grad, DTensor) else None, []).append(weight.grad)
    norms = [whole_norm(gradients) for gradients in by_mesh.values()]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    share = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradients in by_mesh.values():
        torch._foreach_mul_([local(gradient) for gradient in gradients], share.to(gradients[0].device))
    return norm


def whole_norm(gradients: list[Tensor]) -> Tensor:
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


class Ema:
    """An exponential moving average of a model's trained weights and floating buffers, in float32; it follows closely at first."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, torch.zeros((), dtype=torch.int64)
        self.weights = {name: tensor.detach().clone().float() for name, tensor in averaged_tensors(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        share = 1 - min(self.decay, int(self.updates) / (int(self.updates) + 10))
        state = averaged_tensors(model)
        torch._foreach_lerp_([local(mean) for mean in self.weights.values()], [local(state[name]).float() for name in self.weights], share)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates.copy_(state["updates"])
        for name, tensor in state["weights"].items():
            self.weights[name].copy_(tensor)


def averaged_tensors(model: nn.Module) -> dict[str, Tensor]:
    """By the names of the state dict; frozen weights do not change and are left out."""
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if tensor.is_floating_point() and name not in frozen}
