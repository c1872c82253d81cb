"""Everything that would stop a run, looked for before its first step: mesh, data, disk, the decoder, and one real step in memory."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from kinema.data.loader import Loader
from kinema.errors import InputError, KinemaError
from kinema.parallel.mesh import open_world
from kinema.train.plan import BYTES_A_WEIGHT, memory_per_rank, parameters, text_length, train_once
from kinema.train.recipe import VideoRecipe, spread
from kinema.train.speed import memory
from kinema.train.video import VideoTask

GRADIENT_BYTES = 4  # of BYTES_A_WEIGHT, what no checkpoint holds
RESERVE = 1.1  # of disk


@dataclass(frozen=True)
class Finding:
    """What one check found, for a person."""

    name: str
    ok: bool
    text: str


def check(recipe: VideoRecipe) -> Iterator[Finding]:
    """One finding a check, as each is done. Call it on every rank; nothing is left behind but an empty folder."""
    recipe = recipe.resolved()
    checks: dict[str, Callable[[VideoRecipe], str]] = {
        "mesh": check_mesh,
        "data": check_data,
        "decoder": check_decoder,
        "disk": check_disk,
        "memory": check_step,
    }
    for name, look in checks.items():
        try:
            yield Finding(name, True, look(recipe))
        except (KinemaError, OSError, MemoryError, torch.OutOfMemoryError) as error:
            yield Finding(name, False, " ".join(str(error).split()))


def check_mesh(recipe: VideoRecipe) -> str:
    if recipe.mesh.tensor > 1 and (recipe.model.heads % recipe.mesh.tensor or recipe.model.hidden % recipe.mesh.tensor):
        raise InputError(f"mesh tensor={recipe.mesh.tensor} does not divide {recipe.model.heads} heads and {recipe.model.hidden} channels")
    with open_world(recipe.mesh, recipe.device) as world:
        return f"{world.size} rank{'s' * (world.size > 1)} on {world.device}, {world.data_ranks} of them with samples of their own"


def check_data(recipe: VideoRecipe) -> str:
    """Every shard opens, folders agree, every row finds clips, and a batch of each row can be read."""
    found = []
    for number, row in enumerate(recipe.task.rows):
        loader = Loader(recipe.task.loader(row), recipe.loop.seed + number, 0, recipe.mesh.data * recipe.mesh.shard)
        batch = loader.next()
        clips = sum(each.clips for each in loader.plan())
        loader.close()
        if loader.damaged:
            raise InputError(f"stage {row.name}: {loader.damaged[-1]}")
        check_widths(recipe, batch.text.shape[-1], batch.pooled.shape[-1], batch.latents.shape[1])
        found.append(f"{row.name}: {clips} clips in {len(loader.plan())} buckets")
    return "; ".join(found)


def check_widths(recipe: VideoRecipe, text: int, pooled: int, channels: int) -> None:
    wanted = (recipe.model.text_width, recipe.model.pooled_width, recipe.model.in_channels)
    if (text, pooled, channels) != wanted:
        raise InputError(
            f"the folders hold text states of {text}, pooled vectors of {pooled} and latents of {channels} channels; the model takes "
            f"{wanted}: change model.text_width, model.pooled_width or model.in_channels, or encode with the fitting text encoder"
        )


def check_decoder(recipe: VideoRecipe) -> str:
    """Samples must be decoded by the VAE that the latents came from."""
    if recipe.sample is None:
        return "no samples are made on the way"
    told = vae_of(recipe.task)
    ours = recipe.sample.vae_fingerprint()
    if told != ours:
        raise InputError(f"sample.vae={recipe.sample.vae} is VAE {ours}, and the latents are of VAE {told}: name the one they came from")
    return f"samples are decoded by the VAE that made the latents, {ours}"


def vae_of(task: VideoTask) -> str:
    from kinema.data.store import MadeBy

    return MadeBy.read(task.folders[0]).vae


def check_disk(recipe: VideoRecipe) -> str:
    """Room for the checkpoints that are kept, and the one being written."""
    one = parameters(recipe.model) * (BYTES_A_WEIGHT - GRADIENT_BYTES)
    need = one * (recipe.loop.keep.last + 1) * RESERVE
    free = shutil.disk_usage(nearest(recipe.loop.out)).free
    told = f"{need / 1e9:.3g} GB for {recipe.loop.keep.last + 1} checkpoints of {one / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
    if need > free:
        raise InputError(f"{told} at {recipe.loop.out}: free some, choose another loop.out, or lower loop.keep.last")
    return told


def nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


def check_step(recipe: VideoRecipe) -> str:
    """A forward and backward pass of the largest bucket at its whole batch, on the ranks of the mesh."""
    row = max(recipe.task.rows, key=lambda each: each.largest.tokens)
    tokens, ranks = row.largest.tokens, recipe.mesh.data * recipe.mesh.shard
    batch = max(row.tokens // tokens // ranks, 1)
    with open_world(recipe.mesh, recipe.device) as world:
        model = spread(recipe, world)
        seconds = train_once(model, batch, tokens, text_length(recipe), world.device)
        used = memory(world.device) / 1e9
    estimate = memory_per_rank(recipe, tokens, batch) / 1e9
    return f"{batch} samples of {row.largest} a rank: {used:.3g} GB ({estimate:.3g} GB with optimiser and average), {seconds:.3g} s"
