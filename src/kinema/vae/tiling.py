"""Large clips in overlapping tiles, for norms that mix a whole clip and so cannot stream.

As HunyuanVideo does it: tiles of 256 pixels and 64 frames, a quarter of each shared with the next, blended linearly. A later
temporal tile takes one frame more in front, for which the causal model has no past, and drops what comes out of it.
The result differs slightly from the whole, as every tile has its own statistics.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.shapes import SPACE_STRIDE, TIME_STRIDE, LatentShape
from kinema.vae.model import CausalVAE, Posterior, VAEConfig, check_pixels

OVERLAP = 0.25  # of a tile, shared with the next
CHANNELS = 3
TIME, HEIGHT, WIDTH = 2, 3, 4  # axes of [B C T H W]

Coder = Callable[[Tensor], Tensor]  # [B C T H W] to another grid


@dataclass(frozen=True)
class Tiles:
    """One axis cut into tiles: lengths on the side that is read and on the side that is written."""

    read: int
    written: int

    @property
    def step(self) -> int:
        """From the start of one tile to the next, as read; as written it is what each tile contributes."""
        return int(self.read * (1 - OVERLAP))

    @property
    def blend(self) -> int:
        """Positions written by two neighbours."""
        return int(self.written * OVERLAP)

    @property
    def kept(self) -> int:
        return self.written - self.blend


def encode_tiled(vae: CausalVAE, pixels: Float[Tensor, "B 3 T H W"]) -> Posterior:
    """The posterior of a clip of any size in the memory of one tile; small clips go through whole. Refuses what `encode` refuses."""
    check_pixels(pixels)
    size, frames = vae.config.tile_size, vae.config.tile_frames
    space, time = Tiles(size, size // SPACE_STRIDE), Tiles(frames, frames // TIME_STRIDE)
    return Posterior.of(over_time(vae.encode_frames, pixels, time, space))


def decode_tiled(vae: CausalVAE, latents: Float[Tensor, "B z t h w"]) -> Float[Tensor, "B 3 T H W"]:
    """Pixels of latents of any size; the model works in the memory of one tile, and small latents go through whole."""
    return tiled(vae.config, vae.decode, latents)


def decode_parts(vae: CausalVAE, latents: Float[Tensor, "B z t h w"]) -> Iterator[Float[Tensor, "B 3 _ H W"]]:
    """`decode_tiled` as successive frames: a long video is never whole."""
    return parts_over_time(vae.decode, latents, *decode_tiles(vae.config))


def largest_tile(config: VAEConfig, latent: LatentShape) -> LatentShape:
    """The largest piece of latents that `decode_tiled` hands to the model at once."""
    size, frames = config.tile_size // SPACE_STRIDE, config.tile_frames // TIME_STRIDE
    t = latent.t if latent.t <= frames else frames + 1
    fits = max(latent.h, latent.w) <= size
    return LatentShape(t, latent.h if fits else min(latent.h, size), latent.w if fits else min(latent.w, size))


def count_tiles(config: VAEConfig, latent: LatentShape) -> float:
    """How many times `largest_tile` all tiles of a decode are."""
    whole = largest_tile(config, latent)
    cells = 0

    def note(tile: Tensor) -> Tensor:
        nonlocal cells
        cells += tile[0, 0].numel()
        return tile.new_empty(pixels_of(tile))

    tiled(config, note, torch.empty(1, 1, latent.t, latent.h, latent.w, device="meta"))
    return cells / (whole.t * whole.h * whole.w)


def pixels_of(latents: Float[Tensor, "B z t h w"]) -> tuple[int, ...]:
    """The shape of what they decode to."""
    batch, _, t, h, w = latents.shape
    return batch, CHANNELS, (t - 1) * TIME_STRIDE + 1, h * SPACE_STRIDE, w * SPACE_STRIDE


def tiled(config: VAEConfig, decode: Coder, latents: Float[Tensor, "B z t h w"]) -> Float[Tensor, "B 3 T H W"]:
    """`decode_tiled` with any way to decode a tile; it is called with one tile after another, always in the same order."""
    return over_time(decode, latents, *decode_tiles(config))


def decode_tiles(config: VAEConfig) -> tuple[Tiles, Tiles]:
    """Along time and along both sides."""
    size, frames = config.tile_size, config.tile_frames
    return Tiles(frames // TIME_STRIDE, frames), Tiles(size // SPACE_STRIDE, size)


def over_time(code: Coder, clip: Tensor, time: Tiles, space: Tiles) -> Tensor:
    return torch.cat(list(parts_over_time(code, clip, time, space)), TIME)


def parts_over_time(code: Coder, clip: Tensor, time: Tiles, space: Tiles) -> Iterator[Tensor]:
    """What each temporal tile contributes, as soon as it does."""
    if clip.shape[TIME] <= time.read:
        yield over_space(code, clip, space)
        return
    before = None
    for start in range(0, clip.shape[TIME] - 1, time.step):
        tile = over_space(code, clip[:, :, start : start + time.read + 1], space)
        tile = tile if before is None else blend(before, tile[:, :, 1:], TIME, time.blend)
        yield tile[:, :, : time.kept + (before is None)]
        before = tile


def over_space(code: Coder, clip: Tensor, space: Tiles) -> Tensor:
    if max(clip.shape[HEIGHT:]) <= space.read:
        return code(clip)
    parts = []
    above: list[Tensor] = []
    for top in range(0, clip.shape[HEIGHT], space.step):
        above = list(row_of_tiles(code, clip[:, :, :, top : top + space.read], space, above))
        parts.append(torch.cat([tile[..., : space.kept, : space.kept] for tile in above], WIDTH))
    return torch.cat(parts, HEIGHT)


def row_of_tiles(code: Coder, band: Tensor, space: Tiles, above: list[Tensor]) -> Iterator[Tensor]:
    """The coded tiles of one band, each blended into the one above it and the one to its left."""
    left = None
    for number, start in enumerate(range(0, band.shape[WIDTH], space.step)):
        tile = code(band[..., start : start + space.read])
        if above:
            tile = blend(above[number], tile, HEIGHT, space.blend)
        if left is not None:
            tile = blend(left, tile, WIDTH, space.blend)
        yield tile
        left = tile


def blend(before: Tensor, tile: Tensor, axis: int, extent: int) -> Tensor:
    """Let the start of `tile` fade in over the end of `before`."""
    extent = min(extent, before.shape[axis], tile.shape[axis])
    weight = torch.arange(extent, device=tile.device, dtype=torch.float32).div(extent).to(tile.dtype)
    weight = weight.view([-1 if i == axis else 1 for i in range(tile.ndim)])
    mixed = before.narrow(axis, before.shape[axis] - extent, extent) * (1 - weight) + tile.narrow(axis, 0, extent) * weight
    return torch.cat([mixed, tile.narrow(axis, extent, tile.shape[axis] - extent)], axis)
