"""Prompts through a decoder-only language model: template, crop, hidden states, mask.

The template asks the model for what a video needs; its own tokens are then cut away, so that only states of the prompt remain,
each of which has read the request. The cut is where the tokenised template says, and checked against every prompt.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from kinema.errors import InputError, WeightsError
from kinema.text.llama import Llama

PUBLISHED_IMAGE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
PUBLISHED_VIDEO = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
"""HunyuanVideo's prompt format, to the byte: weights trained with it read nothing else well."""
PUBLISHED_VIDEO_I2V = (
    "<|start_header_id|>system<|end_header_id|>\n\n<image>\nDescribe the video by detailing the following aspects according to the "
    "reference image: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>\n\n"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
"""Its format for image-to-video; a multimodal model puts the picture in the place of <image>."""

MINI_VIDEO = (
    "<|im_start|>system\nDescribe the video by its subject, colours, action, direction of motion, place, light, style and camera."
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>"
)

CROPS = {PUBLISHED_IMAGE: 36, PUBLISHED_VIDEO: 95, PUBLISHED_VIDEO_I2V: 103}
"""Tokens before the prompt as Llama 3 counts them, its first token included."""
PART = 128  # prompts that pass the model at once
LLAMA3_TOKEN = ("<|start_header_id|>", 128006)  # tells Llama 3's tokeniser from any other


@dataclass(frozen=True)
class PromptTokens:
    """Tokenised prompts, padded on the right to the longest of them; the template's tokens still in front."""

    ids: Int[Tensor, "B S"]
    mask: Bool[Tensor, "B S"]  # True at real tokens
    crop: int  # tokens of the template before the prompt begins


class PromptTokenizer:
    """From prompts to token ids within a template."""

    def __init__(self, tokenizer: Tokenizer, template: str, text_len: int):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer, self.template, self.text_len = tokenizer, template, text_len
        self.head, self.tail = (tokenizer.encode(part).ids for part in template.split("{}"))
        wanted = CROPS.get(template, self.crop) if tokenizer.token_to_id(LLAMA3_TOKEN[0]) == LLAMA3_TOKEN[1] else self.crop
        if self.crop != wanted:
            raise WeightsError(f"the published template has {wanted} tokens before the prompt, this tokenizer.json counts {self.crop}")

    @property
    def crop(self) -> int:
        return len(self.head)

    def __call__(self, prompts: list[str]) -> PromptTokens:
        """At most `text_len` tokens of each prompt (and of what the template puts behind it) are kept."""
        if not prompts:
            raise InputError("no prompt was given: pass at least one")
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast([self.template.replace("{}", p.strip()) for p in prompts])]
        for prompt, row in zip(prompts, rows, strict=True):
            assert row[: self.crop] == self.head, f"the template's last token melts into the prompt {prompt[:40]!r}"
        rows = [row[: self.crop + self.text_len] for row in rows]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return PromptTokens(ids, torch.arange(longest) < lengths[:, None], self.crop)


def prompt_states(model: Llama, tokens: PromptTokens, text_len: int) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]:
    """States of the prompts' tokens without the template's, and their mask; L = text_len, zeros where the mask is False.

    Any number of prompts: they pass in parts of alike lengths, so that little is spent on padding.
    """
    weight = model.embed_tokens.weight
    lengths = tokens.mask.sum(1)
    states = torch.zeros(len(lengths), text_len, model.size.width, dtype=weight.dtype, device=weight.device)
    for rows in lengths.argsort().split(PART):
        longest = int(lengths[rows].max())
        states[rows, : longest - tokens.crop] = model(tokens.ids[rows, :longest].to(weight.device))[:, tokens.crop :]
    mask = torch.arange(text_len) < (lengths - tokens.crop)[:, None]
    mask = mask.to(weight.device)
    return states.masked_fill_(~mask[..., None], 0), mask
