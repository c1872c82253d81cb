"""The stages' tables: they do what the paper says, fit their machines, and are counted rightly."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.parallel.mesh import MeshConfig
from kinema.presets import MODELS, t2v_13b, tiny
from kinema.train.flops import forward_flops, training_flops
from kinema.train.plan import activation_bytes, parameters, weight_bytes
from kinema.train.recipe import MemoryConfig, VideoRecipe
from kinema.train.stages import MINI, PUBLISHED_13B, Stage, Walk

MESH = MeshConfig(data=2, shard=32, sequence=8)  # 512 GPUs of 80 GB


@pytest.mark.parametrize("rows", [MINI, PUBLISHED_13B], ids=["mini", "published_13b"])
def test_rows_go_from_pictures_to_long_videos_to_what_is_approved(rows):
    assert rows[0].frames == (1,)
    videos = [max(row.sides) for row in rows if max(row.frames) > 1]
    assert videos == sorted(videos)
    assert videos[0] < videos[-1]
    assert len(rows[1].sides) == 2
    assert rows[1].frames == (1,)
    assert all(1 in row.frames for row in rows[:-1])
    assert [row.reviewed for row in rows] == [False] * (len(rows) - 1) + [True]
    assert all(row.tokens >= row.largest.tokens for row in rows)


def test_the_published_rows_meet_the_tokens_of_the_scaling_law():
    tokens = [row.steps * row.tokens for row in PUBLISHED_13B]
    assert sum(tokens[:2]) == pytest.approx(738e9, rel=0.02)
    assert sum(tokens[2:4]) == pytest.approx(927e9, rel=0.03)


def test_the_published_rows_fit_the_memory_of_their_mesh(tmp_path):
    config = t2v_13b().dit
    assert parameters(config) == pytest.approx(12.8e9, rel=0.01)
    assert weight_bytes(config, MESH) < 2e9
    memory = MemoryConfig(checkpointing="full")
    for row in PUBLISHED_13B:
        samples = row.tokens / row.largest.tokens / (MESH.data * MESH.shard)
        assert samples > 0.5
        recipe = recipe_of(tmp_path, config, memory)
        assert weight_bytes(config, MESH) + activation_bytes(recipe, math.ceil(samples) * row.largest.tokens) < 80e9


def recipe_of(folder, model, memory):
    from kinema.train.loop import LoopConfig
    from kinema.train.video import VideoTask

    task = VideoTask(folders=(folder,), reviewed=(folder,), stages="published_13b")
    return VideoRecipe(model=model, task=task, loop=LoopConfig(out=folder), mesh=MESH, memory=memory)


def test_the_published_rows_cost_six_flops_a_weight_and_token_and_more_for_attention():
    config = t2v_13b().dit
    with torch.device("meta"):
        named = DiT(config).named_parameters()
    of_text = ("mod", ".txt_", "txt_in", "vector_in")  # these see the text or the condition alone
    video = sum(weight.numel() for name, weight in named if not any(part in name for part in of_text))
    for row in PUBLISHED_13B:
        tokens = row.largest.tokens
        attention = 3 * 4 * tokens**2 * config.width * (config.double_blocks + config.single_blocks)
        assert training_flops(config, 1, tokens, text=0) == pytest.approx(6 * video * tokens + attention, rel=0.02)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("change", [{}, {"double_blocks": 2, "refiner_blocks": 2, "mlp_ratio": 3.0}])
def test_flops_are_those_that_pytorch_counts(given, change):
    config = replace(tiny().dit, **change)
    B, t, h, w, M = 2, 3, 4, 6, 7
    frames = torch.zeros(B, t, dtype=torch.bool) if given else None
    inputs = torch.randn(B, 16, t, h, w), torch.rand(B), torch.randn(B, M, config.text_width), None, torch.randn(B, config.pooled_width)
    model, forward = DiT(config), forward_flops(config, B, t * h * w // 4, M, given)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            output = model(*inputs, given=frames).sum()
        assert counter.get_total_flops() == forward
        with FlopCounterMode(display=False) as counter:
            output.backward()
    assert counter.get_total_flops() == pytest.approx(2 * forward, rel=0.2)  # the first layers want no gradient of their input


def test_a_walk_enters_every_row_in_turn_and_rates_follow():
    walk = Walk(MINI, by_clock=False)
    places = [walk.place(progress / 1000) for progress in range(1001)]
    assert [row for row, _ in places] == sorted(row for row, _ in places)
    assert {row for row, _ in places} == set(range(len(MINI)))
    assert walk.place(1.0) == (len(MINI) - 1, 1.0)
    assert walk.rate(0.0, 0, 10) == pytest.approx(0.1)
    assert walk.rate(1.0, 10_000, 10) == pytest.approx(MINI[-1].lr_end)


def test_by_the_clock_a_row_has_its_share_of_the_tokens():
    rows = tuple(Stage(name=str(tokens), sides=(32,), frames=(1,), steps=100, tokens=tokens) for tokens in (16, 48))
    assert Walk(rows, by_clock=False).ends == [0.5, 1.0]
    assert Walk(rows, by_clock=True).ends == [0.25, 1.0]


def test_a_row_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="image_share"):
        Stage(name="a", sides=(64,), frames=(1,), steps=1, tokens=64, image_share=2.0)
    with pytest.raises(InputError, match="no row"):
        Walk((), by_clock=False)


def test_every_model_is_counted():
    for make in MODELS.values():
        assert forward_flops(make().dit, 1, 1024, 64) > 2 * 1024 * 64
