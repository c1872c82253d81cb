"""Plans: as much memory as the work then takes, and the cheapest change that fits."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinema.dit.model import DiT
from kinema.dit.quantise import FORMS
from kinema.errors import InputError
from kinema.parallel.mesh import MeshConfig
from kinema.pipelines.dryrun import need_of_dit, need_of_vae
from kinema.pipelines.placement import planned
from kinema.pipelines.plan import Plan, Rates, changes, cheapest, fitting_tile, place, read_memory
from kinema.presets import MODELS
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig, mini_vae
from kinema.weights import load_state

CODE = 32_000_000  # of libraries, read into memory when they first work
PEAK = """
import sys
from functools import partial
import torch
from kinema.evaluate.bench import sides
from kinema.evaluate.bench.memory import growth
from kinema.pipelines.placement import Placement
from kinema.pipelines.plan import return_freed_memory
from kinema.presets import MODELS
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig, mini_vae
from tests.pipelines.test_plan import DIT, VAE, SHAPES
return_freed_memory()
part, dtype = sys.argv[1:]
made = {"dit": (sides.dit_step, DIT), "vae": (sides.vae_decode, VAE), "stream": (sides.vae_decode_stream, mini_vae())}
side = partial(*made[part])
print(growth(partial(side, SHAPES[part], None), Placement.choose("cpu", dtype)))
"""
DIT = replace(MODELS["mini"]().dit, width=768, heads=12, double_blocks=1, single_blocks=2)
VAE = VAEConfig(channels=(32, 64, 128, 128))
SHAPES = {"dit": PixelShape(33, 320, 320), "vae": PixelShape(17, 192, 192), "stream": PixelShape(17, 512, 512)}


def peak_in_a_process(part: str, dtype: str) -> int:
    done = subprocess.run([sys.executable, "-c", PEAK, part, dtype], capture_output=True, text=True, timeout=300, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")
@pytest.mark.parametrize(
    ("part", "dtype"),
    [
        ("dit", "bf16"),
        pytest.param("dit", "fp32", marks=pytest.mark.slow),
        pytest.param("vae", "bf16", marks=pytest.mark.slow),
        pytest.param("stream", "bf16", marks=pytest.mark.slow),
    ],
)
def test_work_takes_the_memory_that_was_planned(part: str, dtype: str):
    torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    need = {
        "dit": lambda: need_of_dit(DIT, SHAPES["dit"].latent, 32, torch_dtype, False),
        "vae": lambda: need_of_vae(VAE, SHAPES["vae"].latent, torch_dtype, False),
        "stream": lambda: need_of_vae(mini_vae(), SHAPES["stream"].latent, torch_dtype, False),
    }[part]()
    assert need.work + CODE == pytest.approx(peak_in_a_process(part, dtype), rel=0.1)


def plan(preset: str = "t2v_13b_distilled", **chosen: int) -> Plan:
    config = MODELS[preset]()
    return Plan(config=config, request=config.request("a cat", seed=0, **chosen), placement=planned("cuda", "bf16", "none", None))


def test_operations_are_those_of_the_published_model():
    need = plan().dit
    tokens = PixelShape(129, 720, 1280).latent.tokens + 256
    assert need.attention_flops == 4 * tokens**2 * 3072 * 60
    assert need.flops - need.attention_flops == pytest.approx(24 * 3072**2 * tokens * 60, rel=0.02)


def test_weights_are_counted_exactly():
    assert plan().dit.weights == 2 * 12_821_012_544


def test_each_change_needs_less():
    found = [change.plan.peak for change in changes(plan("t2v_13b", frames=9, height=64, width=64))]
    assert found == sorted(found, reverse=True)


def test_the_cheapest_change_fits_and_the_one_before_it_does_not():
    wanted = plan(frames=33, height=320, width=512)
    found = cheapest(wanted, 24 * 10**9)
    assert found is not None
    assert found.plan.placement.offload == "blocks"
    assert found.plan.peak <= 24 * 10**9 < wanted.peak


def test_memory_chooses_the_placement_and_refuses_what_no_placement_fits():
    wanted = plan(frames=33, height=320, width=512)
    assert place(wanted.config, wanted.request, wanted.placement, 80 * 10**9) == wanted.placement
    assert place(wanted.config, wanted.request, wanted.placement, 24 * 10**9).offload == "blocks"
    with pytest.raises(InputError, match="too little"):
        place(wanted.config, wanted.request, wanted.placement, 10**9)


@pytest.mark.parametrize("name", MODELS)
def test_every_preset_can_be_planned_on_both_kinds_of_device(name: str):
    config = MODELS[name]()
    request = config.request("a cat", seed=0, frames=9, height=64, width=64)
    for device in ("cpu", "cuda"):
        assert Plan(config=config, request=request, placement=planned(device, "bf16", "none", None)).peak > 0


def test_sizes_of_memory_are_read():
    assert (read_memory("12GB"), read_memory("8GiB"), read_memory("6000 MB"), read_memory("2")) == (12e9, 8 * 2**30, 6e9, 2e9)
    for wrong in ("much", "-3GB", "0", "4TB"):
        with pytest.raises(InputError, match="memory"):
            read_memory(wrong)


def test_quantised_weights_take_what_their_files_take(tmp_path: Path):
    from kinema.pipelines.quantise import quantise_file
    from kinema.weights.scales import form_of

    config = MODELS["tiny"]().dit
    save_file({name: torch.zeros(each.shape, dtype=torch.bfloat16) for name, each in DiT(config).state_dict().items()}, tmp_path / "wide")
    for form in FORMS:
        path = tmp_path / f"{form}.safetensors"
        quantise_file(tmp_path / "wide", path, config, form, lambda *_: None)
        assert form_of(path) == form
        need = need_of_dit(config, PixelShape(5, 32, 32).latent, 8, torch.bfloat16, True, None, form)
        assert need.weights == sum(tensor.nbytes for tensor in load_state(path).values())
    assert form_of(tmp_path / "wide") is None


def test_fewer_bits_plan_for_less_on_every_placement():
    wide = plan(frames=33, height=320, width=512)
    for offload in ("none", "blocks"):
        here = replace(wide, placement=replace(wide.placement, offload=offload))
        residents = [replace(here, form=form).resident for form in (None, "fp8", "int4")]
        assert residents == sorted(residents, reverse=True)
        assert residents[0] > 1.4 * residents[1]


def test_ranks_share_weights_tokens_and_time():
    one = plan(frames=33, height=320, width=512)
    four = replace(one, mesh=MeshConfig(sequence=4))
    assert one.dit.weights / 4 < four.dit.weights < one.dit.weights / 3
    assert one.dit.work / 4 < four.dit.work < one.dit.work
    assert four.seconds(Rates.stated(100.0))["denoise"] == pytest.approx(one.seconds(Rates.stated(100.0))["denoise"] / 4)


def test_blocks_that_come_and_go_do_so_on_every_rank():
    one = plan(frames=33, height=320, width=512)
    one = replace(one, placement=replace(one.placement, offload="blocks"))
    assert replace(one, mesh=MeshConfig(sequence=4)).resident == one.resident > max(one.blocks)


def test_a_draft_is_made_encoded_and_taken_up_in_less_time():
    one = plan(frames=33, height=320, width=512)
    two = replace(one, request=replace(one.request, draft=0.5, strength=0.4))
    plain, drafted = (each.seconds(Rates.stated(100.0)) for each in (one, two))
    assert "encode" not in plain
    assert drafted["encode"] > 0
    assert 0.4 * plain["denoise"] < drafted["denoise"] < plain["denoise"]
    assert drafted["decode"] > plain["decode"]
    assert [stage.name for stage in two.stages()] == ["text", "encode", "denoise", "decode"]


def test_what_is_given_is_encoded_first_and_what_a_cache_keeps_is_counted():
    one = plan(frames=33, height=320, width=512)
    given = replace(one, given=17)
    assert [stage.name for stage in given.stages()] == ["text", "encode", "denoise", "decode"]
    assert given.stages()[2].weights == one.stages()[1].weights + one.vae.weights
    cached = replace(one, request=replace(one.request, cache=0.1))
    assert cached.stages()[1].work - one.stages()[1].work == 2 * one.tokens
    assert replace(cached, request=replace(cached.request, forecast=True)).kept == 3 * one.tokens


def test_a_model_that_works_in_windows_is_planned_for_one_window():
    long, short = plan("mini", frames=321), plan("mini", frames=33)
    assert long.dit == short.dit
    assert long.seconds(Rates.stated(1.0))["denoise"] == pytest.approx(short.seconds(Rates.stated(1.0))["denoise"] * 81 / 9)


def test_tiles_shrink_only_where_memory_is_short():
    place, latent = planned("cuda", "bf16", "none", None), PixelShape(65, 512, 512).latent
    needs = [need_of_vae(replace(VAE, tile_size=size), latent, torch.bfloat16, True).work for size in (256, 192, 128)]
    assert needs == sorted(needs, reverse=True)
    for free, wanted in ((None, 256), (needs[0], 256), (needs[0] - 1, 192), (needs[2], 128), (1, 128)):
        assert fitting_tile(VAE, latent, place, free) == wanted
