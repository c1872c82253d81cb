"""Optimisers, the learning-rate schedule, and the moving average of the weights."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["adamw", "muon"]


def optimizers(model: nn.Module, kind: Kind, lr: float, weight_decay: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """AdamW for everything; or Muon for the matrices inside the blocks and AdamW for the rest.

    muon_lr: Muon's own rate; its updates are scaled to AdamW's size (`match_rms_adamw`), so the two may share a value.
    Source: Jordan et al. 2024 (Muon); Liu et al. 2025 (arXiv 2502.16982) for the scaling.
    """
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if kind == "muon" and is_hidden_matrix(name, weight)]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for _, weight in named if id(weight) not in chosen]
    decayed, plain = [w for w in rest if w.ndim > 1], [w for w in rest if w.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=named[0][1].is_cuda)]
    if matrices:
        found.append(torch.optim.Muon(matrices, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return found


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """A matrix between hidden states: not an embedding, not a modulation, not the last layer."""
    return weight.ndim == 2 and "blocks." in name and "mod" not in name and "adaLN" not in name


def learning_rate(progress: float, step: int, warmup: int, floor: float) -> float:
    """The share of the peak rate: linear warm-up by steps, then a cosine over progress in [0, 1] down to `floor`."""
    return min(1.0, (step + 1) / max(warmup, 1)) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Ema:
    """An exponential moving average of a state dict's floating tensors, in float32; it follows closely at first."""

    def __init__(self, state: Mapping[str, Tensor], decay: float):
        self.decay, self.updates = decay, 0
        self.weights = {name: tensor.detach().clone().float() for name, tensor in state.items() if tensor.is_floating_point()}

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        self.updates += 1
        share = 1 - min(self.decay, self.updates / (self.updates + 10))
        averages = list(self.weights.values())
        torch._foreach_lerp_(averages, [state[name].detach().float() for name in self.weights], share)

    def state_dict(self) -> dict:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for name, tensor in state["weights"].items():
            self.weights[name].copy_(tensor)
