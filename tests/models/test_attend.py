"""Attention as training on a CPU writes it out: PyTorch's, and its gradients."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kinema.kernels import training
from kinema.kernels.linear import ONEDNN


@pytest.mark.skipif(not ONEDNN, reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_attention_with_the_gradients_of_attention(masked):
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(2, tokens, 3, 16, generator=generator) for tokens in (9, 14, 14, 9))
    mask = torch.arange(14) < torch.tensor([[14], [6]]) if masked else None

    def exact(q, k, v):
        hidden = None if mask is None else mask[:, None, None]
        return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=hidden).transpose(1, 2)

    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        inputs = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        found = training.attend_with_gradients(*inputs, mask)
        wanted = exact(*(x.detach().float().requires_grad_() for x in inputs))
        assert (found.float() - wanted).norm() < bound * wanted.norm()
        leaves = [x.detach().float().requires_grad_() for x in inputs]
        ours, theirs = (
            torch.autograd.grad(found, inputs, grad.to(dtype)),
            torch.autograd.grad(exact(*leaves), leaves, grad.to(dtype).float()),
        )
        for mine, other in zip(ours, theirs, strict=True):
            assert (mine.float() - other).norm() < bound * other.norm()


def test_long_sequences_and_other_dtypes_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(training, "_is_faster", lambda: True)
    short = torch.zeros(1, 8, 2, 4, dtype=torch.bfloat16)
    assert training.suits(short, short)
    assert not training.suits(short, short.float())
    long = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16).expand(1, 40_000, 2, 4)
    assert not training.suits(long, long)
    with torch.no_grad():
        assert not training.suits(short, short)
