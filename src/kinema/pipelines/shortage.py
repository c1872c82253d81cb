"""Out of memory: told from other errors, memory given back, and what to do about it."""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from kinema.errors import OutOfMemoryError
from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.placement import Placement

SAYS = ("can't allocate memory", "not enough memory", "could not create a memory object", "cannot allocate memory")  # PyTorch and oneDNN


def is_shortage(error: BaseException) -> bool:
    """Whether a device or the process ran out of memory: on a CPU PyTorch tells in words alone."""
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(said in words for said in SAYS)
    )


@contextmanager
def told(advice: Callable[[], str], release: Callable[[], None]) -> Iterator[None]:
    """Turn a shortage within into OutOfMemoryError with `advice`, after `release` and all that the failed work held has gone."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemoryError) or not is_shortage(error):
            raise
        traceback.clear_frames(error.__traceback__)
        release()
        collect()
        raise OutOfMemoryError(f"out of memory: {advice()}") from None


def collect() -> None:
    """Let go of what nothing holds, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def way_to_denoise(config: ModelConfig, request: Request, placement: Placement) -> str:
    """The plan's cheapest change that fits into what there is."""
    from kinema.pipelines.plan import Plan, cheapest, device_memory  # slow to import, and seldom needed

    found, memory = None, device_memory(placement.device)
    plan = Plan(config=config, request=request, placement=placement)
    with suppress(MemoryError, RuntimeError):  # even planning takes a little
        found = cheapest(plan, memory) if memory else None
    way = f"{found.says} ({found.plan.peak / 1e9:.1f} GB)" if found else "ask for fewer --frames or a smaller --size"
    return f"{way}; `kinema plan` tells more"


def way_to_decode(config: ModelConfig, placement: Placement, kept: Path) -> str:
    """Smaller tiles, or the VAE alone on the device; the latents are there."""
    from kinema.pipelines.plan import TILES

    size = placement.tiles_of(config.vae).tile_size
    tile = next((smaller for smaller in TILES if smaller < size), None)
    flags = [] if config.vae.streams or tile is None else [f"--tile {tile}"]
    flags += ["--offload"] if placement.offload == "none" else []
    way = f"go on with kinema generate --from-latents {kept}"
    return f"the latents are kept: {' '.join([way, *flags])}" + ("" if flags else ", where there is more memory")
