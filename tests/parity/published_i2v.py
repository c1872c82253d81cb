"""A published image-to-video model in small: random weights under published names, for our pipeline and diffusers' at once."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "<pad>", "assistant", "\n\n"]
SIDE, PATCH = 28, 7  # pixels of the picture that the language model sees, and of its patches
WIDTH, POOLED = 48, 32


def letters() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return tokenizer


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and one for what Llama 3 has one for behind a prompt."""
    tokenizer = letters()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    first = (SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[first])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token="<|eot_id|>", pad_token="<pad>")


def clip_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer, ends = letters(), ("<|startoftext|>", "<|endoftext|>")
    tokenizer.add_special_tokens(list(ends))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[(token, tokenizer.token_to_id(token)) for token in ends]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=ends[0], eos_token=ends[1], pad_token=ends[1])


def llava() -> LlavaForConditionalGeneration:
    tokenizer = llama_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=8,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=5, num_attention_heads=6,
        num_key_value_heads=2, rope_theta=5e5, initializer_range=0.2, max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    config.pad_token_id = tokenizer.pad_token_id
    return LlavaForConditionalGeneration(config).eval()


def clip_text() -> CLIPTextModel:
    end = clip_tokenizer().eos_token_id
    config = CLIPTextConfig(
        vocab_size=258, hidden_size=POOLED, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=end, projection_dim=16,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def save_text_encoders(folder: Path, seeing: LlavaForConditionalGeneration, pooled: CLIPTextModel) -> None:
    """As the published tree holds them."""
    seeing.save_pretrained(folder / "text_encoder_i2v")
    llama_tokenizer().backend_tokenizer.save(str(folder / "text_encoder_i2v" / "tokenizer.json"))
    pooled.save_pretrained(folder / "text_encoder_2")
    clip_tokenizer().save_pretrained(folder / "text_encoder_2")


def save_part(folder: Path, model: torch.nn.Module) -> None:
    """One part as diffusers lays it out."""
    folder.mkdir(parents=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
