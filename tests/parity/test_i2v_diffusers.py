"""diffusers' whole image-to-video pipeline as witness: prompt and picture in, latents and frames out, tiny and random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from published_i2v import PATCH, POOLED, SIDE, WIDTH, clip_text, clip_tokenizer, llama_tokenizer, llava, save_part, save_text_encoders

import kinema
from kinema.conditioning.frames import Given
from kinema.dit.model import DiTConfig
from kinema.pipelines.base import Defaults, ModelConfig
from kinema.pipelines.placement import Placement
from kinema.pipelines.store import find_files
from kinema.pipelines.video import VideoPipeline, draw_noise
from kinema.text.encoder import TextConfig, load_seeing_encoder
from kinema.text.llava import clip_pixels
from kinema.text.llm import PUBLISHED_VIDEO_I2V
from kinema.vae.model import VAEConfig

diffusers = pytest.importorskip("diffusers")

CPU = torch.device("cpu")
PROMPT = "A cat walks on the grass."
SEEN = (SIDE // PATCH) ** 2
SIZE = {"double_blocks": 1, "single_blocks": 1, "width": 48, "heads": 2, "rope_axes": (8, 8, 8)}
VAE = VAEConfig(channels=(8, 16, 16, 16), encoder_layers=(1,) * 4, decoder_layers=(2,) * 4, groups=4)
KINDS = {"token_replace": {"guidance": True}, "latent_concat": {"guidance": False, "in_channels": 33}}
STEPS = {"token_replace": 4, "latent_concat": 2}


def model_of(kind: str) -> ModelConfig:
    dit = DiTConfig(**SIZE, **KINDS[kind], text_width=WIDTH, pooled_width=POOLED, image_condition=kind)
    text = TextConfig(kind="hunyuan", width=WIDTH, pooled_width=POOLED, text_len=40, template=PUBLISHED_VIDEO_I2V, image_step=STEPS[kind])
    defaults = Defaults(frames=9, height=64, width=96, fps=8, steps=3, guidance=4.0 if KINDS[kind]["guidance"] else 1.0, shift=7.0)
    conditions = ("first_frame" if kind == "token_replace" else "first_frame_channels", "image_states")
    return ModelConfig(name=kind, dit=dit, vae=VAE, text=text, defaults=defaults, conditions=conditions)


def theirs_of(config: ModelConfig):
    dit = config.dit
    torch.manual_seed(0)
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=dit.in_channels, out_channels=16, num_attention_heads=dit.heads, attention_head_dim=dit.width // dit.heads,
        num_layers=1, num_single_layers=1, num_refiner_layers=2, guidance_embeds=dit.guidance,
        text_embed_dim=WIDTH, pooled_projection_dim=POOLED,
        rope_axes_dim=dit.rope_axes, image_condition_type=dit.image_condition,
    ).eval()  # fmt: skip
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    vae = diffusers.AutoencoderKLHunyuanVideo(block_out_channels=(8, 16, 16, 16), layers_per_block=1, norm_num_groups=4).eval()
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return diffusers.HunyuanVideoImageToVideoPipeline(
        text_encoder=llava(), tokenizer=llama_tokenizer(), transformer=transformer, vae=vae,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=clip_text(), tokenizer_2=clip_tokenizer(),
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE),
    )  # fmt: skip


def template_of(tokenizer) -> dict[str, object]:
    """Their template with the places as this tokeniser counts them."""
    head = tokenizer(PUBLISHED_VIDEO_I2V.split("{}")[0]).input_ids
    start = head.index(tokenizer.convert_tokens_to_ids("<image>"))
    places = {"image_emb_start": start, "image_emb_end": start + SEEN, "image_emb_len": SEEN}
    return {"template": PUBLISHED_VIDEO_I2V, "crop_start": len(head), **places}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.effect_noise((96, 64), 90).convert("RGB").save(path)
    return path


@pytest.fixture(scope="module", params=list(KINDS))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Our pipeline and theirs on the same files."""
    config, folder = model_of(request.param), tmp_path_factory.mktemp(request.param)
    theirs = theirs_of(config)
    theirs.set_progress_bar_config(disable=True)
    save_part(folder / "transformer", theirs.transformer)
    save_part(folder / "vae", theirs.vae)
    save_text_encoders(folder, theirs.text_encoder, theirs.text_encoder_2)
    ours = VideoPipeline(config, find_files(config, folder), Placement(CPU, torch.float32))
    return ours, theirs


def test_the_picture_and_the_prompt_become_the_same_states(both, picture):
    ours, theirs = both
    config, long = ours.config.text, "Two dogs run through a red field at night. " * 9
    encoder = load_seeing_encoder(config, ours.files.text, CPU, torch.float32)
    image = Image.open(picture)
    shown = torch.from_numpy(np.array(image))
    for prompt in (PROMPT, long, "x" * 37, "x" * 38, "x" * 40):
        wanted, pooled, mask = theirs.encode_prompt(
            image=image, prompt=prompt, prompt_template=template_of(theirs.tokenizer), max_sequence_length=40,
            image_embed_interleave=config.image_step,
        )  # fmt: skip
        found = encoder.encode_seeing(prompt, shown)
        wanted = wanted[:, mask[0].bool()]
        assert found.states.shape == wanted.shape, prompt
        torch.testing.assert_close(found.states, wanted, rtol=0, atol=2e-4)
        torch.testing.assert_close(found.pooled, pooled, rtol=0, atol=1e-5)


def test_a_picture_is_prepared_as_clip_wants_it():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    prepare = CLIPImageProcessorPil(size={"shortest_edge": 42}, crop_size=42)
    for size in ((96, 64), (42, 42), (31, 200), (333, 100)):
        image = Image.effect_noise(size, 90).convert("RGB")
        wanted = prepare(image, return_tensors="pt").pixel_values
        torch.testing.assert_close(clip_pixels(torch.from_numpy(np.array(image)), 42), wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_whole_pipeline_gives_the_same_latents_and_frames(both, picture):
    ours, theirs = both
    request = ours.config.request(PROMPT, seed=3, given=(Given.picture(picture),), stability=True, height=64, width=96)
    made = ours.generate(request)
    noise = draw_noise(ours.sampled(request), 16)
    wanted = theirs(
        image=Image.open(picture), prompt=PROMPT, height=64, width=96, num_frames=9 + ours.dropped, num_inference_steps=3,
        guidance_scale=4.0, latents=noise, prompt_template=template_of(theirs.tokenizer), max_sequence_length=40, output_type="latent",
    ).frames  # fmt: skip
    found = made.latents[None] if not ours.dropped else made.latents[None, :, 1:]
    scale = wanted.abs().max()
    assert (found - wanted).abs().max() < 1e-3 * scale
    assert made.frames.shape == (9, 64, 96, 3)


def test_without_a_picture_or_with_one_elsewhere_it_says_what_is_missing(both, picture):
    ours, _ = both
    for given in ((), (Given.picture(picture, "last"),), (Given.picture(picture), Given.picture(picture, 4))):
        with pytest.raises(kinema.errors.InputError, match="--image"):
            ours.generate(ours.config.request(PROMPT, seed=3, given=given))
