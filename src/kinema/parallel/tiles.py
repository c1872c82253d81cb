"""A video's tiles over several ranks: each decodes every n-th, and the leader blends them as if it had made them all."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from kinema.parallel.mesh import World
from kinema.vae.model import CausalVAE
from kinema.vae.tiling import pixels_of, tiled


def decode_spread(vae: CausalVAE, latents: Float[Tensor, "B z t h w"], world: World) -> Float[Tensor, "B 3 T H W"] | None:
    """`decode_tiled` by a leader and its peers, who all call it with the same latents; the peers get None."""
    tiles: list[Tensor] = []

    def note(tile: Tensor) -> Tensor:
        tiles.append(tile)
        return torch.empty(pixels_of(tile), device="meta", dtype=tile.dtype)

    tiled(vae.config, note, latents)
    ready = decoded(vae, tiles, world)
    if world.leads:
        return tiled(vae.config, lambda tile: next(ready), latents)
    for _ in ready:
        pass
    return None


def decoded(vae: CausalVAE, tiles: list[Tensor], world: World) -> Iterator[Tensor]:
    """Every tile's pixels in order on the leader; on another rank those that it made, which are then on their way."""
    ranks = world.config.peers
    leader, own = world.rank - world.rank % ranks, world.rank % ranks
    for number, tile in enumerate(tiles):
        maker = number % ranks
        if maker == own:
            pixels = vae.decode(tile).contiguous()
            if own:
                dist.send(pixels, leader, world.peers)
            yield pixels
        elif not own:
            pixels = torch.empty(pixels_of(tile), device=tile.device, dtype=tile.dtype)
            dist.recv(pixels, leader + maker, world.peers)
            yield pixels
