"""What a parallelism may know of the transformer: names, and how its matrices split. Plain data, no tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Modules by name. A part of a matrix is a run of channels that splits evenly over heads or hidden channels.

    A linear that forks (q, k, v, hidden) has several parts, and every rank takes its share of each.
    """

    blocks: tuple[str, ...]  # of the trunk, in the order in which they run; each has `heads` and `attend`
    outputs: Mapping[str, tuple[int, ...]]  # linears that split by rows: the parts of what they give
    inputs: Mapping[str, tuple[int, ...]]  # linears that split by columns: the parts of what they take; their results add up
    whole: tuple[str, ...]  # linears that split by rows and whose whole result every rank needs
    per_head: tuple[str, ...]  # norms with one weight for all heads: stay whole, their gradients add up over heads


def double_plan(name: str, width: int, hidden: int) -> Plan:
    streams = [f"{name}.{stream}" for stream in ("img", "txt")]
    outputs = {f"{stream}_attn_qkv": (width,) * 3 for stream in streams} | {f"{stream}_mlp.fc1": (hidden,) for stream in streams}
    inputs = {f"{stream}_attn_proj": (width,) for stream in streams} | {f"{stream}_mlp.fc2": (hidden,) for stream in streams}
    norms = [f"{stream}_attn_{each}_norm" for stream in streams for each in "qk"]
    return Plan((name,), outputs, inputs, tuple(f"{stream}_mod.linear" for stream in streams), tuple(norms))


def single_plan(name: str, width: int, hidden: int) -> Plan:
    outputs, inputs = {f"{name}.linear1": (width, width, width, hidden)}, {f"{name}.linear2": (width, hidden)}
    return Plan((name,), outputs, inputs, (f"{name}.modulation.linear",), (f"{name}.q_norm", f"{name}.k_norm"))


def joined(plans: Iterable[Plan]) -> Plan:
    """The plan of all blocks from the plans of each."""
    found = list(plans)
    outputs = {name: parts for plan in found for name, parts in plan.outputs.items()}
    inputs = {name: parts for plan in found for name, parts in plan.inputs.items()}
    blocks, whole, per_head = (tuple(name for plan in found for name in getattr(plan, each)) for each in ("blocks", "whole", "per_head"))
    return Plan(blocks, outputs, inputs, whole, per_head)
