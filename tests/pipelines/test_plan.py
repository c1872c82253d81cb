"""Plans: as much memory as the work then takes, and the cheapest change that fits."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from kinema.errors import InputError
from kinema.pipelines.dryrun import need_of_dit, need_of_vae
from kinema.pipelines.placement import planned
from kinema.pipelines.plan import Plan, changes, cheapest, place, read_memory
from kinema.presets import MODELS
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig

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
from kinema.vae.model import VAEConfig
from tests.pipelines.test_plan import DIT, VAE, SHAPES
return_freed_memory()
part, dtype = sys.argv[1:]
side = {"dit": partial(sides.dit_step, DIT), "vae": partial(sides.vae_decode, VAE)}[part]
print(growth(partial(side, SHAPES[part], None), Placement.choose("cpu", dtype)))
"""
DIT = replace(MODELS["mini"]().dit, width=768, heads=12, double_blocks=1, single_blocks=2)
VAE = VAEConfig(channels=(32, 64, 128, 128))
SHAPES = {"dit": PixelShape(33, 320, 320), "vae": PixelShape(17, 192, 192)}


def peak_in_a_process(part: str, dtype: str) -> int:
    done = subprocess.run([sys.executable, "-c", PEAK, part, dtype], capture_output=True, text=True, timeout=300, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")
@pytest.mark.parametrize(
    ("part", "dtype"),
    [("dit", "bf16"), pytest.param("dit", "fp32", marks=pytest.mark.slow), pytest.param("vae", "bf16", marks=pytest.mark.slow)],
)
def test_work_takes_the_memory_that_was_planned(part: str, dtype: str):
    torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    need = (
        need_of_dit(DIT, SHAPES["dit"].latent, 32, torch_dtype, False)
        if part == "dit"
        else need_of_vae(VAE, SHAPES["vae"].latent, torch_dtype, False)
    )
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
