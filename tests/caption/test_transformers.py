"""Any vision-language model of transformers: a tiny random LLaVA, saved and loaded as a real one is."""

import numpy as np
import pytest

from kinema.caption.captioner import Captioner, TransformersCaptioner, captioner, shown
from kinema.errors import InputError, WeightsError

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of two layers with random weights, and its processor."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = ["<unk>", "<pad>", "<s>", "</s>", "<image>", "user", "assistant", ":", "{", "}", ",", ".", "clip", "short", "dense", "a", "of"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=16, **size)
    text = LlamaConfig(vocab_size=len(words), max_position_embeddings=4096, num_key_value_heads=2, **size)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-1, image_seq_length=4)
    )
    with torch.no_grad():  # wide enough that pictures matter
        for weight in model.parameters():
            weight.normal_(0, 0.5)
    pictures = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        pictures, fast, patch_size=14, vision_feature_select_strategy="default", chat_template=TEMPLATE, num_additional_image_tokens=1
    )
    home = tmp_path_factory.mktemp("vlm") / "tiny-llava"
    model.save_pretrained(home)
    processor.save_pretrained(home)
    return home


def clip(seed: int, frames: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 60, 3), dtype=np.uint8)


def test_a_model_that_says_no_json_is_asked_thrice_and_leaves_an_error(folder):
    who = TransformersCaptioner(folder, max_tokens=4)
    assert isinstance(who, Captioner)
    assert who.name == "transformers:tiny-llava"
    asked = []
    answer = who.answer
    who.answer = lambda messages, pictures: asked.append((messages, pictures)) or answer(messages, pictures)
    readings = who.caption([clip(0), clip(1, 3)])
    assert [reading.caption for reading in readings] == [None, None]
    assert all(reading.error and reading.repairs == 2 for reading in readings)
    assert [len(messages) for messages, _ in asked] == [1, 3, 3] * 2  # the question; then with the answer and what is wrong with it
    assert [len(pictures) for _, pictures in asked] == [8] * 3 + [3] * 3


def test_the_model_sees_the_clip_and_says_the_same_of_it_again(folder):
    who = TransformersCaptioner(folder, max_tokens=6)
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a clip of"}]}]
    said = [who.answer(question, shown(clip(seed, 1))) for seed in (0, 0, *range(1, 12))]
    assert said[0] == said[1]
    assert len(set(said)) > 1


def test_a_folder_without_a_model_is_refused_by_name(tmp_path):
    with pytest.raises(WeightsError, match="no vision-language model"):
        TransformersCaptioner(tmp_path).caption([clip(0)])
    with pytest.raises(InputError, match="needs a model"):
        captioner("transformers")
