"""Every named model, as a function that returns its full config.

The published ones are HunyuanVideo's (arXiv 2412.03603 and its releases); `mini` ships with the package; `tiny` is for tests.
"""

from collections.abc import Callable
from dataclasses import replace

from kinema.dit.model import DiTConfig
from kinema.pipelines.base import Defaults, ModelConfig
from kinema.text.encoder import MINI, PUBLISHED, PUBLISHED_I2V
from kinema.vae.model import VAEConfig, mini_vae

NEGATIVE = (
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, bad hands, bad teeth, bad eyes, bad limbs, "
    "distortion"
)
"""The published default; as trained with, to the letter."""
NEGATIVE_I2V = "deformation, a poor composition and deformed video, bad teeth, bad eyes, bad limbs"

PUBLISHED_DIT = DiTConfig(
    width=3072,
    heads=24,
    double_blocks=20,
    single_blocks=40,
    rope_axes=(16, 56, 56),
    text_width=PUBLISHED.width,
    pooled_width=PUBLISHED.pooled_width,
    guidance=False,
    riflex_above=48,  # 192 frames, as published
)
PUBLISHED_DEFAULTS = Defaults(frames=129, height=720, width=1280, fps=24, steps=50, guidance=6.0, negative=NEGATIVE)
I2V_DEFAULTS = replace(PUBLISHED_DEFAULTS, shift=17.0, negative=NEGATIVE_I2V)  # the published choice for lively motion


def t2v_13b() -> ModelConfig:
    """HYVideo-T/2: text to video, 12.8 billion parameters, classifier-free guidance."""
    return ModelConfig(name="t2v_13b", dit=PUBLISHED_DIT, vae=VAEConfig(), text=PUBLISHED, defaults=PUBLISHED_DEFAULTS)


def t2v_13b_distilled() -> ModelConfig:
    """HYVideo-T/2-cfgdistill, the released weights: the guidance scale is an input, so a step costs half."""
    return replace(t2v_13b(), name="t2v_13b_distilled", dit=replace(PUBLISHED_DIT, guidance=True))


def i2v_13b() -> ModelConfig:
    """Image to video by token replacement, the released default."""
    dit = replace(PUBLISHED_DIT, guidance=True, image_condition="token_replace")
    conditions = ("first_frame", "image_states")
    return replace(t2v_13b(), name="i2v_13b", dit=dit, text=PUBLISHED_I2V, defaults=I2V_DEFAULTS, conditions=conditions)


def i2v_13b_concat() -> ModelConfig:
    """Image to video by 33 input channels (noise, image, mask), the older weights."""
    dit = replace(PUBLISHED_DIT, in_channels=33, image_condition="latent_concat")
    conditions = ("first_frame_channels", "image_states")
    text, defaults = replace(PUBLISHED_I2V, image_step=2), replace(I2V_DEFAULTS, shift=7.0, frames=125)
    return replace(t2v_13b(), name="i2v_13b_concat", dit=dit, text=text, defaults=defaults, conditions=conditions)


def s2() -> ModelConfig:
    """HYVideo-S/2: the published small size, for experiments; no weights of it were released."""
    dit = replace(PUBLISHED_DIT, width=480, heads=5, double_blocks=6, single_blocks=12, rope_axes=(12, 42, 42))
    return replace(t2v_13b(), name="s2", dit=dit, defaults=replace(PUBLISHED_DEFAULTS, frames=33, height=256, width=256))


MINI_DIT = DiTConfig(
    width=384,
    heads=6,
    double_blocks=1,
    single_blocks=8,
    rope_axes=(16, 24, 24),
    refiner_blocks=1,
    text_width=MINI.width,
    pooled_width=MINI.pooled_width,
    guidance=False,
)


def mini() -> ModelConfig:
    """What ships with the package: trained on its embedded world, runs on a laptop."""
    defaults = Defaults(frames=33, height=128, width=128, fps=12, steps=30, guidance=5.0, draft_side=64, strength=0.4, window=33)
    return ModelConfig(name="mini", dit=MINI_DIT, vae=mini_vae(), text=MINI, defaults=defaults, conditions=("frames", "reference"))


def tiny() -> ModelConfig:
    """For tests: every part of mini, a few thousand times cheaper."""
    dit = replace(MINI_DIT, width=32, heads=2, double_blocks=1, single_blocks=1, rope_axes=(4, 6, 6))
    vae = replace(mini_vae(), channels=(12, 16, 16), decoder_layers=(1, 1, 1))
    defaults = Defaults(frames=9, height=64, width=64, fps=12, steps=4, guidance=1.0, window=33)
    return ModelConfig(name="tiny", dit=dit, vae=vae, text=MINI, defaults=defaults, conditions=("frames",))


MODELS: dict[str, Callable[[], ModelConfig]] = {
    make.__name__: make for make in (mini, tiny, t2v_13b, t2v_13b_distilled, i2v_13b, i2v_13b_concat, s2)
}
