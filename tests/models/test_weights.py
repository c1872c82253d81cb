"""Checkpoints in every wrapping load unchanged; whatever does not fit is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinema.dit.model import DiT
from kinema.errors import OutputError, WeightsError
from kinema.presets import MODELS
from kinema.vae.model import CausalVAE, VAEConfig
from kinema.weights import convert, describe, from_diffusers, infer_dit_config, load_dit, load_state, load_vae, to_diffusers

CONFIG = MODELS["tiny"]().dit
VAE = VAEConfig(channels=(8, 16, 16, 16), encoder_layers=(1,) * 4, decoder_layers=(2,) * 4, groups=4)
KNOWN = {"rope_axes": CONFIG.rope_axes}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn_like(tensor) for name, tensor in DiT(CONFIG).state_dict().items()}


def same(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("wrap", [lambda s: {"module": s, "step": 3}, lambda s: {"ema": s}, lambda s: {"state_dict": s}, lambda s: s])
def test_published_checkpoints_load_whatever_wraps_them(state, wrap, tmp_path: Path):
    torch.save(wrap(state), tmp_path / "model.pt")
    assert same(load_dit(tmp_path / "model.pt", CONFIG), state)


def test_the_key_chooses_between_weights(state, tmp_path: Path):
    averaged = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"module": state, "ema": averaged}, tmp_path / "model.pt")
    assert same(load_dit(tmp_path / "model.pt", CONFIG), state)
    assert same(load_dit(tmp_path / "model.pt", CONFIG, "ema"), averaged)
    with pytest.raises(WeightsError, match="'state_dict'; it has module, ema"):
        load_state(tmp_path / "model.pt", "state_dict")


def test_safetensors_and_folders_and_old_pickles_load(state, tmp_path: Path):
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "folder").mkdir()
    save_file(to_diffusers(state), tmp_path / "folder" / "diffusion_pytorch_model.safetensors")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("model.safetensors", "folder", "old.pt"):
        assert same(load_dit(tmp_path / name, CONFIG), state), name


def test_wrappers_prefixes_are_dropped(state, tmp_path: Path):
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "wrapped.pt")
    assert same(load_dit(tmp_path / "wrapped.pt", CONFIG), state)


def test_an_autoencoder_loads_from_among_other_things(tmp_path: Path):
    vae = CausalVAE(VAE).state_dict()
    torch.save({"state_dict": {f"vae.{name}": tensor for name, tensor in vae.items()} | {"loss.x": torch.ones(1)}}, tmp_path / "vae.pt")
    assert same(load_vae(tmp_path / "vae.pt", VAE), vae)


def test_loading_copies_nothing(state, tmp_path: Path):
    half = {name: tensor.bfloat16() for name, tensor in state.items()}
    save_file(half, tmp_path / "model.safetensors")
    dit = load_dit(tmp_path / "model.safetensors", CONFIG)
    assert {p.dtype for p in dit.parameters()} == {torch.bfloat16}
    dit(torch.zeros(1, 16, 1, 2, 2).bfloat16(), torch.ones(1), torch.zeros(1, 2, 576).bfloat16(), None, torch.zeros(1, 576).bfloat16())


def test_every_key_that_does_not_fit_is_listed(state, tmp_path: Path):
    wrong = {name: tensor for name, tensor in state.items() if not name.startswith("txt_in")}
    wrong |= {f"extra.{i}": torch.ones(1) for i in range(20)} | {"final_layer.linear.bias": torch.ones(3)}
    save_file(wrong, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError) as error:
        load_dit(tmp_path / "model.safetensors", CONFIG)
    text = str(error.value)
    lacking = sum(name.startswith("txt_in") for name in state)
    assert f"{lacking} missing (txt_in.c_embedder" in text
    assert "20 unknown (extra.0" in text
    assert "and 8 more" in text
    assert "1 misshapen (final_layer.linear.bias is [3], not [64])" in text
    assert "\n" not in text


def test_another_size_is_named(state, tmp_path: Path):
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="width=32 instead of 384"):
        load_dit(tmp_path / "model.safetensors", MODELS["mini"]().dit)


class Trap:
    def __reduce__(self):
        return print, ("code ran",)


def write_trap(path: Path) -> None:
    torch.save({"module": {"a": torch.ones(1)}, "trap": Trap()}, path)


def write_cut(path: Path) -> None:
    torch.save({"a": torch.randn(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])


def write_old_cut(path: Path) -> None:
    torch.save({"a": torch.randn(10_000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:20_000])


def write_cut_safetensors(path: Path) -> None:
    save_file({"a": torch.randn(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])


def write_empty_folder(path: Path) -> None:
    path.mkdir()


def write_full_folder(path: Path) -> None:
    path.mkdir()
    for name in "ab":
        save_file({"a": torch.ones(1)}, path / f"{name}.safetensors")


def write_lost_shards(path: Path) -> None:
    path.mkdir()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    save_file({"a": torch.ones(1)}, path / "one.safetensors")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "no safetensors, PyTorch or GGUF file"),
        (write_trap, "holds code"),
        (write_cut, "cut short"),
        (write_old_cut, "damaged"),
        (write_cut_safetensors, "cut short"),
        (write_empty_folder, "no weights"),
        (write_full_folder, "2 files of weights"),
        (write_lost_shards, r"1 are missing \(two"),
        (lambda path: torch.save([torch.ones(1)], path), "holds a list"),
        (lambda path: torch.save({"a": 3, "b": torch.ones(1)}, path), "a are no tensors"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(write, words: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    write(tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=words) as error:
        load_state(tmp_path / "model.pt")
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "code ran" not in capsys.readouterr().out


def test_names_go_both_ways(state):
    back = from_diffusers(to_diffusers(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_an_unknown_or_missing_part_is_named(state):
    with pytest.raises(WeightsError, match=r"1 keys .* double_blocks\.0\.odd\.weight"):
        to_diffusers(state | {"double_blocks.0.odd.weight": torch.ones(1)})
    theirs = to_diffusers(state)
    for lost in ("attn.to_q", "attn.to_k", "proj_mlp"):
        name = f"single_transformer_blocks.0.{lost}.weight"
        with pytest.raises(WeightsError, match=r"belongs? to the same matrix"):
            from_diffusers({key: tensor for key, tensor in theirs.items() if key != name})


@pytest.mark.parametrize("layout", ["safetensors", "published", "diffusers"])
def test_conversion_keeps_every_number(state, layout, tmp_path: Path):
    torch.save({"module": state}, tmp_path / "model.pt")
    convert(tmp_path / "model.pt", tmp_path / "there", layout)
    assert same(load_dit(tmp_path / "there", CONFIG), state)
    convert(tmp_path / "there", tmp_path / "back.safetensors", "published")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.safetensors", "model.pt", "there"]


def test_an_autoencoder_becomes_a_diffusers_folder(tmp_path: Path):
    vae = CausalVAE(VAE)
    save_file({name: tensor.contiguous() for name, tensor in vae.state_dict().items()}, tmp_path / "vae.safetensors")
    convert(tmp_path / "vae.safetensors", tmp_path / "there", "diffusers")
    fields = json.loads((tmp_path / "there" / "config.json").read_text())
    assert fields["block_out_channels"] == [8, 16, 16, 16]
    assert same(load_vae(tmp_path / "there", VAE), vae.state_dict())


def test_what_has_no_diffusers_layout_is_refused(tmp_path: Path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="no diffusers layout"):
        convert(tmp_path / "a.safetensors", tmp_path / "there", "diffusers")
    assert not (tmp_path / "there").exists()


def test_a_folder_is_never_overwritten(state, tmp_path: Path):
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="there already"):
        convert(tmp_path / "model.safetensors", tmp_path / "there", "diffusers")


def test_a_file_says_what_it_is(state, tmp_path: Path):
    save_file(to_diffusers({name: tensor.bfloat16() for name, tensor in state.items()}), tmp_path / "model.safetensors")
    found = describe(tmp_path / "model.safetensors")
    assert found["holds"] == "HunyuanVideo DiT"
    assert (found["names"], found["dtypes"], found["format"]) == ("diffusers", ["bfloat16"], "safetensors")
    assert found["parameters"] == sum(tensor.numel() for tensor in state.values())
    assert found["config"]["width"] == CONFIG.width
    assert json.loads(json.dumps(found))


def test_shapes_tell_the_config(state):
    assert infer_dit_config(state, **KNOWN) == CONFIG
    with pytest.raises(WeightsError, match="not HunyuanVideo's DiT"):
        infer_dit_config({"a": torch.ones(1)})


def test_autoencoders_and_other_files_say_what_they_are(tmp_path: Path):
    def described(tensors: dict[str, torch.Tensor]) -> dict:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "x.safetensors")
        return describe(tmp_path / "x.safetensors")

    published = described(CausalVAE(VAE).state_dict())
    assert published["holds"] == "HunyuanVideo VAE"
    assert published["config"]["channels"] == VAE.channels
    assert described(CausalVAE(MODELS["tiny"]().vae).state_dict())["holds"] == "Kinema VAE"
    assert described({"weights.a": torch.ones(1), "output.a": torch.ones(1)})["holds"].startswith("witness")
    assert described({"a.lora_down.weight": torch.ones(1)})["holds"] == "LoRA"
    assert described({"a": torch.ones(1)})["config"] is None


def test_a_target_that_cannot_be_written_is_refused(state, tmp_path: Path):
    save_file(state, tmp_path / "model.safetensors")
    for layout in ("published", "diffusers"):
        with pytest.raises(OutputError, match="another folder"):
            convert(tmp_path / "model.safetensors", tmp_path / "absent" / "there", layout)
