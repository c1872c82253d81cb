"""What several processes do, started once for many cases; `test_ranks.py` reads what they found.

torchrun --nproc-per-node N ranks.py OUT.json [MODEL]
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from kinema.dit.model import DiT, DiTConfig
from kinema.parallel import apply
from kinema.parallel.mesh import MeshConfig, World, open_world
from kinema.parallel.shard import gather, resident_bytes
from kinema.parallel.tiles import decode_spread
from kinema.pipelines.base import Request
from kinema.pipelines.placement import Placement
from kinema.pipelines.store import choose_model
from kinema.pipelines.video import VideoPipeline
from kinema.presets import MODELS
from kinema.text.encoder import TextStates
from kinema.train.optim import clip_gradients
from kinema.vae.model import CausalVAE, VAEConfig
from kinema.vae.tiling import decode_tiled

SIX_HEADS = DiTConfig(
    width=48, heads=6, double_blocks=1, single_blocks=2, rope_axes=(2, 2, 4), refiner_blocks=1, text_width=20, pooled_width=12,
    guidance=True,
)  # fmt: skip
THREE_HEADS = replace(SIX_HEADS, heads=3, rope_axes=(4, 6, 6))
TILED_VAE = VAEConfig(
    channels=(8, 8, 8, 8), encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), groups=4, tile_size=32, tile_frames=16
)
MESHES = ("sequence=2", "sequence=2,method=ring", "tensor=2")  # that make a video together
BATCH = 2  # samples a data rank


@dataclass(frozen=True)
class Case:
    """One mesh, and what is particular about it."""

    mesh: MeshConfig
    model: DiTConfig = SIX_HEADS
    words: int = 5
    masked: bool = True  # is some of the text padding
    given: bool = False  # are some frames given
    sizes: int = 1  # forward passes of other token counts before the backward pass
    checkpointing: str = "none"
    offload: bool = False
    compile: bool = False

    @property
    def name(self) -> str:
        plain = asdict(Case(MeshConfig()))
        fields = {name: value for name, value in asdict(self).items() if value != plain[name] and name not in ("mesh", "model")}
        axes = [f"{name}={value}" for name, value in asdict(self.mesh).items() if value not in (1, "ulysses")]
        return ",".join([*axes, f"heads={self.model.heads}", *(f"{name}={value}" for name, value in fields.items())])


ULYSSES, RING = MeshConfig(sequence=2), MeshConfig(sequence=2, method="ring")
CASES: dict[int, tuple[Case, ...]] = {
    2: (
        Case(MeshConfig(data=2)),
        Case(MeshConfig(shard=2)),
        Case(MeshConfig(shard=2), checkpointing="selective", given=True),
        Case(MeshConfig(tensor=2), given=True),
        Case(MeshConfig(tensor=2), checkpointing="full"),
        Case(ULYSSES),
        Case(ULYSSES, THREE_HEADS, given=True, checkpointing="selective"),
        Case(ULYSSES, THREE_HEADS, words=1, masked=False),
        Case(ULYSSES, sizes=2, checkpointing="full", offload=True),
        Case(RING, THREE_HEADS, given=True),
        Case(RING, words=1, masked=False, sizes=2, checkpointing="selective"),
    ),
    4: (
        Case(MeshConfig(data=2, shard=2)),
        Case(MeshConfig(data=2, tensor=2), checkpointing="full"),
        Case(MeshConfig(tensor=2, sequence=2), checkpointing="selective"),
        Case(MeshConfig(shard=2, sequence=2, method="ring"), given=True),
        Case(MeshConfig(sequence=4), THREE_HEADS, words=2, masked=False),
        Case(MeshConfig(sequence=4, method="ring"), THREE_HEADS),
    ),
}


COMPILED = (Case(MeshConfig(shard=2), compile=True), Case(ULYSSES, compile=True), Case(MeshConfig(tensor=2), compile=True))
"""For two ranks; by themselves, as a compiler takes its time."""


def seeded(model: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=draw)
    return model


def batches(case: Case, count: int) -> Iterator[dict[str, Tensor | None]]:
    """Samples with a token count that no number of ranks divides: 3 x 3 x 5 video tokens, then 1 x 3 x 5."""
    draw = torch.Generator().manual_seed(1)
    for frames in (3, 1)[: case.sizes]:
        lengths = torch.randint(1, case.words + 1, (count, 1), generator=draw)
        yield {
            "latents": torch.randn(count, 16, frames, 6, 10, generator=draw),
            "time": torch.linspace(900, 100, count),
            "text": torch.randn(count, case.words, case.model.text_width, generator=draw),
            "text_mask": torch.arange(case.words) < lengths if case.masked else None,
            "pooled": torch.randn(count, case.model.pooled_width, generator=draw),
            "guidance": torch.linspace(1000, 6000, count),
            "given": torch.rand(count, frames, generator=draw) < 0.4 if case.given else None,
        }


def loss_of(dit: DiT, samples: list[dict[str, Tensor | None]]) -> Tensor:
    return torch.stack([(dit(**each) - each["latents"]).square().mean() for each in samples]).sum()


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def furthest(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[float, str]:
    """The largest difference as a share of the tensor's largest number, and where."""
    assert found.keys() == wanted.keys()
    return max((((found[name] - each).abs().max() / each.abs().max().clamp(min=1e-12)).item(), name) for name, each in wanted.items())


def compare(case: Case, world: World) -> dict:
    """One training step of a plain model, and the same spread over ranks."""
    samples = list(batches(case, BATCH * world.data_ranks))
    here = slice(BATCH * world.data_rank, BATCH * (world.data_rank + 1))
    mine = [{name: None if x is None else x[here] for name, x in each.items()} for each in samples]
    alone, spread = seeded(DiT(case.model)), seeded(DiT(case.model))
    same = apply(spread, world, checkpointing=case.checkpointing, offload_activations=case.offload, compile=case.compile)
    assert same is spread
    loss, part = loss_of(alone, samples), loss_of(spread, mine)
    loss.backward()
    part.backward()
    mean = part.detach().clone()
    dist.all_reduce(mean)
    gradient, worst = furthest(
        {name: whole(p.grad) for name, p in spread.named_parameters()}, {name: p.grad for name, p in alone.named_parameters()}
    )
    norms = [torch.nn.utils.clip_grad_norm_(alone.parameters(), 0.5), clip_gradients(spread.parameters(), 0.5)]
    before = gather(spread.state_dict())
    average, averages = stepped(alone), gather(stepped(spread))
    return {
        "loss": abs(mean.item() / world.size / loss.item() - 1),
        "gradient": gradient,
        "worst": worst,
        "norm": abs(norms[1].item() / norms[0].item() - 1),
        "unchanged": world.rank != 0 or all(torch.equal(before[name], x) for name, x in seeded(DiT(case.model)).state_dict().items()),
        "average": furthest(averages, average)[0] if world.rank == 0 else 0.0,
        "bytes": resident_bytes(spread) / resident_bytes(alone),
    }


def stepped(dit: DiT) -> dict[str, Tensor]:
    """The moving average of the weights after one plain step of descent."""
    average = {name: x.detach().clone() for name, x in dit.state_dict().items()}
    torch.optim.SGD(dit.parameters(), lr=1.0).step()
    for name, x in dit.state_dict().items():
        average[name].lerp_(x.detach(), 0.5)
    return average


def compare_tiles(world: World) -> dict:
    """A VAE's tiles over the ranks against all of them on one."""
    vae = seeded(CausalVAE(TILED_VAE)).eval()
    latents = torch.randn(1, 16, 6, 7, 9, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        pixels, wanted = decode_spread(vae, latents, world), decode_tiled(vae, latents)
    return {"same": (pixels is None) == (world.rank > 0) and (pixels is None or torch.equal(pixels, wanted))}


def compare_generation(folder: Path, mesh: MeshConfig) -> dict:
    """Latents that ranks sample together against those that one samples alone."""
    config, files = choose_model(MODELS, None, folder)
    placement = Placement.choose("cpu", "fp32")
    alone, together = VideoPipeline(config, files, placement), VideoPipeline(config, files, placement, open_world(mesh, "cpu"))
    request = config.request("A cat walks.", 3.0, seed=7)
    alone.prompts.known = made_up(alone, request)
    together.prompts.known = alone.prompts.known
    wanted, found = alone.sample(request), together.sample(request)
    difference = ((found - wanted).abs().max() / wanted.abs().max()).item()
    return {"difference": difference, "bytes": resident_bytes(together.dit) / resident_bytes(alone.dit)}


def made_up(pipeline: VideoPipeline, request: Request) -> dict:
    """Text states without a language model: three words, then none."""
    draw = torch.Generator().manual_seed(3)
    return {
        key: TextStates(
            torch.randn(1, words, pipeline.config.text.width, generator=draw),
            torch.ones(1, words, dtype=torch.bool),
            torch.randn(1, pipeline.config.text.pooled_width, generator=draw),
        )
        for key, words in zip(pipeline.prompts.texts_of(request), (3, 1), strict=True)
    }


def main(out: Path, folder: Path | None = None) -> None:
    """folder: a tiny model; None: only what is compiled."""
    size = int(os.environ["WORLD_SIZE"])
    with open_world(MeshConfig(sequence=size), "cpu") as world:
        found = {"tiles": everywhere(compare_tiles(world))}
        for name in MESHES if folder and size == 2 else ():
            found[f"generate {name}"] = everywhere(compare_generation(folder, MeshConfig.parse(name)))
        for case in CASES[size] if folder else COMPILED:
            found[case.name] = everywhere(compare(case, open_world(case.mesh, "cpu")))
        if world.rank == 0:
            out.write_text(json.dumps(found))


def everywhere(found: dict) -> list[dict]:
    """What every rank found."""
    box: list = [None] * dist.get_world_size()
    dist.all_gather_object(box, found)
    return box


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
