"""A clip of any length through the autoencoder in chunks: exactly what the whole would give, in the memory of one chunk.

Possible where no layer mixes frames but the causal convolutions, and those remember their last frames.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError
from kinema.shapes import TIME_STRIDE
from kinema.vae.conv import Past
from kinema.vae.model import CausalVAE, Posterior


def check_streams(vae: CausalVAE) -> None:
    """Raise InputError for a model whose norm or attention looks over the whole clip."""
    if not vae.config.streams:
        raise InputError(
            f"a VAE with norm={vae.config.norm!r} and mid_attention={vae.config.mid_attention!r} looks over the whole clip and cannot "
            "stream: use encode_tiled and decode_tiled of kinema.vae.tiling"
        )


def encode_stream(vae: CausalVAE, chunks: Iterable[Float[Tensor, "B 3 _ H W"]]) -> Iterator[Posterior]:
    """Posteriors of successive frames as soon as a latent frame is complete.

    chunks: pixels in [-1, 1], any number of frames each; 1 + a multiple of 4 in all.
    Raises InputError for a VAE that cannot stream, and at the end if frames are left over.
    """
    check_streams(vae)
    past: Past = {}
    for group in whole_groups(chunks):
        yield Posterior.of(vae.encode_frames(group, past))


def decode_stream(vae: CausalVAE, chunks: Iterable[Float[Tensor, "B z _ h w"]]) -> Iterator[Float[Tensor, "B 3 _ H W"]]:
    """Pixels of successive latent frames: 4 for each, 1 for the very first.

    Memory grows with the size of a chunk, not with their number. Raises InputError for a VAE that cannot stream.
    """
    check_streams(vae)
    past: Past = {}
    for chunk in chunks:
        for latent in chunk.split(1, dim=2):
            yield vae.decode(latent, past)


def whole_groups(chunks: Iterable[Float[Tensor, "B C _ H W"]]) -> Iterator[Float[Tensor, "B C _ H W"]]:
    """Regroup a clip's frames to what makes whole latent frames: 1, then 4 at a time, as they come."""
    waiting, wanted, total = None, 1, 0
    for chunk in chunks:
        total += chunk.shape[2]
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], 2)
        while waiting.shape[2] >= wanted:
            yield waiting[:, :, :wanted]
            waiting, wanted = waiting[:, :, wanted:], TIME_STRIDE
    if waiting is not None and waiting.shape[2]:
        low = (total - 1) // TIME_STRIDE * TIME_STRIDE + 1
        raise InputError(f"frames={total} leave some over: use {low} or {low + TIME_STRIDE} (1 + a multiple of {TIME_STRIDE})")
