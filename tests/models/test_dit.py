"""What the transformer promises, on a tiny random one."""

import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kinema.dit.added import Added
from kinema.dit.model import DiT, DiTConfig
from kinema.dit.rope import axis_angles, rope_table, rotate, slowed_frequency
from kinema.errors import InputError
from kinema.kernels.attend import attend

TINY = DiTConfig(
    width=48, heads=3, double_blocks=1, single_blocks=2, rope_axes=(4, 6, 6), refiner_blocks=1,
    text_width=20, pooled_width=12, guidance=False,
)  # fmt: skip


def random_dit(config: DiTConfig = TINY, seed: int = 0) -> DiT:
    torch.manual_seed(seed)
    dit = DiT(config)
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return dit.eval()


def inputs_of(config: DiTConfig = TINY, batch: int = 2, frames: int = 3) -> dict:
    draw = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(batch, config.in_channels, frames, 4, 6, generator=draw),
        "time": torch.linspace(900, 100, batch),
        "text": torch.randn(batch, 5, config.text_width, generator=draw),
        "text_mask": (torch.arange(5) < 3).repeat(batch, 1),
        "pooled": torch.randn(batch, config.pooled_width, generator=draw),
    }


@pytest.mark.parametrize("grad", [True, False], ids=["training", "inference"])
def test_text_padding_never_changes_the_output(grad: bool):
    dit, inputs = random_dit(), inputs_of()
    with torch.set_grad_enabled(grad):
        padded = dit(**inputs)
        other = dit(**inputs | {"text": torch.where(inputs["text_mask"][..., None], inputs["text"], 1e3)})
        trimmed = dit(**inputs | {"text": inputs["text"][:, :3], "text_mask": None})
    torch.testing.assert_close(other, padded, rtol=0, atol=1e-6)
    torch.testing.assert_close(trimmed, padded, rtol=0, atol=1e-6)


def test_a_sample_never_sees_its_batch():
    dit, inputs = random_dit(), inputs_of(batch=3)
    inputs["text_mask"][1, 1:] = False
    whole = dit(**inputs)
    for row in range(3):
        torch.testing.assert_close(dit(**{name: x[row : row + 1] for name, x in inputs.items()}), whole[row : row + 1], rtol=0, atol=1e-5)


def test_inference_and_training_agree():
    dit, inputs = random_dit(), inputs_of()
    trained = dit(**inputs)
    with torch.inference_mode():
        torch.testing.assert_close(dit(**inputs), trained.detach(), rtol=0, atol=1e-5)
        dit.bfloat16()
        rounded = dit(**{name: x.bfloat16() if x.is_floating_point() and name != "time" else x for name, x in inputs.items()})
    assert (rounded - trained).abs().max() < 0.05 * trained.abs().max()


def test_an_empty_prompt_gives_numbers():
    inputs = inputs_of()
    inputs["text_mask"][:] = False
    assert random_dit()(**inputs).isfinite().all()


def test_every_parameter_learns():
    dit = random_dit(replace(TINY, guidance=True)).train()
    dit(**inputs_of(), guidance=torch.tensor([6000.0, 1000.0])).square().mean().backward()
    still = [name for name, p in dit.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.abs().max() > 0]
    assert still == []


def test_autocast_trains_in_bfloat16():
    dit = random_dit().train()
    with torch.autocast("cpu", torch.bfloat16):
        out = dit(**inputs_of())
    out.float().square().mean().backward()
    exact = random_dit().train()
    exact(**inputs_of()).square().mean().backward()
    for name in ("img_in.proj.weight", "single_blocks.1.linear1.weight"):
        ours, theirs = dit.get_parameter(name).grad, exact.get_parameter(name).grad
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.98


def test_recomputing_activations_gives_the_same_gradients():
    plain, saving = random_dit(), random_dit()
    saving.trunk.run = partial(checkpoint, use_reentrant=False)
    for dit in (plain, saving):
        dit(**inputs_of()).square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name


def test_training_starts_from_velocity_zero_and_moves():
    dit = DiT(TINY)
    dit.init_weights()
    inputs = inputs_of()
    assert dit(**inputs).abs().max() == 0
    optimiser = torch.optim.AdamW(dit.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = (dit(**inputs) - inputs["latents"]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_trunk_gives_no_parameter_a_second_name():
    dit = random_dit()
    names = list(dit.state_dict())
    assert not any(name.startswith("trunk") for name in names)
    dit.load_state_dict(random_dit(seed=1).state_dict())
    assert dit.trunk.single_blocks[0] is dit.single_blocks[0]
    assert len(names) == len(set(names)) == len(list(dit.parameters()))


def compile_and_compare() -> None:
    """Run apart from the tests: a compiler cannot look into their type checks."""
    dit, graphs = random_dit(), []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    whole = torch.compile(dit, backend=keep, fullgraph=True, dynamic=True)
    for batch in (2, 3, 5):
        inputs = inputs_of(batch=batch)
        torch.testing.assert_close(whole(**inputs), dit(**inputs), rtol=0, atol=1e-5)
    assert len(graphs) == 1


def test_a_compiler_takes_it_whole_for_any_batch():
    command = [sys.executable, "-W", "error", "-c", "from test_dit import compile_and_compare as run; run()"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_token_replacement_is_a_given_first_frame():
    inputs, first = inputs_of(), torch.tensor([[True, False, False]]).expand(2, -1)
    replaced = random_dit(replace(TINY, image_condition="token_replace"))(**inputs)
    torch.testing.assert_close(replaced, random_dit()(**inputs, given=first), rtol=0, atol=1e-6)
    assert (replaced - random_dit()(**inputs)).abs().max() > 1e-3


def test_what_conditions_add_as_zero_changes_no_bit_and_else_all():
    dit, inputs = random_dit(), inputs_of()
    plain = dit(**inputs)
    blocks = range(len(dit.double_blocks) + len(dit.single_blocks))
    for scale in (0.0, 0.1):
        doors = {
            "channels": torch.full((2, 18, TINY.width), scale),
            "modulation": torch.full((2, TINY.width), scale),
            "cross": {number: lambda video, scale=scale: scale * video.flip(1) for number in blocks},
        }
        for name, value in doors.items():
            assert torch.equal(dit(**inputs, added=Added(**{name: value})), plain) == (scale == 0), name


def test_latent_concat_takes_image_and_mask_beside_the_noise():
    config = replace(TINY, in_channels=33, image_condition="latent_concat")
    assert random_dit(config)(**inputs_of(config)).shape == (2, 16, 3, 4, 6)


def test_rotation_depends_on_the_distance_between_positions_only():
    q, k = torch.randn(2, 1, 1, 1, 16).expand(2, 1, 30, 1, 16)
    turns = rope_table((5, 2, 3), 0, (4, 6, 6), 256.0)
    scores = torch.einsum("blnk,bsnk->ls", rotate(q, turns), rotate(k, turns)).unflatten(1, (5, 2, 3)).unflatten(0, (5, 2, 3))
    torch.testing.assert_close(scores[1:, 1:, 1:, 1:, 1:, 1:], scores[:-1, :-1, :-1, :-1, :-1, :-1], rtol=0, atol=1e-4)


def test_tokens_without_a_position_do_not_turn():
    x = torch.randn(1, 11, 2, 16)
    turned = rotate(x, rope_table((1, 2, 3), 5, (4, 6, 6), 256.0))
    assert torch.equal(turned[:, 6:], x[:, 6:])
    assert not torch.equal(turned[:, 1:6], x[:, 1:6])


def test_a_video_longer_than_known_has_one_slower_frequency_which_does_not_come_round():
    axes, long = (16, 24, 24), (65, 1, 1)  # 257 frames, k = clip(2 + 260 // 100, 4, 8) = 4
    angles = axis_angles(65, 16, 256.0, None, slowed_frequency(65, 16, above=48))
    plain, changed = axis_angles(65, 16, 256.0, None), [3]
    assert (angles != plain)[1:].any(0).nonzero().flatten().tolist() == changed
    assert plain[-1, 3] > 2 * math.pi > angles[-1, 3]
    assert not torch.equal(rope_table(long, 0, axes, 256.0, riflex_above=48), rope_table(long, 0, axes, 256.0))
    assert torch.equal(rope_table((48, 1, 1), 0, axes, 256.0, riflex_above=48), rope_table((48, 1, 1), 0, axes, 256.0))


def test_which_frequency_is_slowed_follows_the_length():
    found = [slowed_frequency((frames - 1) // 4 + 1, 16, above=48) for frames in (129, 193, 301, 601, 1001)]
    assert found == [0, 4, 5, 8, 8]


def test_a_long_video_is_seen_otherwise_only_where_the_config_says_so():
    known = inputs_of(frames=5)
    plain, slowed = random_dit(), random_dit(replace(TINY, riflex_above=4))
    assert not torch.equal(plain(**known), slowed(**known))
    assert torch.equal(plain(**inputs_of(frames=4)), slowed(**inputs_of(frames=4)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_written_out_is_attention(dtype: torch.dtype, masked: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kinema.kernels.attend.BLOCK", 300 * 900)  # three blocks of queries
    q, k, v = (torch.randn(2, length, 3, 8) for length in (700, 900, 900))
    mask = (torch.arange(900) < torch.tensor([[700], [900]])) if masked else None
    bias = None if mask is None else mask[:, None, None]
    exact = F.scaled_dot_product_attention(*(x.double().transpose(1, 2) for x in (q, k, v)), attn_mask=bias).transpose(1, 2)
    with torch.inference_mode():
        fast = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask)
    assert fast.dtype == dtype
    torch.testing.assert_close(fast.double(), exact, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"width": 50}, "width 50"), ({"rope_axes": (5, 5, 6)}, "even"), ({"image_condition": "latent_concat"}, "in_channels=16")],
)
def test_impossible_sizes_are_refused(changes: dict, words: str):
    with pytest.raises(InputError, match=words):
        replace(TINY, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latents": torch.zeros(2, 16, 3, 5, 6)}, "patches"),
        ({"latents": torch.zeros(2, 33, 3, 4, 6)}, "33 channels"),
        ({"guidance": torch.ones(2)}, "no embedded guidance"),
    ],
)
def test_impossible_inputs_are_refused(changes: dict, words: str):
    with pytest.raises(InputError, match=words):
        random_dit()(**inputs_of() | changes)


def test_a_missing_guidance_scale_is_refused():
    with pytest.raises(InputError, match="needs an embedded guidance scale"):
        random_dit(replace(TINY, guidance=True))(**inputs_of())


def test_a_reference_stands_before_the_video_in_time_and_leaves_its_positions_alone():
    alone, behind = rope_table((3, 2, 3), 5, (4, 6, 6), 256.0), rope_table((4, 2, 3), 5, (4, 6, 6), 256.0, before=1)
    assert torch.equal(behind[6:], alone)
    back = behind[:6] * torch.tensor([1.0, -1.0])  # turned the other way
    time = slice(0, 2)  # channel pairs that turn with t
    torch.testing.assert_close(back[:, time], alone[6:12, time])
    torch.testing.assert_close(behind[:6, 2:], alone[:6, 2:])


def test_all_of_a_video_sees_its_reference_as_a_clean_frame():
    dit, inputs = random_dit(), inputs_of(frames=4)
    latents = inputs.pop("latents")
    given = torch.tensor([[True, False, False, False]]).expand(2, -1)
    without, found = dit(latents=latents[:, :, 1:], **inputs), dit(latents=latents[:, :, 1:], reference=latents[:, :, :1], **inputs)
    changed = (found - without).abs().amax((0, 1, 3, 4))
    assert (changed > 1e-3).all()
    after = dit(latents=latents, given=given, **inputs)[:, :, 1:]  # one position later: only the text, which has none, is seen otherwise
    torch.testing.assert_close(found, after, rtol=0, atol=2e-3)


def test_a_model_for_a_first_frame_takes_no_reference():
    dit, inputs = random_dit(replace(TINY, image_condition="token_replace")), inputs_of()
    with pytest.raises(InputError, match="image_condition"):
        dit(reference=inputs["latents"][:, :, :1], **inputs)
