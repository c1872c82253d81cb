"""Adapter files in every dialect that users meet <-> `Lora`, strict both ways: a key that is unknown or lacks its half is an error.

PEFT       base_model.model.LAYER.lora_A.weight, .lora_B.weight; rank and alpha in adapter_config.json beside it; a folder
kohya      lora_unet_LAYER_with_underscores.lora_down.weight, .lora_up.weight, .alpha; also HunyuanVideo-I2V's own prefix
diffusers  transformer.LAYER.lora_A.weight, .lora_B.weight with its own layer names: q, k, v and MLP apart; alpha in the file's metadata
Comfy      diffusion_model.LAYER.lora_A.weight, .lora_B.weight, .alpha, with ComfyUI's layer names

A file may mix them: a key is understood by its ending, then its prefix, then its layer. Where q, k and v come apart, their adapters
are set on the diagonal of one; written apart again, each takes back only its own rows.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinema.dit.lora import Lora, Pair
from kinema.errors import OutputError, WeightsError
from kinema.media.files import whole_file
from kinema.weights.names import SWAPPED, TO_THEIRS, swap_halves
from kinema.weights.read import State, listed, load_state

Dialect = Literal["comfy", "kohya", "diffusers", "peft"]
DIALECTS: tuple[Dialect, ...] = ("comfy", "kohya", "diffusers", "peft")

ENDINGS = {
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora_down.weight": "down",
    ".lora.down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora_up.weight": "up",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
}
PREFIXES = re.compile(
    r"^(base_model\.model\.|transformer\.|diffusion_model\.|unet\.|lora_unet_|lora_transformer_|Hunyuan_video(_I2V)?_lora_)"
)
COMFY_WORDS = (
    ("_attn_qkv", "_attn.qkv"),
    ("_attn_proj", "_attn.proj"),
    ("_mod.linear", "_mod.lin"),
    (".modulation.linear", ".modulation.lin"),
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.2"),
    ("_in.mlp.0", "_in.in_layer"),
    ("_in.mlp.2", "_in.out_layer"),
    ("t_embedder.mlp.0", "t_embedder.in_layer"),
    ("t_embedder.mlp.2", "t_embedder.out_layer"),
    ("c_embedder.linear_1", "c_embedder.in_layer"),
    ("c_embedder.linear_2", "c_embedder.out_layer"),
)
"""How ComfyUI's names differ from the published ones."""
OUR_KEY, DIFFUSERS_KEY, PEFT_CONFIG, PEFT_FILE = "kinema", "lora_adapter_metadata", "adapter_config.json", "adapter_model.safetensors"


class Place(NamedTuple):
    """Where an adapter belongs: a layer of ours with `#` for its block, and which of its packed parts (0 of 1: the whole)."""

    layer: str
    part: int
    parts: int
    swapped: bool = False  # do its rows come in diffusers' order of halves


def comfy_name(layer: str) -> str:
    for ours, theirs in COMFY_WORDS:
        layer = layer.replace(ours, theirs)
    return layer


def places() -> dict[str, Place]:
    """Every name of every layer that an adapter may have, dots and block numbers as `.` and `#`."""
    found = {name: Place(layer, 0, 1) for layer in TO_THEIRS for name in (layer, comfy_name(layer))}
    theirs = {part: Place(ours, n, len(parts), ours == SWAPPED) for ours, parts in TO_THEIRS.items() for n, part in enumerate(parts)}
    return found | theirs


PLACES = places()
FLAT_PLACES = {name.replace(".", "_"): place for name, place in PLACES.items()}


def place_of(name: str) -> tuple[Place, str] | None:
    """The place of a layer's name, dotted or with underscores, and its block number."""
    number = re.search(r"blocks[._](\d+)[._]", name)
    pattern = re.sub(r"(blocks[._])\d+([._])", r"\1#\2", name, count=1)
    place = PLACES.get(pattern) or FLAT_PLACES.get(pattern.replace(".", "_"))
    return (place, number[1] if number else "") if place else None


def parse(key: str) -> tuple[Place, str] | None:
    """Where a key belongs, in full, and its kind (down, up or alpha); None where it is not understood."""
    ending = next((ending for ending in ENDINGS if key.endswith(ending)), None)
    found = place_of(PREFIXES.sub("", PREFIXES.sub("", key.removesuffix(ending)))) if ending else None
    if ending is None or found is None:
        return None
    place, number = found
    return place._replace(layer=place.layer.replace("#", number)), ENDINGS[ending]


def read_lora(path: Path) -> Lora:
    """The adapters of a file, or of a PEFT folder.

    Raises WeightsError where it cannot be read, or a key is unknown, lacks its half or does not meet it.
    """
    state, notes = load_state(path), metadata_of(path)
    parsed = {key: parse(key) for key in state}
    unknown = sorted(key for key, found in parsed.items() if found is None)
    if unknown:
        raise WeightsError(f"{path}: {len(unknown)} of {len(state)} keys are no adapter of this transformer: {listed(unknown)}")
    halves: dict[Place, dict[str, Tensor]] = defaultdict(dict)
    for key, (place, kind) in parsed.items():  # type: ignore[misc]
        halves[place][kind] = state[key]
    missing = sorted(f"{kind} of {place.layer}" for place, found in halves.items() for kind in ("down", "up") if kind not in found)
    if missing:
        raise WeightsError(f"{path} is not whole, it lacks {listed(missing)}: download it again")
    alpha_of = alphas_of(path, notes)
    layers: dict[str, dict[Place, Pair]] = defaultdict(dict)
    for place, found in halves.items():
        layers[place.layer][place] = pair_of(path, place, found, alpha_of)
    return Lora({layer: pack(parts) for layer, parts in layers.items()}, json.loads(notes.get(OUR_KEY, "{}")))


def metadata_of(path: Path) -> dict[str, str]:
    file = path / PEFT_FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != ".safetensors":
        return {}
    with safe_open(file, "pt") as opened:  # it is sound: its tensors were read
        return opened.metadata() or {}


def alphas_of(path: Path, notes: dict[str, str]) -> Callable[[str, int], float]:
    """What says alpha where no tensor does: (layer, rank) -> alpha; where nothing does, alpha is the rank.

    Raises WeightsError for DoRA.
    """
    config: dict[str, Any] = {}
    if (path / PEFT_CONFIG).is_file():
        config = json.loads((path / PEFT_CONFIG).read_text(encoding="utf-8"))
    elif DIFFUSERS_KEY in notes:
        config = {key.removeprefix("transformer."): value for key, value in json.loads(notes[DIFFUSERS_KEY]).items()}
    if config.get("use_dora"):
        raise WeightsError(f"{path} holds DoRA adapters, which scale weights as well: only plain LoRA is known here")
    pattern, power = config.get("alpha_pattern") or {}, 0.5 if config.get("use_rslora") else 0.0

    def alpha(layer: str, rank: int) -> float:
        own = next((value for name, value in pattern.items() if f".{layer}".endswith(f".{name}")), None)
        return float((own or config.get("lora_alpha") or rank) * rank**power)

    return alpha


def pair_of(path: Path, place: Place, found: dict[str, Tensor], alpha_of: Callable[[str, int], float]) -> Pair:
    down, up = found["down"], found["up"]
    if down.ndim != 2 or up.ndim != 2 or up.shape[1] != len(down):
        raise WeightsError(f"{path}: the halves of {place.layer} do not meet: down {list(down.shape)}, up {list(up.shape)}")
    alpha = float(found["alpha"]) if "alpha" in found else alpha_of(place.layer, len(down))
    return Pair(down, swap_halves(up) if place.swapped else up, alpha)


def pack(parts: dict[Place, Pair]) -> Pair:
    """One adapter of a packed matrix from those of its parts, any of which may be absent.

    Parts that share `down` keep their rank; others stand on a diagonal. Absent rows at the end are left out.
    """
    pairs = {place.part: pair for place, pair in parts.items()}
    first = next(iter(pairs.values()))
    if next(iter(parts)).parts == 1:
        return first
    width, last = first.down.shape[1], max(pairs)
    rows = [len(pairs[n].up) if n in pairs else width for n in range(last + 1)]  # q, k and v have as many rows as columns
    if all(pair.alpha == first.alpha and torch.equal(pair.down, first.down) for pair in pairs.values()):
        ups = [pairs[n].up if n in pairs else first.up.new_zeros(rows[n], len(first.down)) for n in range(last + 1)]
        return Pair(first.down, torch.cat(ups), first.alpha)
    rank = sum(len(pair.down) for pair in pairs.values())
    up, top, left = first.up.new_zeros(sum(rows), rank), [0, *accumulate(rows)], 0
    for n, pair in sorted(pairs.items()):
        up[top[n] : top[n + 1], left : left + len(pair.down)] = pair.up * pair.scale
        left += len(pair.down)
    return Pair(torch.cat([pairs[n].down for n in sorted(pairs)]), up, float(rank))


def unpack(layer: str, pair: Pair) -> dict[str, Pair]:
    """The adapters of diffusers' layers for one of ours; a part without any rows of its own is left out."""
    number = re.search(r"blocks\.(\d+)\.", layer)
    names = TO_THEIRS[re.sub(r"blocks\.\d+\.", "blocks.#.", layer, count=1)]
    names = tuple(name.replace("#", number[1]) if number else name for name in names)
    if len(names) == 1:
        return {names[0]: replace(pair, up=swap_halves(pair.up)) if layer == SWAPPED else pair}
    width = pair.down.shape[1]
    found = {}
    for name, up in zip(names, pair.up.tensor_split(list(accumulate([width] * (len(names) - 1)))), strict=True):
        own = up.ne(0).any(0)  # a part's ranks
        if own.any():
            found[name] = Pair(pair.down[own], up[:, own], pair.scale * int(own.sum()))
    return found


def write_lora(path: Path, lora: Lora, dialect: Dialect = "comfy") -> None:
    """Write adapters as a safetensors file, or with `peft` as a folder. It appears whole or not at all.

    Raises OutputError where it cannot be written.
    """
    notes = {"format": "pt", OUR_KEY: json.dumps(lora.about)}
    if dialect == "peft":
        path.mkdir(parents=True, exist_ok=True)
        with whole_file(path / PEFT_CONFIG) as draft:
            draft.write_text(json.dumps(peft_config(lora), indent=1), encoding="utf-8")
        path = path / PEFT_FILE
    with whole_file(path) as draft:
        try:
            save_file({name: tensor.contiguous().clone() for name, tensor in WRITERS[dialect](lora).items()}, draft, metadata=notes)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}; choose another folder, or free some space there") from error


def peft_state(lora: Lora) -> State:
    return named(lora.pairs, lambda layer: f"base_model.model.{layer}", ("lora_A", "lora_B"), alpha=False)


def peft_config(lora: Lora) -> dict[str, Any]:
    """PEFT's own description of the adapters."""
    first = next(iter(lora.pairs.values()))
    return {
        "peft_type": "LORA",
        "r": len(first.down),
        "lora_alpha": first.alpha,
        "rank_pattern": {layer: len(pair.down) for layer, pair in lora.pairs.items() if len(pair.down) != len(first.down)},
        "alpha_pattern": {layer: pair.alpha for layer, pair in lora.pairs.items() if pair.alpha != first.alpha},
        "target_modules": list(lora.pairs),
        "base_model_name_or_path": lora.about.get("base_model"),
        "bias": "none",
        "inference_mode": True,
    }


def kohya_state(lora: Lora) -> State:
    return named(lora.pairs, lambda layer: f"lora_unet_{layer.replace('.', '_')}", ("lora_down", "lora_up"), alpha=True)


def comfy_state(lora: Lora) -> State:
    return named(lora.pairs, lambda layer: f"diffusion_model.{comfy_name(layer)}", ("lora_A", "lora_B"), alpha=True)


def diffusers_state(lora: Lora) -> State:
    """With the scale within `up`: older versions read no alpha, and none take it as a tensor."""
    pairs = {name: part for layer, pair in lora.pairs.items() for name, part in unpack(layer, pair).items()}
    scaled = {name: replace(pair, up=pair.up * pair.scale) for name, pair in pairs.items()}
    return named(scaled, lambda layer: f"transformer.{layer}", ("lora_A", "lora_B"), alpha=False)


def named(pairs: dict[str, Pair], name: Callable[[str], str], words: tuple[str, str], alpha: bool) -> State:
    state: State = {}
    for layer, pair in pairs.items():
        state |= {f"{name(layer)}.{words[0]}.weight": pair.down, f"{name(layer)}.{words[1]}.weight": pair.up}
        state |= {f"{name(layer)}.alpha": torch.tensor(pair.alpha)} if alpha else {}
    return state


WRITERS: dict[Dialect, Callable[[Lora], State]] = {
    "comfy": comfy_state,
    "kohya": kohya_state,
    "diffusers": diffusers_state,
    "peft": peft_state,
}
