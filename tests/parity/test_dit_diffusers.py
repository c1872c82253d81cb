"""diffusers' transformer, tiny and random, as witness: the same weights and inputs give the same velocity, both ways.

Both models compute norms, rotations and time waves in float32 whatever their dtype. Here those islands are lifted to float64 in
either model, so that nothing but a real difference remains.
"""

from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from kinema.dit import rope
from kinema.dit.model import DiT, DiTConfig
from kinema.weights import convert, from_diffusers, infer_dit_config, load_dit, to_diffusers

diffusers = pytest.importorskip("diffusers")

SIZE = {"double_blocks": 2, "single_blocks": 2, "width": 48, "heads": 2, "rope_axes": (8, 8, 8), "text_width": 20, "pooled_width": 12}
CONFIGS = {
    "plain": DiTConfig(**SIZE, guidance=False),
    "guidance": DiTConfig(**SIZE, guidance=True, refiner_blocks=1, mlp_ratio=3.0),
    "token_replace": DiTConfig(**SIZE, guidance=True, image_condition="token_replace"),
    "latent_concat": DiTConfig(**SIZE, guidance=False, in_channels=33, image_condition="latent_concat"),
}


@pytest.fixture(autouse=True)
def fresh_tables():
    """Tables of rotations are kept between calls: those in float32 must not serve here, nor those in float64 elsewhere."""
    rope._stored_table.cache_clear()
    yield
    rope._stored_table.cache_clear()


class Lifted(TorchFunctionMode):
    """Every float32 that a model asks for is float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def lift(value):
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            return torch.Tensor.double(*args)
        return func(*map(lift, args), **{name: lift(value) for name, value in (kwargs or {}).items()})


def make_theirs(config: DiTConfig):
    torch.manual_seed(0)
    theirs = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        num_layers=config.double_blocks,
        num_single_layers=config.single_blocks,
        num_refiner_layers=config.refiner_blocks,
        mlp_ratio=config.mlp_ratio,
        guidance_embeds=config.guidance,
        text_embed_dim=config.text_width,
        pooled_projection_dim=config.pooled_width,
        rope_axes_dim=config.rope_axes,
        image_condition_type=None if config.image_condition == "none" else config.image_condition,
    )
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return theirs.double().eval()


def inputs_of(config: DiTConfig) -> dict:
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return {
        "latents": normal(2, config.in_channels, 3, 6, 4),
        "time": torch.tensor([937.5, 412.25], dtype=torch.float64),
        "text": normal(2, 7, config.text_width),
        "text_mask": torch.arange(7) < torch.tensor([[7], [4]]),
        "pooled": normal(2, config.pooled_width),
        "guidance": torch.tensor([6016.0, 1000.0], dtype=torch.float64) if config.guidance else None,
    }


@torch.no_grad()
def velocities(ours: DiT, theirs, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
    names = ("latents", "time", "text", "text_mask", "pooled", "guidance")
    with Lifted():
        mine = ours(*(inputs[name] for name in names))
        other = theirs(
            hidden_states=inputs["latents"],
            timestep=inputs["time"],
            encoder_hidden_states=inputs["text"],
            encoder_attention_mask=inputs["text_mask"],
            pooled_projections=inputs["pooled"],
            guidance=inputs["guidance"],
        ).sample
    return mine, other


@pytest.mark.parametrize("name", CONFIGS)
def test_their_weights_in_our_model_give_their_velocity(name: str):
    theirs = make_theirs(CONFIGS[name])
    ours = DiT(CONFIGS[name]).double().eval()
    ours.load_state_dict(from_diffusers(theirs.state_dict()))
    mine, other = velocities(ours, theirs, inputs_of(CONFIGS[name]))
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-9)
    assert other.std() > 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_our_weights_in_their_model_give_our_velocity(name: str):
    theirs = make_theirs(CONFIGS[name])
    ours = DiT(CONFIGS[name]).double().eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.load_state_dict(to_diffusers(ours.state_dict()))
    mine, other = velocities(ours, theirs, inputs_of(CONFIGS[name]))
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-9)
    assert mine.std() > 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_that_diffusers_saved_loads_and_comes_back(name: str, tmp_path: Path):
    config = CONFIGS[name]
    theirs = make_theirs(config)
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    ours = load_dit(tmp_path / "whole", config)
    sharded = load_dit(tmp_path / "shards", config)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), sharded.state_dict().values(), strict=True))

    convert(tmp_path / "whole", tmp_path / "ours.safetensors", "published")
    assert infer_dit_config(load_dit(tmp_path / "ours.safetensors", config).state_dict(), rope_axes=config.rope_axes) == (
        infer_dit_config(ours.state_dict(), rope_axes=config.rope_axes)
    )
    convert(tmp_path / "whole", tmp_path / "back", "diffusers")
    back = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(tmp_path / "back", torch_dtype=torch.float64)
    assert back.config.image_condition_type == theirs.config.image_condition_type
    assert tuple(back.config.rope_axes_dim) == config.rope_axes
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), theirs.state_dict().values(), strict=True))
