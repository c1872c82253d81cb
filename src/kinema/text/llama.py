"""A Llama decoder, read only as far as its hidden states are wanted.

Diffusion models condition on a late hidden state of a language model, not on its words: so there is no final norm, no head, no
cache, and layers past the wanted one are neither built nor loaded. Parameter names are those of the published checkpoints.
Prompts are padded on the right: under causal attention a real token never sees the padding, so no mask is needed.

Source: Touvron et al. 2023 (arXiv 2302.13971); grouped keys and values: Ainslie et al. 2023 (arXiv 2305.13245).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.errors import WeightsError

NAME_PREFIXES = ("language_model.model.", "model.language_model.", "model.", "")
"""Where published folders hang the decoder: whole LLaVA (two dialects), a causal LM, the bare model."""


@dataclass(frozen=True, kw_only=True)
class LlamaSize:
    """Size of a Llama decoder."""

    vocab: int
    width: int  # D
    mlp_width: int
    layers: int
    heads: int  # N
    kv_heads: int  # n: each serves N / n heads
    head_width: int  # K
    rope_theta: float
    norm_eps: float

    @classmethod
    def read(cls, config: Path) -> "LlamaSize":
        """From a published config.json; of a whole LLaVA the language part is taken.

        Raises WeightsError where it is no plain Llama (another family, biases, stretched positions).
        """
        fields = json.loads(config.read_text())
        fields = fields.get("text_config") or fields
        rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
        kind, stretch = fields.get("model_type"), rope.get("rope_type", "default")
        if kind != "llama" or stretch != "default" or fields.get("attention_bias") or fields.get("mlp_bias"):
            raise WeightsError(f"{config}: model_type={kind!r}, rope_type={stretch!r}: only a plain Llama without biases can be read here")
        return cls(
            vocab=fields["vocab_size"],
            width=fields["hidden_size"],
            mlp_width=fields["intermediate_size"],
            layers=fields["num_hidden_layers"],
            heads=fields["num_attention_heads"],
            kv_heads=fields.get("num_key_value_heads") or fields["num_attention_heads"],
            head_width=fields.get("head_dim") or fields["hidden_size"] // fields["num_attention_heads"],
            rope_theta=float(rope.get("rope_theta") or fields.get("rope_theta", 10_000.0)),
            norm_eps=fields["rms_norm_eps"],
        )


def rotary_table(length: int, size: LlamaSize, device: torch.device) -> tuple[Float[Tensor, "L K"], Float[Tensor, "L K"]]:
    """Cosines and sines of each position's angles, float32; channel i turns together with channel i + K/2."""
    steps = torch.arange(0, size.head_width, 2, device=device, dtype=torch.float32) / size.head_width
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), size.rope_theta**-steps)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(heads: Float[Tensor, "B N L K"], cos: Float[Tensor, "L K"], sin: Float[Tensor, "L K"]) -> Float[Tensor, "B N L K"]:
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-second, first], dim=-1) * sin


class Linear(nn.Linear):
    """A projection that waits for loaded weights: a random start would cost a second."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__(width_in, width_out, bias=False)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table that waits for loaded weights."""

    def reset_parameters(self) -> None:
        pass


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, whatever the dtype around it."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and shared keys and values."""

    def __init__(self, size: LlamaSize):
        super().__init__()
        self.heads, self.kv_heads = size.heads, size.kv_heads
        self.q_proj = Linear(size.width, size.heads * size.head_width)
        self.k_proj = Linear(size.width, size.kv_heads * size.head_width)
        self.v_proj = Linear(size.width, size.kv_heads * size.head_width)
        self.o_proj = Linear(size.heads * size.head_width, size.width)

    def forward(self, x: Float[Tensor, "B L D"], cos: Float[Tensor, "L K"], sin: Float[Tensor, "L K"]) -> Float[Tensor, "B L D"]:
        q = rearrange(self.q_proj(x), "B L (N K) -> B N L K", N=self.heads)
        k, v = (rearrange(proj(x), "B L (n K) -> B n L K", n=self.kv_heads) for proj in (self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (repeat(shared, "B n L K -> B (n g) L K", g=self.heads // self.kv_heads) for shared in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(rearrange(mixed, "B N L K -> B L (N K)"))


class GatedMLP(nn.Module):
    """SiLU-gated feed-forward."""

    def __init__(self, size: LlamaSize):
        super().__init__()
        self.gate_proj = Linear(size.width, size.mlp_width)
        self.up_proj = Linear(size.width, size.mlp_width)
        self.down_proj = Linear(size.mlp_width, size.width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, size: LlamaSize):
        super().__init__()
        self.input_layernorm = RMSNorm(size.width, size.norm_eps)
        self.self_attn = Attention(size)
        self.post_attention_layernorm = RMSNorm(size.width, size.norm_eps)
        self.mlp = GatedMLP(size)

    def forward(self, x: Float[Tensor, "B L D"], cos: Float[Tensor, "L K"], sin: Float[Tensor, "L K"]) -> Float[Tensor, "B L D"]:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The first `layers` layers of a decoder: token ids in, the state after the last of them out."""

    def __init__(self, size: LlamaSize, layers: int):
        super().__init__()
        self.size = size
        self.embed_tokens = Embedding(size.vocab, size.width)
        self.layers = nn.ModuleList(Layer(size) for _ in range(layers))

    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        return self.run(self.embed_tokens(ids))

    def run(self, states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """From embeddings, which need not be words'."""
        cos, sin = (table.to(states.dtype) for table in rotary_table(states.shape[1], self.size, states.device))
        for layer in self.layers:
            states = layer(states, cos, sin)
        return states


def load_llama(folder: Path, skip_layers: int, device: torch.device, dtype: torch.dtype) -> Llama:
    """A decoder from a published folder (config.json and *.safetensors) without its last `skip_layers` layers.

    hidden_states[-(skip + 1)] of the published model is the state after all but `skip` layers.
    Raises WeightsError where a file or a tensor is missing or has another shape.
    """
    size = LlamaSize.read(folder / "config.json")
    with torch.device("meta"):
        model = Llama(size, size.layers - skip_layers)
    state = read_tensors(folder, list(model.state_dict()), device, dtype)
    for name, parameter in model.named_parameters():
        if state[name].shape != parameter.shape:
            raise WeightsError(f"{folder}: {name} has shape {tuple(state[name].shape)}, config.json asks for {tuple(parameter.shape)}")
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def read_tensors(
    folder: Path, names: list[str], device: torch.device, dtype: torch.dtype, prefixes: Sequence[str] = NAME_PREFIXES
) -> dict[str, Tensor]:
    """The named tensors, and no others, from the safetensors files of a folder, under any of these prefixes."""
    state: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt", device=str(device)) as file:
            held = set(file.keys())
            prefix = next((p for p in prefixes if any(p + name in held for name in names)), "")
            state |= {name: file.get_tensor(prefix + name).to(dtype) for name in names if prefix + name in held}
    missing = [name for name in names if name not in state]
    if missing:
        shown = ", ".join(missing[:3])
        raise WeightsError(f"{folder}: {len(missing)} of {len(names)} tensors are missing from its *.safetensors files ({shown} ...)")
    return state
