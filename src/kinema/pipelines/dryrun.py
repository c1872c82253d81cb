"""Each stage of a generation without numbers: what its weights and its work take, and how many operations it is."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor, nn

from kinema.dit.model import DiT, DiTConfig
from kinema.dit.quantise import Form, as_quantised, layers_to_quantise, quantise
from kinema.dit.rope import forget_tables
from kinema.kernels.attend import attend_dry
from kinema.kernels.ledger import Ledger, pretended
from kinema.kernels.patterns import Pattern
from kinema.kernels.sparse import pairs_of, rehearsed
from kinema.shapes import LatentShape, PixelShape
from kinema.text.encoder import TextConfig
from kinema.text.llama import Llama, LlamaSize
from kinema.vae.model import CausalVAE, VAEConfig
from kinema.vae.streaming import decode_stream
from kinema.vae.tiling import largest_tile

SCRATCH = 23_000_000  # bytes that oneDNN takes for convolutions of the pieces that a CPU is given, measured
STREAMED = 3  # latent frames after which a stream needs no more than before
TEXT_TOKENS = 256  # with the prompt's template, at most about this many
SMOLLM2 = LlamaSize(
    vocab=49152, width=576, mlp_width=1536, layers=30, heads=9, kv_heads=3, head_width=64, rope_theta=100_000.0, norm_eps=1e-5
)
LLAMA3 = LlamaSize(
    vocab=128320, width=4096, mlp_width=14336, layers=32, heads=32, kv_heads=8, head_width=128, rope_theta=500_000.0, norm_eps=1e-5
)
CLIP_PARAMETERS = 123_060_480  # of CLIP-L's text tower


@dataclass(frozen=True)
class Need:
    """What a stage takes, in bytes, and its floating-point operations."""

    weights: int
    work: int  # at the peak, over weights
    flops: float
    attention_flops: float = 0.0  # of those, the attention's


def build(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        return make().to(dtype).eval()


def size_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def pretend_weights(model: nn.Module, device: str) -> None:
    """Weights without numbers on a device that the model's code then sees."""

    def empty(weight: Tensor) -> Tensor:
        return torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype, device=device)

    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(empty(weight), requires_grad=False)
        module._buffers |= {name: each if each is None else empty(each) for name, each in module._buffers.items()}  # quantised weights


@contextmanager
def rehearsal(model: nn.Module, accelerator: bool) -> Iterator[tuple[str, Ledger]]:
    """Enter to run a model built by `build`; what the block does is counted."""
    forget_tables()
    try:
        with pretended(accelerator) as device:
            pretend_weights(model, device)
            yield device, Ledger([*model.parameters(), *model.buffers()])
    finally:
        forget_tables()


@lru_cache
def need_of_dit(
    config: DiTConfig,
    latent: LatentShape,
    text: int,
    dtype: torch.dtype,
    accelerator: bool,
    pattern: Pattern | None = None,
    form: Form | None = None,
) -> Need:
    """One step of one video. All blocks of a kind are alike, so one of each is rehearsed."""
    depths = ((1, 1), (1, 0), (0, 1))
    sizes = (replace(config, double_blocks=d, single_blocks=s) for d, s in depths)
    both, double, single = (step(size, latent, text, dtype, accelerator, pattern, form) for size in sizes)

    def total(field: str) -> float:
        every, no_single, no_double = (float(getattr(need, field)) for need in (both, double, single))
        return no_single + no_double - every + config.double_blocks * (every - no_double) + config.single_blocks * (every - no_single)

    return Need(round(total("weights")), both.work, total("flops"), total("attention_flops"))


def build_dit(config: DiTConfig, dtype: torch.dtype, form: Form | None) -> DiT:
    """Without numbers, its blocks' matrices quantised as they would be."""
    dit = build(lambda: DiT(config), dtype).requires_grad_(False)
    assert isinstance(dit, DiT)
    for layer in layers_to_quantise(dit).values() if form else ():
        as_quantised(layer, *quantise(layer.weight, form))  # type: ignore[arg-type]
    return dit


def block_sizes(config: DiTConfig, dtype: torch.dtype, form: Form | None) -> list[int]:
    """Bytes of each of the trunk's blocks."""
    dit = build_dit(config, dtype, form)
    return [size_of(dit.get_submodule(name).state_dict().values()) for name in dit.plan().blocks]


def step(
    config: DiTConfig, latent: LatentShape, text: int, dtype: torch.dtype, accelerator: bool, pattern: Pattern | None, form: Form | None
) -> Need:
    dit = build_dit(config, dtype, form)
    weights, attention = size_of(dit.state_dict().values()), [0.0]

    grid = (latent.t // config.patch[0], latent.h // config.patch[1], latent.w // config.patch[2])
    way = attend_dry if pattern is None else rehearsed(pattern, grid, text, attend_dry)
    pairs = (prod(grid) + text) ** 2 if pattern is None else pairs_of(pattern, grid, text)

    def attend(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        attention[0] += 4.0 * pairs * q.shape[2] * q.shape[3]
        return way(q, k, v, key_mask)

    for name in dit.plan().blocks:
        dit.get_submodule(name).attend = attend  # type: ignore[assignment]
    with rehearsal(dit, accelerator) as (device, ledger):
        empty = partial(torch.empty, device=device, dtype=dtype)
        guidance = empty(1) if config.guidance else None
        inputs = (empty(1, config.in_channels, latent.t, latent.h, latent.w), empty(1), empty(1, text, config.text_width), None)
        with ledger:
            dit(*inputs, empty(1, config.pooled_width), guidance)
    return Need(weights, ledger.peak, ledger.flops + attention[0], attention[0])


@lru_cache
def need_of_vae(config: VAEConfig, latent: LatentShape, dtype: torch.dtype, accelerator: bool) -> Need:
    """Decoding: the peak is that of the largest piece that passes at once; frames given out are not counted."""
    vae = build(lambda: CausalVAE(config), dtype)
    assert isinstance(vae, CausalVAE)
    piece = LatentShape(min(latent.t, STREAMED), latent.h, latent.w) if config.streams else largest_tile(config, latent)
    with rehearsal(vae, accelerator) as (device, ledger):
        latents = torch.empty(1, config.latent_channels, piece.t, piece.h, piece.w, device=device, dtype=dtype)
        with ledger:
            for _ in decode_stream(vae, [latents]) if config.streams else [vae.decode(latents)]:
                pass
    return Need(size_of(vae.parameters()), ledger.peak + (0 if accelerator else SCRATCH), ledger.flops)


@lru_cache
def need_of_encoding(config: VAEConfig, shape: PixelShape, dtype: torch.dtype, accelerator: bool) -> Need:
    """Given frames to latents: the largest piece that passes at once, and the frames themselves in three number formats."""
    vae = build(lambda: CausalVAE(config), dtype)
    assert isinstance(vae, CausalVAE)
    most = config.tile_size
    piece = (shape.frames, shape.height, shape.width)
    piece = piece if config.streams else (min(shape.frames, config.tile_frames + 1), min(shape.height, most), min(shape.width, most))
    with rehearsal(vae, accelerator) as (device, ledger):
        pixels = torch.empty(1, 3, *piece, device=device, dtype=dtype)
        with ledger:
            vae.encode_frames(pixels)
    held = 3 * shape.frames * shape.height * shape.width * (1 + 4 + dtype.itemsize)
    return Need(size_of(vae.parameters()), ledger.peak + held + (0 if accelerator else SCRATCH), ledger.flops)


@lru_cache
def need_of_text(config: TextConfig, dtype: torch.dtype, accelerator: bool) -> Need:
    """Reading one prompt, with the sizes of the encoders that the kinds name."""
    size, more = (LLAMA3, CLIP_PARAMETERS * dtype.itemsize) if config.kind == "hunyuan" else (SMOLLM2, 0)
    llama = build(lambda: Llama(size, size.layers - config.skip_layers), dtype)
    with rehearsal(llama, accelerator) as (device, ledger):
        tokens = torch.zeros(1, TEXT_TOKENS, dtype=torch.long, device=device)
        with ledger:
            llama(tokens)
    return Need(size_of(llama.parameters()) + more, ledger.peak, ledger.flops)
