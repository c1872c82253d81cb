"""A config from nothing but a state's names and shapes.

Shapes do not show how a head's channels split over t, h and w, nor how an image enters: those are the published choice for the
head's width unless the caller knows better.
"""

import re
from math import gcd, prod
from typing import Any

from kinema.dit.model import DiTConfig
from kinema.dit.rope import Grid
from kinema.errors import WeightsError
from kinema.vae.model import VAEConfig
from kinema.weights.read import State

ROPE_AXES = {128: (16, 56, 56), 96: (12, 42, 42), 64: (16, 24, 24)}  # by head width K: published large, published small, mini
RIFLEX_ABOVE = {128: 48, 96: 48}  # the published models' limit
DIT_MARK, VAE_MARK = "img_in.proj.weight", "encoder.conv_in.conv.weight"
PUBLISHED_GROUPS = 32
VAE_ATTENTION = "encoder.mid_block.attentions.0.to_q.weight"  # the published autoencoder has it, mini's has not


def infer_dit_config(state: State, **known: Any) -> DiTConfig:
    """The DiT whose published parameters these are.

    known: fields that the caller knows; they go before what shapes say.
    Raises WeightsError where the state is not a DiT's.
    """
    try:
        patch: Grid = tuple(state[DIT_MARK].shape[2:])  # type: ignore[assignment]
        width, in_channels = state[DIT_MARK].shape[:2]
        head = len(next(tensor for name, tensor in state.items() if name.endswith("q_norm.weight")))
        hidden = len(state["double_blocks.0.img_mlp.fc1.weight"])
        out_channels = len(state["final_layer.linear.weight"]) // prod(patch)
        fields: dict[str, Any] = {
            "width": width,
            "heads": width // head,
            "double_blocks": count_blocks(state, "double_blocks"),
            "single_blocks": count_blocks(state, "single_blocks"),
            "rope_axes": ROPE_AXES.get(head) or even_axes(head),
            "text_width": state["txt_in.input_embedder.weight"].shape[1],
            "pooled_width": state["vector_in.in_layer.weight"].shape[1],
            "guidance": "guidance_in.mlp.0.weight" in state,
            "mlp_ratio": hidden / width,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "patch": patch,
            "refiner_blocks": count_blocks(state, "txt_in.individual_token_refiner.blocks"),
            "image_condition": "latent_concat" if in_channels > out_channels else "none",
            "riflex_above": RIFLEX_ABOVE.get(head, 0),
        }
    except (KeyError, StopIteration, ValueError, IndexError) as error:
        raise WeightsError(f"this is not HunyuanVideo's DiT: it lacks {error}") from error
    return DiTConfig(**fields | known)


def infer_vae_config(state: State, **known: Any) -> VAEConfig:
    """The published autoencoder of these parameters; `known` as above (the groups of its norm do not show either).

    Raises WeightsError where the state is not that autoencoder's.
    """
    if VAE_ATTENTION not in state:
        raise WeightsError(f"this is not HunyuanVideo's autoencoder: it lacks {VAE_ATTENTION}")
    levels = count_blocks(state, "encoder.down_blocks")
    channels = tuple(len(state[f"encoder.down_blocks.{i}.resnets.0.conv2.conv.bias"]) for i in range(levels))
    fields: dict[str, Any] = {
        "channels": channels,
        "groups": gcd(PUBLISHED_GROUPS, *channels),
        "encoder_layers": tuple(count_blocks(state, f"encoder.down_blocks.{i}.resnets") for i in range(levels)),
        "decoder_layers": tuple(count_blocks(state, f"decoder.up_blocks.{i}.resnets") for i in range(levels))[::-1],
        "latent_channels": len(state["post_quant_conv.bias"]),
    }
    return VAEConfig(**fields | known)


def count_blocks(state: State, prefix: str) -> int:
    """How many numbers follow `prefix`, from 0."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    return max((int(found[1]) for name in state if (found := pattern.match(name))), default=-1) + 1


def even_axes(head: int) -> Grid:
    """An eighth of the head for time and the rest for space, all even, as the published sizes have it."""
    time = max(head // 16 * 2, 2)
    height = (head - time) // 4 * 2
    return head - 2 * height, height, height
