"""Adapters: fresh ones change nothing, merged ones equal those beside the layers, and every dialect means the same weights."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinema.dit.lora import Adapters, LoraConfig, Pair, merge, unmerge
from kinema.dit.model import DiT, DiTConfig
from kinema.errors import InputError, WeightsError
from kinema.weights import convert, describe, to_diffusers
from kinema.weights.lora import DIALECTS, comfy_name, parse, read_lora, write_lora
from kinema.weights.names import TO_THEIRS

CONFIG = DiTConfig(width=48, heads=2, double_blocks=1, single_blocks=2, rope_axes=(8, 8, 8), text_width=20, pooled_width=12, guidance=False)
EVERYWHERE = ("double_blocks", "single_blocks", "txt_in", "time_in", "vector_in", "final_layer")


@pytest.fixture
def dit() -> DiT:
    return random_dit()


def random_dit() -> DiT:
    torch.manual_seed(0)
    dit = DiT(CONFIG)
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return dit.eval()


def inputs() -> tuple:
    draw = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 16, 3, 6, 4, generator=draw),
        torch.tensor([937.5, 412.25]),
        torch.randn(2, 7, 20, generator=draw),
        None,
        torch.randn(2, 12, generator=draw),
    )


def random_adapters(dit: DiT, rank: int = 4, **config) -> Adapters:
    """As if trained: `up` is no longer zero."""
    torch.manual_seed(2)
    adapters = Adapters(dit, LoraConfig(rank=rank, **config))
    for adapter in adapters.named().values():
        torch.nn.init.normal_(adapter.up, std=0.1)
    return adapters


def lora_of(dit: DiT, targets: tuple[str, ...] = EVERYWHERE, **config):
    adapters = random_adapters(dit, targets=targets, **config)
    return adapters.lora(adapters.state_dict())


def same_weights(lora, other) -> None:
    assert lora.pairs.keys() == other.pairs.keys()
    for name, pair in lora.pairs.items():
        torch.testing.assert_close(other.pairs[name].delta(), pair.delta(), rtol=1e-5, atol=1e-6)


def test_fresh_adapters_change_no_bit(dit: DiT):
    before = dit(*inputs())
    adapters = Adapters(dit, LoraConfig(rank=4, targets=EVERYWHERE))
    adapters.attach(dit)
    assert torch.equal(dit(*inputs()), before)
    assert not any("beside" in name or "up" in name.split(".") for name in dit.state_dict())
    adapters.detach(dit)
    merge(dit, [(adapters.lora(adapters.state_dict()), 1.0)])
    with torch.inference_mode():
        merged = dit(*inputs())
    with torch.inference_mode():
        assert torch.equal(merged, random_dit()(*inputs()))


def test_merged_adapters_equal_those_beside_the_layers_and_come_off_to_the_bit(dit: DiT):
    dit.double()
    doubles = tuple(None if each is None else each.double() for each in inputs())
    adapters = random_adapters(dit, targets=EVERYWHERE, alpha=2.0).double()
    plain = dit(*doubles)
    adapters.attach(dit)
    beside = dit(*doubles)
    adapters.detach(dit)
    before = merge(dit, [(adapters.lora(adapters.state_dict()), 1.0)])
    torch.testing.assert_close(dit(*doubles), beside, rtol=1e-5, atol=1e-5)  # norms and rotations are float32
    assert (beside - plain).abs().max() > 0.01
    unmerge(dit, before)
    assert torch.equal(dit(*doubles), plain)


def test_several_adapters_add_up_whatever_their_order(dit: DiT):
    a, b = lora_of(dit, targets=("single_blocks",)), lora_of(dit, rank=2)
    merge(dit, [(a, 0.5), (b, -1.0)])
    other = random_dit()
    merge(other, [(b, -1.0), (a, 0.5)])
    for mine, theirs in zip(dit.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    name = "single_blocks.0.linear1"
    wanted = random_dit().get_submodule(name).weight + 0.5 * a.pairs[name].delta() - b.pairs[name].delta()
    torch.testing.assert_close(dit.get_submodule(name).weight, wanted)


def test_only_adapters_get_gradients(dit: DiT):
    dit.requires_grad_(False)
    adapters = random_adapters(dit, targets=("linear1", "img_mlp.fc1"))
    adapters.attach(dit)
    dit(*inputs()).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in adapters.parameters())
    assert all(parameter.grad is None for parameter in dit.parameters())


def test_dropout_works_in_training_alone(dit: DiT):
    adapters = random_adapters(dit, dropout=0.5)
    adapters.attach(dit)
    assert not torch.equal(dit(*inputs()), dit(*inputs()))
    adapters.eval()
    assert torch.equal(dit(*inputs()), dit(*inputs()))


def test_targets_are_parts_of_names(dit: DiT):
    assert set(Adapters(dit, LoraConfig(targets=("linear1",))).named()) == {"single_blocks.0.linear1", "single_blocks.1.linear1"}
    assert set(Adapters(dit, LoraConfig(targets=("single_blocks.1", "img_mod"))).named()) == {
        "single_blocks.1.modulation.linear",
        "single_blocks.1.linear1",
        "single_blocks.1.linear2",
        "double_blocks.0.img_mod.linear",
    }
    with pytest.raises(InputError, match=r"'to_q' is in no layer's name"):
        Adapters(dit, LoraConfig(targets=("linear1", "to_q")))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_back_the_same_weights(dialect, dit: DiT, tmp_path):
    lora = lora_of(dit, alpha=3.0)
    write_lora(tmp_path / "lora.safetensors", lora, dialect)
    same_weights(lora, read_lora(tmp_path / "lora.safetensors"))
    merge(dit, [(read_lora(tmp_path / "lora.safetensors"), 1.0)])


@pytest.mark.parametrize("layer", [layer for layer in TO_THEIRS if "norm" not in layer])
def test_every_layer_is_known_by_every_name(layer: str):
    ours, theirs = layer.replace("#", "7"), [part.replace("#", "7") for part in TO_THEIRS[layer]]
    for name in (ours, comfy_name(ours)):
        for key in (f"diffusion_model.{name}.lora_A.weight", f"lora_unet_{name.replace('.', '_')}.lora_down.weight"):
            place, kind = parse(key)
            assert (place.layer, place.part, place.parts, kind) == (ours, 0, 1, "down")
    for part, name in enumerate(theirs):
        place, kind = parse(f"transformer.{name}.lora_B.weight")
        assert (place.layer, place.part, place.parts, kind) == (ours, part, len(theirs), "up")


def test_the_published_trainers_own_prefix_is_known():
    place, kind = parse("Hunyuan_video_I2V_lora_double_blocks_12_img_attn_qkv.lora_up.weight")
    assert (place.layer, kind) == ("double_blocks.12.img_attn_qkv", "up")


def test_alpha_comes_from_tensor_metadata_or_config_and_else_is_the_rank(tmp_path):
    halves = {"lora_A.weight": torch.randn(4, 48), "lora_B.weight": torch.randn(48, 4)}
    state = {f"transformer.double_blocks.0.img_attn_proj.{name}": tensor for name, tensor in halves.items()}

    def alpha_of(path) -> float:
        return read_lora(path).pairs["double_blocks.0.img_attn_proj"].alpha

    save_file(state, tmp_path / "none.safetensors")
    save_file(state | {"transformer.double_blocks.0.img_attn_proj.alpha": torch.tensor(2.0)}, tmp_path / "tensor.safetensors")
    notes = json.dumps({"transformer.lora_alpha": 8, "transformer.r": 4})
    save_file(state, tmp_path / "notes.safetensors", metadata={"lora_adapter_metadata": notes})
    assert [alpha_of(tmp_path / f"{name}.safetensors") for name in ("none", "tensor", "notes")] == [4, 2, 8]

    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(state, folder / "adapter_model.safetensors")
    for config, wanted in (
        ({"lora_alpha": 16}, 16),
        ({"lora_alpha": 16, "use_rslora": True}, 16 * math.sqrt(4)),
        ({"lora_alpha": 16, "alpha_pattern": {"img_attn_proj": 6}}, 6),
    ):
        (folder / "adapter_config.json").write_text(json.dumps(config))
        assert alpha_of(folder) == wanted
    (folder / "adapter_config.json").write_text(json.dumps({"use_dora": True}))
    with pytest.raises(WeightsError, match="DoRA"):
        read_lora(folder)


def test_parts_of_a_packed_matrix_may_differ_or_be_absent(dit: DiT, tmp_path):
    draw = torch.Generator().manual_seed(3)
    parts = {"to_q": 2, "to_v": 5}  # ranks; no to_k, and no MLP
    state, wanted = {}, torch.zeros(3 * 48, 48)
    for row, (part, rank) in enumerate(parts.items()):
        down, up = torch.randn(rank, 48, generator=draw), torch.randn(48, rank, generator=draw)
        state |= {
            f"transformer.single_transformer_blocks.1.attn.{part}.lora_A.weight": down,
            f"transformer.single_transformer_blocks.1.attn.{part}.lora_B.weight": up,
        }
        wanted[96 * row : 96 * row + 48] = up @ down
    save_file(state, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    torch.testing.assert_close(lora.pairs["single_blocks.1.linear1"].delta(), wanted)
    before = dit.single_blocks[1].linear1.weight.clone()
    merge(dit, [(lora, 1.0)])
    torch.testing.assert_close(dit.single_blocks[1].linear1.weight[:144], before[:144] + wanted)
    assert torch.equal(dit.single_blocks[1].linear1.weight[144:], before[144:])
    write_lora(tmp_path / "b.safetensors", lora, "diffusers")
    again = load_file(tmp_path / "b.safetensors")
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_unknown_and_missing_keys_are_listed(dit: DiT, tmp_path):
    path, lora = tmp_path / "lora.safetensors", lora_of(dit, targets=("linear2",))
    write_lora(path, lora, "kohya")
    state = load_file(path)
    save_file(state | {"lora_te1_text_model_q.lora_up.weight": torch.ones(2, 2), "x.diff": torch.ones(1)}, tmp_path / "more.safetensors")
    with pytest.raises(WeightsError, match=r"2 of 8 keys .*lora_te1_text_model_q.lora_up.weight, x.diff"):
        read_lora(tmp_path / "more.safetensors")
    del state["lora_unet_single_blocks_1_linear2.lora_up.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"lacks up of single_blocks.1.linear2"):
        read_lora(tmp_path / "less.safetensors")
    lora.pairs["single_blocks.0.linear2"] = Pair(torch.ones(2, 5), torch.ones(48, 2), 2.0)
    lora.pairs["single_blocks.9.linear2"] = lora.pairs["single_blocks.1.linear2"]
    before = dit.state_dict()
    with pytest.raises(WeightsError, match=r"single_blocks.9.linear2"):
        merge(dit, [(lora, 1.0)])
    del lora.pairs["single_blocks.9.linear2"]
    with pytest.raises(WeightsError, match=r"single_blocks.0.linear2 \(48x5 instead of 48x240\)"):
        merge(dit, [(lora, 1.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in dit.state_dict().items())


def test_what_is_known_of_adapters_lies_in_the_file(dit: DiT, tmp_path):
    adapters = random_adapters(dit)
    lora = adapters.lora(adapters.state_dict(), {"trigger": "a zorb", "base_sha256": "ab" * 32})
    write_lora(tmp_path / "lora.safetensors", lora)
    assert read_lora(tmp_path / "lora.safetensors").about == lora.about


def test_diffusers_own_loader_reads_our_file_and_we_read_its(dit: DiT, tmp_path):
    diffusers, _ = pytest.importorskip("diffusers"), pytest.importorskip("peft")
    theirs = diffusers.HunyuanVideoTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=1,
        num_single_layers=2,
        rope_axes_dim=(8, 8, 8),
        text_embed_dim=20,
        pooled_projection_dim=12,
        guidance_embeds=False,
    )
    theirs.load_state_dict(to_diffusers(dit.state_dict()))
    lora = lora_of(dit, alpha=3.0)
    write_lora(tmp_path / "lora.safetensors", lora, "diffusers")
    theirs.load_lora_adapter(str(tmp_path / "lora.safetensors"), prefix="transformer", adapter_name="default")
    theirs.save_lora_adapter(str(tmp_path / "back"))
    theirs.fuse_lora(lora_scale=0.5)
    theirs.unload_lora()
    merge(dit, [(lora, 0.5)])
    mine = to_diffusers(dit.state_dict())
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(tensor, mine[name], rtol=1e-5, atol=1e-6)
    same_weights(lora, read_lora(tmp_path / "back"))


def test_peft_reads_our_folder(dit: DiT, tmp_path):
    peft = pytest.importorskip("peft")
    lora = lora_of(dit, targets=("img_attn_qkv", "img_attn_proj", "linear2"), alpha=3.0)
    write_lora(tmp_path / "lora", lora, "peft")
    theirs = peft.PeftModel.from_pretrained(random_dit(), tmp_path / "lora").merge_and_unload()
    merge(dit, [(lora, 1.0)])
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(tensor, dit.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_files_are_described_and_rewritten_in_another_dialect(dit: DiT, tmp_path):
    adapters = random_adapters(dit, alpha=2.0)
    lora = adapters.lora(adapters.state_dict(), {"trigger": "zorb"})
    write_lora(tmp_path / "a.safetensors", lora, "kohya")
    facts = describe(tmp_path / "a.safetensors")
    assert (facts["holds"], facts["rank"], facts["alpha"], facts["about"]) == ("LoRA", 4, [2.0], {"trigger": "zorb"})
    convert(tmp_path / "a.safetensors", tmp_path / "b", "peft")
    again = read_lora(tmp_path / "b")
    same_weights(lora, again)
    assert again.about == {"trigger": "zorb"}
    with pytest.raises(WeightsError, match="comfy, kohya, diffusers, peft"):
        convert(tmp_path / "a.safetensors", tmp_path / "c.safetensors", "published")
