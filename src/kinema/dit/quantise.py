"""Linear layers whose weights are stored in 8 or 4 bits, with scales, and widened as they work.

fp8       e4m3fn, one scale a matrix: as the published fp8 files have it
fp8-row   e4m3fn, one scale a row of outputs
int8      8-bit integers, one scale a row
int4      4-bit integers in pairs, one scale for 32 inputs of a row

On CUDA an fp8 matrix multiplies as it is (`torch._scaled_mm`, inputs scaled a row or a whole as they come); everywhere else a layer's
weight is widened for its product and forgotten, which saves memory and no time. Names stay: `weight`, and beside it `weight_scale`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.dit.layers import Linear

Form = Literal["fp8", "fp8-row", "int8", "int4"]
FORMS: tuple[Form, ...] = ("fp8", "fp8-row", "int8", "int4")
FP8 = torch.float8_e4m3fn
FP8_MOST = 448.0  # largest finite e4m3fn
GROUP = 32  # inputs that share a scale in int4
SCALE = "weight_scale"


def quantise(weight: Float[Tensor, "o i"], form: Form) -> tuple[Tensor, Tensor]:
    """A matrix as stored, and its float32 scales: product of the two is near the matrix."""
    wide = weight.float()
    if form == "int4":
        return pack_int4(wide)
    most = wide.abs().amax() if form == "fp8" else wide.abs().amax(1, keepdim=True)
    scale = (most / (127.0 if form == "int8" else FP8_MOST)).clamp_min(1e-12)
    scaled = wide / scale
    stored = scaled.round().to(torch.int8) if form == "int8" else scaled.clamp(-FP8_MOST, FP8_MOST).to(FP8)
    return stored, scale.reshape(()) if form == "fp8" else scale


def pack_int4(wide: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
    """Two signed numbers a byte, the first in the low half."""
    groups = wide.unflatten(1, (-1, GROUP))
    scale = (groups.abs().amax(2, keepdim=True) / 7.0).clamp_min(1e-12)
    numbers = ((groups / scale).round().clamp(-8, 7).to(torch.int16) + 8).flatten(1).to(torch.uint8)
    return numbers[:, 0::2] | (numbers[:, 1::2] << 4), scale[..., 0]


def widen(stored: Tensor, scale: Tensor, dtype: torch.dtype) -> Float[Tensor, "o i"]:
    """The matrix that was stored, in `dtype`."""
    if stored.dtype == torch.uint8:
        numbers = torch.stack([stored & 15, stored >> 4], dim=2).flatten(1).to(torch.int8) - 8
        return (numbers.unflatten(1, (-1, GROUP)).to(dtype) * scale[..., None].to(dtype)).flatten(1)
    return stored.to(dtype) * scale.to(dtype)


class Quantised:
    """Mixed into a linear layer: `weight` is widened whenever it is read, so that the layer's own arithmetic stays."""

    _buffers: dict[str, Tensor | None]
    bias: Tensor

    @property
    def weight(self) -> Tensor:
        stored, scale = self._buffers["weight"], self._buffers[SCALE]
        assert stored is not None
        assert scale is not None
        return widen(stored, scale, self.bias.dtype)

    def product(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        stored, scale = self._buffers["weight"], self._buffers[SCALE]
        assert stored is not None
        assert scale is not None
        if stored.dtype != FP8 or not multiplies_fp8(x.device):
            return super().product(x)  # type: ignore[misc]
        found = fp8_product(x.flatten(0, -2), stored, scale, self.bias).unflatten(0, x.shape[:-1])
        beside: Callable[[Tensor], Tensor] | None = self.beside  # type: ignore[attr-defined]
        return found if beside is None else found + beside(x)

    def _apply(self, move: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Stored numbers and scales change their device and never their dtype."""
        kept = {name: self._buffers.pop(name) for name in ("weight", SCALE)}
        super()._apply(move, recurse)  # type: ignore[misc]
        self._buffers |= {name: None if each is None else each.to(self.bias.device) for name, each in kept.items()}
        return self


def multiplies_fp8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def fp8_product(x: Float[Tensor, "L i"], weight: Tensor, scale: Tensor, bias: Tensor) -> Float[Tensor, "L o"]:
    """x @ weight.T + bias with both in fp8; x's scale is found here, a row's or the whole's as the weight's is."""
    rows = scale.ndim > 0
    most = x.abs().amax(1, keepdim=True) if rows else x.abs().amax()
    own = (most.float() / FP8_MOST).clamp_min(1e-12)
    scaled, other = (x / own.to(x.dtype)).to(FP8), scale.reshape(1, -1) if rows else scale
    bfloat16 = torch.bfloat16
    return torch._scaled_mm(scaled, weight.T, scale_a=own, scale_b=other, bias=bias.to(bfloat16), out_dtype=bfloat16)


def quantised_class(kind: type[Linear]) -> type[Linear]:
    return type(f"Quantised{kind.__name__}", (Quantised, kind), {})


def as_quantised(layer: Linear, stored: Tensor, scale: Tensor) -> None:
    """Turn a layer into its quantised kind, with these numbers."""
    del layer._parameters["weight"]
    layer.__class__ = quantised_class(type(layer))
    layer._buffers["weight"], layer._buffers[SCALE] = stored, scale


def layers_to_quantise(model: nn.Module) -> dict[str, Linear]:
    """The linears of the trunk's blocks by name, as published."""
    named = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear)}
    return {name: layer for name, layer in named.items() if name.startswith(("double_blocks.", "single_blocks."))}


def make_room(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Turn the layers that `state` holds scales for, which are tensors, into quantised ones, so that it then fits; on the meta device."""
    for name in [name.removesuffix(f".{SCALE}") for name in state if name.endswith(f".{SCALE}")]:
        as_quantised(model.get_submodule(name), state[f"{name}.weight"].to("meta"), state[f"{name}.{SCALE}"].to("meta"))  # type: ignore[arg-type]
