"""Weights in few bits: near the wide ones, smaller, and through every path that a DiT takes."""

import pytest
import torch

from kinema.dit.model import DiT
from kinema.dit.quantise import FORMS, Form, as_quantised, layers_to_quantise, quantise, widen
from kinema.presets import MODELS

WORST = {"fp8": 0.05, "fp8-row": 0.04, "int8": 0.012, "int4": 0.15}  # relative error of a matrix of normal numbers


@pytest.mark.parametrize("form", FORMS)
def test_a_stored_matrix_is_near_the_wide_one(form: Form):
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    stored, scale = quantise(weight, form)
    assert stored.nbytes <= weight.nbytes / (8 if form == "int4" else 4)
    assert (widen(stored, scale, torch.float32) - weight).norm() / weight.norm() < WORST[form]


@pytest.mark.parametrize("form", FORMS)
def test_storing_what_was_widened_changes_nothing(form: Form):
    first = widen(*quantise(torch.randn(16, 32, generator=torch.Generator().manual_seed(1)), form), torch.float32)
    torch.testing.assert_close(widen(*quantise(first, form), torch.float32), first, rtol=1e-5, atol=1e-6)


def tiny() -> DiT:
    torch.manual_seed(0)
    dit = DiT(MODELS["tiny"]().dit)
    for weight in dit.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return dit.eval()


def step(dit: DiT) -> torch.Tensor:
    make, dtype = torch.Generator().manual_seed(2), next(dit.parameters()).dtype
    shapes = ((1, 16, 2, 4, 4), (1, 5, dit.config.text_width), (1, dit.config.pooled_width))
    latents, text, pooled = (torch.randn(shape, generator=make).to(dtype) for shape in shapes)
    with torch.inference_mode():
        return dit(latents, torch.tensor([500.0]), text, None, pooled).float()


@pytest.mark.parametrize("form", FORMS)
def test_a_quantised_model_works_as_the_widened_one_does(form: Form):
    quantised, widened = tiny(), tiny()
    for name, layer in layers_to_quantise(quantised).items():
        stored, scale = quantise(layer.weight, form)
        as_quantised(layer, stored, scale)
        widened.get_submodule(name).weight.data = widen(stored, scale, torch.float32)
    torch.testing.assert_close(step(quantised), step(widened), rtol=1e-5, atol=1e-5)
    assert not torch.equal(step(quantised), step(tiny()))


def test_a_change_of_dtype_leaves_what_is_stored():
    dit = tiny()
    for layer in layers_to_quantise(dit).values():
        as_quantised(layer, *quantise(layer.weight, "fp8-row"))
    before = {name: tensor for name, tensor in dit.state_dict().items() if tensor.dtype == torch.float8_e4m3fn}
    dit.to(torch.bfloat16)
    after = dit.state_dict()
    assert before
    assert all(after[name].dtype == torch.float8_e4m3fn for name in before)
    assert step(dit).isfinite().all()
