"""Ways to be fast reach the model, are written into the recipe, fit the plan, and say so where they cannot go together."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from kinema.errors import InputError
from kinema.kernels.choose import Attention
from kinema.kernels.sparse import Sparse
from kinema.parallel.mesh import MeshConfig
from kinema.pipelines import compiled
from kinema.pipelines.compiled import check_tools
from kinema.pipelines.placement import Placement, planned
from kinema.pipelines.plan import Plan
from kinema.pipelines.store import choose_model
from kinema.pipelines.video import VideoPipeline, check_speed
from kinema.presets import MODELS

CPU = torch.device("cpu")
SPARSE = "sliding-tile:tile=1x2x2,window=1x3x3,dense=0.9"


def place(**fields) -> Placement:
    return replace(Placement.choose("cpu", "fp32"), **fields)


def test_the_choice_is_what_the_blocks_call_and_stands_in_the_recipe():
    config, files = choose_model(MODELS, "mini", None)
    pipeline = VideoPipeline(config, files, place(attention=Attention.parse(SPARSE)))
    blocks = [pipeline.dit.get_submodule(name) for name in pipeline.dit.plan().blocks]
    assert all(isinstance(block.attend, Sparse) for block in blocks)
    assert Attention.parse(pipeline.placement.names()["attention"]) == Attention.parse(SPARSE)
    assert "attention" not in place().names()


@pytest.mark.parametrize(
    ("fields", "mesh", "says"),
    [
        ({"attention": Attention.parse("radial")}, MeshConfig(sequence=2), "tensor mesh"),
        ({"attention": Attention("flash3")}, MeshConfig(), "works on CUDA"),
        ({"compile": "blocks", "offload": "blocks"}, MeshConfig(), "leave one out"),
        ({"compile": "blocks"}, MeshConfig(tensor=2), "one process"),
        ({"compile": "graphs"}, MeshConfig(), "CUDA device"),
    ],
)
def test_ways_that_exclude_each_other_say_so(fields, mesh, says):
    with pytest.raises(InputError, match=says):
        check_speed(place(**fields), mesh)


def test_without_a_compiler_the_error_names_it(monkeypatch):
    def missing():
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setenv(compiled.FOLDER_VARIABLE, os.devnull)
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    with pytest.raises(InputError, match=r"install g\+\+"):
        check_tools("blocks", CPU)


def test_the_plan_counts_only_the_pairs_that_meet_and_only_where_attention_is_sparse():
    config = MODELS["t2v_13b_distilled"]()
    request = config.request("a plan", seed=0, frames=129, height=720, width=1280)
    dense, sparse = (
        Plan(config=config, request=request, placement=planned("cuda", "bf16", "none", None, attention))
        for attention in ("sdpa", "sliding-tile")
    )
    assert dense.dense_steps == request.steps > sparse.dense_steps > 0
    assert sparse.sparse_dit.attention_flops < 0.2 * dense.dit.attention_flops
    linear = [need.flops - need.attention_flops for need in (dense.dit, sparse.sparse_dit)]
    assert linear[0] == pytest.approx(linear[1])


AGREES = """
import torch
from kinema.dit.model import DiT, DiTConfig
from kinema.pipelines.compiled import check_tools, compile_dit

torch.manual_seed(0)
cpu = torch.device("cpu")
check_tools("blocks", cpu)
axes = (8, 12, 12)
dit = DiT(DiTConfig(width=64, heads=2, double_blocks=2, single_blocks=2, rope_axes=axes, text_width=12, pooled_width=8, guidance=False))
for weight in dit.eval().parameters():
    torch.nn.init.normal_(weight, std=0.1)
text, pooled, time = torch.randn(1, 4, 12), torch.randn(1, 8), torch.tensor([700.0])
clips = [torch.randn(1, 16, frames, 8, 8) for frames in (3, 5, 4)]
with torch.inference_mode():
    plain = [dit(clip, time, text, None, pooled) for clip in clips]
    compile_dit(dit, "blocks", cpu)
    found = dit(clips[0], time, text, None, pooled), dit(clips[1], time, text, None, pooled)
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = *found, dit(clips[2], time, text, None, pooled)
for ours, theirs in zip(found, plain):
    difference = float((ours - theirs).norm() / theirs.norm())
    assert difference < 1e-5, difference
"""


@pytest.mark.slow
def test_compiled_blocks_agree_with_eager_ones_and_a_new_size_needs_no_new_code(tmp_path):
    """In a process of its own: checks of shapes while tests run would be compiled, too."""
    place = os.environ | {compiled.FOLDER_VARIABLE: str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", AGREES], env=place, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "the first step waits" in ended.stderr
    assert any(tmp_path.iterdir())
