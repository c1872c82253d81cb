"""GGUF: what was quantised is read back within the quantiser's bound, whole, block by block and from the command line."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

import kinema
from kinema.dit.model import DiT, DiTConfig
from kinema.errors import WeightsError
from kinema.pipelines.base import ModelConfig
from kinema.weights import describe, load_dit, load_state
from kinema.weights.lazy import LazyState

Command = Callable[..., "subprocess.CompletedProcess[str]"]
HALF = 2**-10  # of 16-bit scales, and of what is widened
BOUNDS = {Kind.F16: HALF, Kind.BF16: 2**-8, Kind.Q8_0: 1 / 254 + HALF, Kind.Q5_0: 1 / 16 + HALF, Kind.Q4_0: 1 / 8 + HALF}
"""Of the largest number in a group of 32."""
SCALES = {Kind.Q4_K: slice(0, 4), Kind.Q5_K: slice(0, 4), Kind.Q6_K: slice(208, 210)}  # where a block of 256 keeps its 16-bit scales


def write(path: Path, state: dict[str, Tensor], kind: Kind, original_shape: bool = True) -> None:
    """As ComfyUI's converter does: matrices whose rows fit are quantised, others are kept; of five axes only the last two stay."""
    writer = gguf.GGUFWriter(path, "hyvid")
    for name, tensor in state.items():
        values = tensor.float().numpy()
        if values.ndim > 4 and original_shape:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
            values = values.reshape(len(values), -1)
        packs = values.ndim == 2 and values.shape[1] % 32 == 0
        writer.add_tensor(name, gguf.quants.quantize(values, kind) if packs else values, raw_dtype=kind if packs else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def config(tiny_config: ModelConfig) -> DiTConfig:
    return replace(tiny_config.dit, width=64, rope_axes=(8, 12, 12))


@pytest.fixture(scope="module")
def state(config: DiTConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in DiT(config).state_dict().items()}


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("original_shape", [True, False])
def test_weights_come_back_within_the_quantisers_bound(
    kind: Kind, original_shape: bool, config: DiTConfig, state: dict[str, Tensor], tmp_path: Path
):
    write(tmp_path / "dit.gguf", state, kind, original_shape)
    found = load_dit(tmp_path / "dit.gguf", config).state_dict()
    assert found.keys() == state.keys()
    for name, wide in state.items():
        groups, error = wide.reshape(-1), (found[name].float() - wide).abs().reshape(-1)
        most = groups.abs().max() if len(groups) % 32 else groups.view(-1, 32).abs().amax(1, keepdim=True)
        assert (error.view_as(groups) if len(groups) % 32 else error.view(-1, 32)).le(BOUNDS[kind] * most + 1e-6).all(), name


@pytest.mark.parametrize("kind", SCALES)
def test_blocks_of_256_are_read_in_their_order(kind: Kind, tmp_path: Path):
    """The package does not write these: any bytes with finite scales are a matrix, and it says which."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 256, (3, 2 * size), np.uint8)
    scales = raw.reshape(-1, size)[:, SCALES[kind]]
    scales[:] = np.full(scales.shape[1] // 2, 0.01, np.float16).view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "hyvid")
    writer.add_tensor("model.diffusion_model.a.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (found,) = load_state(tmp_path / "one.gguf").values()
    wanted = torch.from_numpy(gguf.quants.dequantize(raw, kind))
    assert found.shape == (3, 512)
    torch.testing.assert_close(found.float(), wanted, rtol=1e-3, atol=1e-4)


def test_a_block_at_a_time_gives_the_same_latents_and_the_whole_is_described(tiny_folder: Path, tiny_config: ModelConfig, tmp_path: Path):
    path = tmp_path / "dit.gguf"
    write(path, load_state(tiny_folder / "dit.safetensors"), Kind.Q8_0)
    whole, streamed = (kinema.load(weights=tiny_folder, dit=path, offload=offload) for offload in ("none", "blocks"))
    request = whole.config.request("A cat.", seed=1, steps=2)
    latents = whole.sample(request)
    assert torch.equal(latents, streamed.sample(request))
    plain = kinema.load(weights=tiny_folder).sample(request)
    assert 0 < float((latents - plain).norm() / plain.norm()) < 0.1
    facts = describe(path)
    assert facts["dtypes"] == ["F32", "Q8_0"]
    assert facts["config"]["width"] == tiny_config.dit.width
    assert LazyState(path).groups.keys() == {"", "double_blocks.0", "single_blocks.0"}


def test_what_is_cut_short_or_unknown_is_refused(config: DiTConfig, state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "dit.gguf"
    write(path, state, Kind.Q8_0)
    content = path.read_bytes()
    for kept in (20, len(content) // 2, len(content) - 5000):
        path.write_bytes(content[:kept])
        with pytest.raises(WeightsError, match="damaged"):
            load_state(path)
    raw = np.zeros((1, gguf.GGML_QUANT_SIZES[Kind.Q8_K][1]), np.uint8)
    writer = gguf.GGUFWriter(path, "hyvid")
    writer.add_tensor("a.weight", raw, raw_dtype=Kind.Q8_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(WeightsError, match="Q8_K"):
        load_state(path)


def test_commands_take_it(command: Command, tiny_folder: Path, tmp_path: Path):
    write(tmp_path / "dit.gguf", load_state(tiny_folder / "dit.safetensors"), Kind.Q8_0)
    for words in (("convert", "dit.gguf", "dit.safetensors"), ("quantize", "dit.gguf", "few.safetensors", "--to", "int4")):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    small, large = (
        load_dit(tmp_path / name, kinema.load(weights=tiny_folder).config.dit) for name in ("few.safetensors", "dit.safetensors")
    )
    first, second = (model.double_blocks[0].img_mlp.fc1.weight.detach().float() for model in (small, large))
    assert 0 < float((first - second).norm() / second.norm()) < 0.2
