"""Attention's backends agree, and sparse attention is dense attention under the mask that a pattern states for every pair of tokens."""

import math
from itertools import product

import pytest
import torch

from kinema.dit.attending import set_attention
from kinema.dit.model import DiT, DiTConfig
from kinema.errors import InputError
from kinema.kernels import libraries
from kinema.kernels.attend import attend
from kinema.kernels.choose import KERNELS, Attention
from kinema.kernels.libraries import LibraryAttend
from kinema.kernels.patterns import Radial, SlidingTile
from kinema.kernels.sparse import Sparse, pairs_of

GRID, TEXT = (5, 6, 7), 3
VIDEO = math.prod(GRID)
PATTERNS = [
    SlidingTile(window=(3, 1, 3), tile=(2, 2, 2)),
    SlidingTile(window=(1, 3, 1), tile=(1, 2, 3)),
    Radial(block=5, width=1.0),
    Radial(block=11, width=0.3),
]
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 0.02}


def tensors(dtype=torch.float32, tokens=VIDEO + TEXT, batch=1):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, tokens, 3, 16, generator=generator).to(dtype) for _ in range(3)]


def masked(q, k, v, mask):
    """The reference: every score written down, in float64."""
    scores = torch.einsum("blnk, bsnk -> bnls", q.double(), k.double()) / math.sqrt(q.shape[-1])
    return torch.einsum("bnls, bsnk -> blnk", scores.masked_fill(~mask, -torch.inf).softmax(-1), v.double())


def tile_of(place, length, size):
    """Number of the tile that a place of an axis lies in, and how many tiles there are: as equal as can be, larger ones first."""
    count = math.ceil(length / size)
    sizes = [length // count + (i < length % count) for i in range(count)]
    return next(i for i in range(count) if place < sum(sizes[: i + 1])), count


def sees(pattern, one, other):
    """Whether the token at (t, h, w) `one` sees the token at `other`: the patterns' definition, a pair at a time."""
    if isinstance(pattern, SlidingTile):
        for place, seen, length, size, window in zip(one, other, GRID, pattern.tile, pattern.window, strict=True):
            (mine, count), (theirs, _) = tile_of(place, length, size), tile_of(seen, length, size)
            low = min(max(mine - window // 2, 0), max(count - window, 0))
            if not low <= theirs < low + window:
                return False
        return True
    (mine, count), (theirs, _) = (tile_of(t[1] * GRID[2] + t[2], GRID[1] * GRID[2], pattern.block) for t in (one, other))
    apart = abs(one[0] - other[0])
    if apart == 0 or other[0] == 0:
        return True
    band = pattern.width * count / 2 ** math.floor(math.log2(apart))
    return abs(mine - theirs) < band if band >= 1 else mine == theirs and apart % math.ceil(1 / band) == 0


def mask_of(pattern):
    places = list(product(*map(range, GRID)))
    mask = torch.ones(VIDEO + TEXT, VIDEO + TEXT, dtype=torch.bool)
    mask[:VIDEO, :VIDEO] = torch.tensor([[sees(pattern, one, other) for other in places] for one in places])
    return mask


def sparse(pattern, grid=GRID):
    made = Sparse(pattern, attend)
    made.grid = grid
    return made


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@torch.inference_mode()
def test_sparse_attention_is_dense_attention_under_its_mask(pattern, dtype):
    q, k, v = tensors(dtype)
    wanted = masked(q, k, v, mask_of(pattern))
    assert (sparse(pattern)(q, k, v).double() - wanted).norm() < BOUNDS[dtype] * wanted.norm()


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_pairs_are_counted_as_the_mask_has_them_and_some_are_left_out(pattern):
    mask = mask_of(pattern)
    assert pairs_of(pattern, GRID, TEXT) == int(mask.sum()) < mask.numel()


@pytest.mark.parametrize("pattern", [SlidingTile(window=(5, 5, 5), tile=(2, 2, 2)), Radial(block=4, width=8.0)], ids=str)
@torch.inference_mode()
def test_where_the_window_covers_everything_it_is_dense_attention(pattern):
    q, k, v = tensors(batch=2)
    torch.testing.assert_close(sparse(pattern)(q, k, v), attend(q, k, v), rtol=0, atol=1e-6)


def test_blocks_hold_every_token_once():
    for pattern in PATTERNS:
        assert torch.cat(pattern.blocks(GRID)).sort().values.tolist() == list(range(VIDEO))


@torch.inference_mode()
def test_text_sees_all_and_all_see_text():
    pattern = SlidingTile(window=(1, 1, 1), tile=(1, 1, 1))
    q, k, v = tensors()
    before, changed = sparse(pattern)(q, k, v), v.clone()
    changed[:, -1] += 1
    assert ((sparse(pattern)(q, k, changed) - before).abs().amax((0, 2, 3)) > 0).all()
    changed = v.clone()
    changed[:, 0] += 1
    touched = (sparse(pattern)(q, k, changed) - before).abs().amax((0, 2, 3)) > 0
    assert touched.nonzero()[:, 0].tolist() == [0, *range(VIDEO, VIDEO + TEXT)]


@torch.inference_mode()
def test_a_model_attends_densely_while_noise_is_strong_and_sparsely_after():
    torch.manual_seed(0)
    config = DiTConfig(
        width=32, heads=2, double_blocks=1, single_blocks=1, rope_axes=(4, 6, 6), text_width=12, pooled_width=8, guidance=False
    )
    dit = DiT(config).eval()
    for weight in dit.parameters():  # modulation starts at zero, which would hide attention
        torch.nn.init.normal_(weight, std=0.2)
    latents, text, pooled = torch.randn(1, 16, 5, 8, 8), torch.randn(1, 4, 12), torch.randn(1, 8)
    plain = [dit(latents, torch.tensor([time]), text, None, pooled) for time in (980.0, 400.0)]
    set_attention(dit, Attention.parse("sliding-tile:window=1x1x1,tile=2x2x2,dense=0.9").make(torch.device("cpu"), torch.float32))
    early, late = (dit(latents, time=torch.tensor([time]), text=text, text_mask=None, pooled=pooled) for time in (980.0, 400.0))
    torch.testing.assert_close(early, plain[0])
    assert (late - plain[1]).norm() > 1e-3 * plain[1].norm()
    with pytest.raises(InputError, match="without padding"):
        dit(latents, torch.tensor([1.0]), text, torch.tensor([[True, True, True, False]]), pooled)


def test_a_choice_is_read_from_one_word_and_its_options():
    assert Attention.parse("sdpa") == Attention()
    assert Attention.parse("radial:kernel=flash3,block=64") == Attention("flash3", Radial(block=64))
    assert Attention.parse("sliding-tile:window=3x5x5").pattern == SlidingTile(window=(3, 5, 5))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flash4", "is not known"),
        ("sdpa:window=3", "takes no options"),
        ("radial:window=3x3x3", "no option of radial"),
        ("radial:kernel=radial", "use one of sdpa"),
        ("sliding-tile:window=3x3", "three numbers"),
        ("sliding-tile:window=2x3x3", "odd number"),
        ("radial:dense=0", "noise level"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        Attention.parse(text)


def test_kernels_for_cuda_are_refused_elsewhere():
    with pytest.raises(InputError, match="works on CUDA"):
        Attention.parse("flash2").make(torch.device("cpu"), torch.bfloat16)


def test_a_library_that_is_absent_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install flash-attn"):
        libraries.LIBRARIES["flash2"].load()


@pytest.mark.parametrize("name", KERNELS[1:])
def test_each_library_agrees_with_the_reference(name):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    try:
        kernel = LibraryAttend(name)
    except InputError as error:
        pytest.skip(str(error))
    q, k, v = (torch.randn(2, 300, 4, 128, dtype=torch.bfloat16, device="cuda") for _ in range(3))
    real = torch.arange(300, device="cuda") < torch.tensor([[300], [200]], device="cuda")
    for mask in (None, real):
        wanted = masked(q, k, v, torch.ones_like(real)[:, None, None] if mask is None else mask[:, None, None])
        bound = 0.05 if name == "sage" else 0.01  # Sage rounds queries and keys to 8 bits
        assert (kernel(q, k, v, mask).double() - wanted).norm() < bound * wanted.norm()


def test_padded_keys_are_left_out_row_by_row():
    wrapped = LibraryAttend.__new__(LibraryAttend)
    wrapped.kernel, wrapped.options = (lambda q, k, v: (attend(q, k, v), None)), {}
    q, k, v = tensors(batch=2)
    mask = torch.arange(VIDEO + TEXT) < torch.tensor([[VIDEO + TEXT], [40]])
    wanted = masked(q, k, v, mask[:, None, None])
    torch.testing.assert_close(wrapped(q, k, v, mask).double(), wanted, rtol=0, atol=1e-5)
