"""The small parts that the transformer's blocks are made of.

Attribute names are the published checkpoint's, so that its keys load unchanged.
"""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.dit.rope import Grid
from kinema.kernels.linear import has_onednn, linear, linear_gelu

EPS = 1e-6
SINUSOID = 256  # channels of the time and guidance sinusoids
MAX_PERIOD = 10_000


class Linear(nn.Linear):
    """`torch.nn.Linear` through `kernels.linear`.

    beside: what is added to the product of the same input, before any activation; `dit/lora.py` sets it.
    """

    beside: Callable[[Tensor], Tensor] | None = None

    def product(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        found = linear(x, self.weight, self.bias)
        return found if self.beside is None else found + self.beside(x)

    def forward(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        return self.product(x)


class GeluLinear(Linear):
    """A linear layer with its GELU (tanh form), which fuses on a CPU."""

    def forward(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        return linear_gelu(x, self.weight, self.bias) if self.beside is None else F.gelu(self.product(x), approximate="tanh")


class ForkLinear(Linear):
    """One matrix for two branches: the first `plain` outputs stay as they are, the others pass a GELU (tanh form)."""

    def __init__(self, inputs: int, plain: int, bent: int):
        super().__init__(inputs, plain + bent)
        self.plain = plain

    def forward(self, x: Float[Tensor, "*any i"]) -> tuple[Float[Tensor, "*any p"], Float[Tensor, "*any o"]]:  # type: ignore[override]
        if has_onednn(x) and self.beside is None:
            weights, biases = self.weight.tensor_split([self.plain]), self.bias.tensor_split([self.plain])
            return linear(x, weights[0], biases[0]), linear_gelu(x, weights[1], biases[1])
        plain, bent = self.product(x).tensor_split([self.plain], dim=-1)
        return plain, F.gelu(bent, approximate="tanh")


def sinusoid(scalar: Float[Tensor, " B"]) -> Float[Tensor, "B 256"]:
    """Time (0 ... 1000) or guidance (x 1000) as float32 waves, cosines first.

    The exponential is taken in float64 and rounded: float32's differs in its last bit from machine to machine, and at guidance 6016
    that bit turns a wave by 4e-4.
    Source: Ho et al. 2020 (arXiv 2006.11239), transformer position encoding of the step.
    """
    half = SINUSOID // 2
    steps = torch.arange(half, dtype=torch.float32, device=scalar.device)
    frequencies = (-math.log(MAX_PERIOD) * steps / half).double().exp().float()
    angles = scalar[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ScalarEmbedder(nn.Module):
    """A number per sample -> a vector of the model's width."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(Linear(SINUSOID, width), nn.SiLU(), Linear(width, width))

    def forward(self, scalar: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        return self.mlp(sinusoid(scalar).to(next(self.parameters()).dtype))


class PooledEmbedder(nn.Module):
    """The pooled text vector -> the model's width (published as `vector_in`)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.in_layer = Linear(inputs, width)
        self.out_layer = Linear(width, width)

    def forward(self, pooled: Float[Tensor, "B p"]) -> Float[Tensor, "B D"]:
        return self.out_layer(F.silu(self.in_layer(pooled)))


class MeanTextEmbedder(nn.Module):
    """The mean text state -> the refiner's condition (published as `txt_in.c_embedder`)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.linear_1 = Linear(inputs, width)
        self.linear_2 = Linear(width, width)

    def forward(self, mean: Float[Tensor, "B d"]) -> Float[Tensor, "B D"]:
        return self.linear_2(F.silu(self.linear_1(mean)))


class PatchEmbed(nn.Module):
    """Latent patches -> tokens in (t, h, w) order.

    The weight keeps the published Conv3d shape; as kernel equals stride, the convolution is one matrix product.
    """

    def __init__(self, channels: int, width: int, patch: Grid):
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, width, patch, stride=patch)

    def forward(self, latents: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B L D"]:
        pt, ph, pw = self.patch
        patches = rearrange(latents, "B C (t pt) (h ph) (w pw) -> B (t h w) (C pt ph pw)", pt=pt, ph=ph, pw=pw)
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def unpatchify(tokens: Float[Tensor, "B L d"], grid: Grid, patch: Grid) -> Float[Tensor, "B C t h w"]:
    """Put patch tokens back on the latent grid; the inverse of `PatchEmbed`'s ordering. `grid` counts tokens."""
    (t, h, w), (pt, ph, pw) = grid, patch
    return rearrange(tokens, "B (t h w) (C pt ph pw) -> B C (t pt) (h ph) (w pw)", t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


class RMSNorm(nn.Module):
    """Root-mean-square norm of each head's channels; takes any dtype and gives float32. One weight for all heads."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "*any K"]) -> Float[Tensor, "*any K"]:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), EPS)


class MLP(nn.Module):
    """Widen with a GELU, narrow."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = GeluLinear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return self.fc2(self.fc1(x))


class Modulation(nn.Module):
    """The condition vector(s) -> `parts` vectors each: shifts, scales and gates.

    A sample brings one vector, or two where frames are given: the first for their tokens (at time 0), the second for the rest.
    """

    def __init__(self, width: int, parts: int):
        super().__init__()
        self.parts = parts
        self.linear = Linear(width, parts * width)

    def forward(self, vector: Float[Tensor, "B S D"]) -> tuple[Float[Tensor, "B S D"], ...]:
        return self.linear(F.silu(vector)).chunk(self.parts, dim=-1)


Given = Bool[Tensor, "B L 1"] | None
"""Tokens of frames that are given and stay as they are; None: no token is."""


def by_token(vectors: Float[Tensor, "B S D"], given: Given) -> Float[Tensor, "B M D"]:
    """Of two vectors (S = 2) the first for given tokens and the second for the others; a single vector serves all."""
    return vectors if given is None else torch.where(given, vectors[:, :1], vectors[:, 1:])


def modulate(
    x: Float[Tensor, "B L D"], shift: Float[Tensor, "B S D"], scale: Float[Tensor, "B S D"], given: Given = None
) -> Float[Tensor, "B L D"]:
    """Layer norm without weights, then scale and shift."""
    x = F.layer_norm(x, x.shape[-1:], eps=EPS)
    return torch.addcmul(by_token(shift, given), x, 1 + by_token(scale, given))  # 1 + scale: its projection starts at zero


def add_gated(
    x: Float[Tensor, "B L D"], gate: Float[Tensor, "B S D"], branch: Float[Tensor, "B L D"], given: Given = None
) -> Float[Tensor, "B L D"]:
    """The gated residual x + gate * branch."""
    return torch.addcmul(x, branch, by_token(gate, given))
