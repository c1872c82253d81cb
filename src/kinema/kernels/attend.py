"""Attention over all tokens: one function that every block calls.

The mask only ever hides keys and is broadcast over queries, so memory stays linear in the token count.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(
    q: Float[Tensor, "B L N K"],
    k: Float[Tensor, "B S N K"],
    v: Float[Tensor, "B S N K"],
    key_mask: Bool[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B L N K"]:
    """Softmax attention with scale 1 / sqrt(K).

    key_mask: True marks a real token; each row needs at least one. None: all are real, which leaves PyTorch its fastest kernels.
    """
    mask = None if key_mask is None else key_mask[:, None, None, :]
    mixed = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
    return mixed.transpose(1, 2)
