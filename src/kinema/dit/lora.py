"""Low-rank adapters beside the transformer's linear layers: a new subject or style in a file of megabytes.

An adapter adds up @ down, scaled by alpha / rank, to a layer's matrix; `up` starts at zero, so that a fresh one changes no bit. To
train, adapters stand beside the layers (`attach`), which stay as they are; to generate, they are added to the weights (`merge`), at no
cost a step. The published packed matrices (q, k, v; q, k, v, MLP) are adapted as one.
Source: Hu et al. 2021 (arXiv 2106.09685).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.dit.layers import ForkLinear, Linear
from kinema.errors import InputError, WeightsError

BLOCKS = ("double_blocks", "single_blocks")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which layers are adapted, and by how much.

    targets: parts of layer names: "linear1", "img_attn_qkv", "double_blocks.0", "single_blocks".
    """

    rank: int = 16
    alpha: float | None = None  # the adapter is scaled by alpha / rank; None: alpha = rank
    targets: tuple[str, ...] = BLOCKS
    dropout: float = 0.0  # of an adapter's inputs, while training

    def __post_init__(self):
        if self.rank < 1 or not 0 <= self.dropout < 1 or (self.alpha is not None and not self.alpha > 0):
            raise InputError(
                f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}: rank is 1 or more, alpha above 0, dropout 0 to below 1"
            )


@dataclass(frozen=True)
class Pair:
    """One layer's adapter."""

    down: Float[Tensor, "r i"]
    up: Float[Tensor, "o r"]
    alpha: float

    @property
    def scale(self) -> float:
        return self.alpha / len(self.down)

    def delta(self) -> Float[Tensor, "o i"]:
        """What it adds to the layer's matrix, in float32 or wider."""
        wide = torch.promote_types(self.up.dtype, torch.float32)
        return self.scale * (self.up.to(wide) @ self.down.to(wide))


@dataclass(frozen=True)
class Lora:
    """Adapters by the published name of their layer, and what is known of them (trigger, base model ...)."""

    pairs: dict[str, Pair]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The largest of its layers."""
        return max(len(pair.down) for pair in self.pairs.values())


class Adapter(nn.Module):
    """One layer's adapter while it is trained."""

    def __init__(self, layer: nn.Linear, config: LoraConfig):
        super().__init__()
        device = layer.weight.device
        self.down = nn.Parameter(torch.randn(config.rank, layer.in_features, device=device) / math.sqrt(layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, config.rank, device=device))
        self.alpha, self.dropout = float(config.alpha or config.rank), config.dropout

    def forward(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        return F.linear(F.linear(F.dropout(x, self.dropout, self.training), down), up) * (self.alpha / len(down))


class Adapters(nn.Module):
    """All adapters of a model: the only thing that a LoRA run trains and saves."""

    def __init__(self, dit: nn.Module, config: LoraConfig):
        super().__init__()
        self.layers = nn.ModuleDict({flat(name): Adapter(layer, config) for name, layer in chosen_layers(dit, config.targets).items()})

    def named(self) -> dict[str, Adapter]:
        return {name.replace("/", "."): adapter for name, adapter in self.layers.items()}  # type: ignore[misc]

    def attach(self, dit: nn.Module) -> None:
        """Let the model's layers ask their adapters."""
        layers = adaptable(dit)
        for name, adapter in self.named().items():
            layers[name].beside = adapter.forward  # a function: a module would become part of the model

    def detach(self, dit: nn.Module) -> None:
        """The model as it was."""
        layers = adaptable(dit)
        for name in self.named():
            layers[name].beside = None

    def lora(self, weights: Mapping[str, Tensor], about: dict[str, Any] | None = None) -> Lora:
        """What is saved of `weights`, a state dict of this module."""
        pairs = {
            name: Pair(weights[f"layers.{flat(name)}.down"], weights[f"layers.{flat(name)}.up"], adapter.alpha)
            for name, adapter in self.named().items()
        }
        return Lora(pairs, about or {})


def flat(name: str) -> str:
    return name.replace(".", "/")  # a module's name has no dots


def adaptable(dit: nn.Module) -> dict[str, Linear]:
    """The layers that may have adapters, by name."""
    return {name: layer for name, layer in dit.named_modules() if isinstance(layer, Linear)}


def chosen_layers(dit: nn.Module, targets: Sequence[str]) -> dict[str, Linear]:
    """The layers whose name holds one of the targets, part by part.

    Raises InputError for a target that is in no name.
    """
    layers = adaptable(dit)
    for target in targets:
        if not any(holds(name, target) for name in layers):
            near = get_close_matches(target, {part for name in layers for part in name.split(".")}, n=3, cutoff=0.0)
            raise InputError(f"targets: {target!r} is in no layer's name: use parts of them, such as {', '.join(near)}")
    return {name: layer for name, layer in layers.items() if any(holds(name, target) for target in targets)}


def holds(name: str, target: str) -> bool:
    return f".{target}." in f".{name}."


def check_fit(dit: nn.Module, lora: Lora) -> None:
    """Raise WeightsError that lists every adapter without a layer of its shape."""
    layers = adaptable(dit)
    unknown = sorted(lora.pairs.keys() - layers.keys())
    misshapen = [
        f"{name} ({len(pair.up)}x{pair.down.shape[1]} instead of {'x'.join(map(str, layers[name].weight.shape))})"
        for name, pair in sorted(lora.pairs.items())
        if name in layers and not fits(pair, layers[name])
    ]
    for what, names in (("there are no such layers", unknown), ("the shapes differ", misshapen)):
        if names:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            raise WeightsError(f"these adapters are for another model, {what}: {', '.join(names[:6])}{more}")


def fits(pair: Pair, layer: Linear) -> bool:
    """Of a forked layer an adapter may be for the plain rows alone, which come first."""
    rows = {layer.out_features, layer.plain} if isinstance(layer, ForkLinear) else {layer.out_features}
    return len(pair.up) in rows and pair.down.shape[1] == layer.in_features


@torch.no_grad()
def merge(dit: nn.Module, loras: Sequence[tuple[Lora, float]]) -> dict[str, Tensor]:
    """Add adapters to the weights, each by its strength; they are summed first, so that their order rounds nothing.

    Returns the weights as they were, for `unmerge`. Raises WeightsError, before anything changes, where one does not fit.
    """
    for lora, _ in loras:
        check_fit(dit, lora)
    layers, before = adaptable(dit), {}
    for name in dict.fromkeys(name for lora, _ in loras for name in lora.pairs):
        weight = before[name] = layers[name].weight.data
        deltas = [strength * lora.pairs[name].delta().to(weight.device) for lora, strength in loras if name in lora.pairs]
        total = sum(F.pad(delta, (0, 0, 0, len(weight) - len(delta))) for delta in deltas)
        layers[name].weight.data = (weight + total).to(weight.dtype)  # a new tensor: the old one may be a file's
    return before


@torch.no_grad()
def unmerge(dit: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Put weights back, to the bit."""
    layers = adaptable(dit)
    for name, weight in before.items():
        layers[name].weight.data = weight
