"""Clips to learn from: rendered by the world, worn as videos are, and seen once through the frozen backbone.

A shard is a safetensors file of SHARD clips: their frames, the backbone's features at two depths, and in its metadata the specs.
Only training splits are rendered, and nothing that a model has made. A broken run goes on where it stopped.

    python -m kinema.evaluate.practice --out DIR [--pack PATH] [--clips 10000] [--device cuda]
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinema.errors import InputError
from kinema.evaluate.backbones import EfficientNetLite0
from kinema.media.files import whole_file
from kinema.world.looking import fitted
from kinema.world.render import plan_clip, render_frames
from kinema.world.spec import ClipSpec, Split, sample_spec
from kinema.world.sprites import SpritePack

FRAMES, FPS = 5, 2  # as sparse as a judge looks at a video of 2 to 3 seconds
SIDE = 128  # pixels of a rendered frame
SHARD, CAST = 200, 40  # clips of a shard, subjects among which they are drawn: few, because decoding one takes as long as a clip
FIRST_SEED = 1 << 40  # far from the seeds that models train on
WORN, NOISY, CODED, SOFT = 0.5, 0.4, 0.5, 0.6  # shares: of clips, and of the worn ones


def uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))


def chance(share: float) -> bool:
    return uniform(0.0, 1.0) < share


def either(options: Iterable[str]) -> str:
    names = list(options)
    return names[int(torch.randint(len(names), ()))]


def graded(frames: Float[Tensor, "T 3 h w"]) -> Float[Tensor, "T 3 h w"]:
    """Another light: gain a channel, gamma, contrast, saturation."""
    gain = torch.empty(3, 1, 1).uniform_(0.85, 1.15) * uniform(0.7, 1.15)
    lit = (frames * gain).clamp(1e-4, 1) ** math.exp(uniform(-0.25, 0.25))
    lit = torch.lerp(lit.mean(dim=1, keepdim=True).expand_as(lit), lit, uniform(0.6, 1.3))
    return ((lit - 0.5) * uniform(0.8, 1.2) + 0.5 + uniform(-0.06, 0.06)).clamp(0, 1)


def softened(frames: Float[Tensor, "T 3 h w"], size: int) -> Float[Tensor, "T 3 h w"]:
    """Down to `size` pixels and back, as a small video is seen."""
    small = F.interpolate(frames, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, size=frames.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal 8-point discrete cosine transform."""
    place = torch.arange(8).float()
    rows = torch.cos(math.pi / 8 * (place + 0.5) * place[:, None]) * 0.5
    rows[0] /= math.sqrt(2)
    return rows


def coded(frames: Float[Tensor, "T 3 h w"], coarseness: float) -> Float[Tensor, "T 3 h w"]:
    """What a block codec leaves: 8x8 cosine coefficients rounded, the finer the detail the coarser."""
    basis, order = cosines(), torch.arange(8)
    blocks = rearrange(frames, "T c (h y) (w x) -> T c h w y x", y=8, x=8)
    step = coarseness * (1 + order[:, None] + order)
    rounded = ((basis @ blocks @ basis.T) / step).round() * step
    return rearrange(basis.T @ rounded @ basis, "T c h w y x -> T c (h y) (w x)").clamp(0, 1)


def worn(frames: UInt8[Tensor, "T 3 h w"]) -> UInt8[Tensor, "T 3 h w"]:
    """The states in which a video may show its subject; sides are multiples of 8."""
    pictures = graded(frames.float() / 255)
    if chance(SOFT):
        pictures = softened(pictures, round(uniform(0.3, 0.9) * frames.shape[-1]))
    if chance(CODED):
        pictures = coded(pictures, uniform(0.002, 0.02))
    if chance(NOISY):
        pictures = pictures + uniform(0.0, 0.05) * torch.randn_like(pictures)
    return pictures.clamp(0, 1).mul(255).round().to(torch.uint8)


def practice_spec(seed: int, pack: SpritePack, split: Split) -> ClipSpec:
    """A clip as a model's are, 33 frames long, of which FRAMES are shown."""
    cast = pack.animated
    some = [cast[(seed // SHARD * CAST + index) % len(cast)] for index in range(CAST)] if split == "train" else cast
    return replace(sample_spec(FIRST_SEED + seed, some, 33, SIDE, SIDE, split), frames=FRAMES, fps=FPS)


@dataclass(frozen=True)
class Shard:
    """Clips, how the backbone sees them, and what they show."""

    frames: UInt8[Tensor, "clips T 3 h w"]
    middle: Float[Tensor, "clips T 112 h16 w16"]  # float16
    last: Float[Tensor, "clips T 320 h32 w32"]  # float16
    boxes: Float[Tensor, "clips 2 T 4"]  # of the subjects: left, top, right, bottom in pixels; NaN where there is but one
    specs: tuple[ClipSpec, ...]

    @classmethod
    def read(cls, path: Path) -> "Shard":
        with safe_open(path, "pt") as file:
            specs = tuple(ClipSpec.from_json(row) for row in json.loads(file.metadata()["specs"]))
            tensors = {name: file.get_tensor(name) for name in ("frames", "middle", "last", "boxes")}
            return cls(**tensors, specs=specs)

    def write(self, path: Path) -> None:
        tensors = {"frames": self.frames, "middle": self.middle, "last": self.last, "boxes": self.boxes}
        with whole_file(path) as draft:
            save_file(tensors, draft, {"specs": json.dumps([spec.to_json() for spec in self.specs])})


@torch.inference_mode()
def make_shard(first: int, pack: SpritePack, backbone: EfficientNetLite0, split: Split, count: int = SHARD) -> Shard:
    """The clips from number `first` on; those of the training split are worn."""
    torch.manual_seed(first)
    weight = backbone.stem.weight
    frames: list[Tensor] = []
    middles, lasts, specs = [], [], []
    boxes = torch.full((count, 2, FRAMES, 4), torch.nan)
    for seed in range(first, first + count):
        specs.append(practice_spec(seed, pack, split))
        clip, found = render_frames(specs[-1], pack), torch.from_numpy(plan_clip(specs[-1], pack)[0].boxes())
        boxes[len(frames), : len(found)] = found.float()
        frames.append(worn(clip) if split == "train" and chance(WORN) else clip)
        middle, last = backbone(fitted(frames[-1]).to(weight))
        middles.append(middle.half().cpu().contiguous())
        lasts.append(last.half().cpu().contiguous())
    return Shard(torch.stack(frames), torch.stack(middles), torch.stack(lasts), boxes, tuple(specs))


def prepare(pack: SpritePack, folder: Path, clips: int, split: Split, device: str = "cpu") -> list[Path]:
    """Make the shards that are not in `folder` yet; returns all of them, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    backbone = EfficientNetLite0.load().to(device, torch.bfloat16)
    paths = [folder / f"{split}-{index:04}.safetensors" for index in range(-(-clips // SHARD))]
    for index, path in enumerate(track(paths, f"{split} clips")):
        if not path.exists():
            make_shard(index * SHARD, pack, backbone, split).write(path)
    return paths


class Rows:
    """The rows of many tensors as one; tensors that lie in files stay there until a row is asked for."""

    def __init__(self, parts: Sequence[Tensor]):
        self.parts = parts
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, numbers: Int[Tensor, " n"]) -> Tensor:
        which = torch.searchsorted(self.ends, numbers, right=True).tolist()
        return torch.stack([self.parts[part][row - int(self.ends[part])] for part, row in zip(which, numbers.tolist(), strict=True)])


def shard_paths(folder: Path, split: Split) -> list[Path]:
    """The shards that `prepare` wrote. Raises InputError where there are none."""
    paths = sorted(folder.glob(f"{split}-*.safetensors"))
    if not paths:
        raise InputError(f"no {split} clips in {folder}: make them with `python -m kinema.evaluate.practice --out {folder}`")
    return paths


def read_shards(folder: Path, split: Split) -> Iterator[Shard]:
    """One shard after the other."""
    return map(Shard.read, shard_paths(folder, split))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Render the clips that the judges learn from.")
    parser.add_argument("--pack", type=Path, help="sprite pack; default: where `kinema world build` puts it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--heldout", type=int, default=600)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    pack = SpritePack.open(chosen.pack)
    prepare(pack, chosen.out, chosen.heldout, "heldout", chosen.device)
    prepare(pack, chosen.out, chosen.clips, "train", chosen.device)


if __name__ == "__main__":
    main()
