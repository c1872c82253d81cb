"""Pieces of pictures that hold one subject each: what the recogniser learns names from.

Two kinds: cut out of rendered clips around a subject's true box, not quite precisely, and sprites laid over pieces of other clips,
in any pose, light and style. What the backbone sees of them is taken down once, a file a shard of clips and one a group of subjects.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinema.evaluate.backbones import EfficientNetLite0
from kinema.evaluate.practice import Rows, Shard, chance, either, shard_paths, uniform, worn
from kinema.media.files import whole_file
from kinema.world.light import LIGHTS, apply_light
from kinema.world.looking import SIDE, cut, middles_and_sides
from kinema.world.sprites import SpritePack
from kinema.world.style import STYLES

LOOSE = 0.45  # logarithm of the most room that practice leaves; the least is none
ASTRAY, LAID_ASTRAY = 0.08, 0.12  # by how much a box's middle is missed, in its sides: standard deviation
VISIBLE, LEAST = 0.45, 14.0  # share of a box within the frame, and pixels, below which nothing is learned from it
NATIVE = (44, 112)  # pixels of a laid piece before it is enlarged: what subjects of a clip have
GROUP, BACKDROPS = 40, 3  # subjects of a file of sprites, shards of clips behind them
TURNED, SQUEEZED, LIT, STYLED = 0.12, 0.1, 0.6, 0.4  # shares of sprites


def visible(boxes: Float[Tensor, "... 4"], height: int, width: int) -> Float[Tensor, " ..."]:
    """Share of each box within a frame; 0 for a box that is NaN."""
    limits = torch.tensor([width, height, width, height]).to(boxes)
    inside = torch.minimum(boxes.clamp(min=0), limits)
    sizes = [(some[..., 2:] - some[..., :2]).clamp(min=0).prod(dim=-1) for some in (inside, boxes)]
    return (sizes[0] / sizes[1].clamp(min=1e-6)).nan_to_num(0.0)


@dataclass(frozen=True)
class Pieces:
    """How the backbone sees pieces, and whom they show."""

    middle: Rows  # [112 h16 w16], float16
    last: Rows  # [320 h32 w32], float16
    subjects: Int[Tensor, " n"]  # places in the pack

    @classmethod
    def read(cls, folder: Path) -> "Pieces":
        """All pieces in a folder."""
        found = [load_file(path) for path in sorted(folder.glob("pieces-*.safetensors"))]
        middle, last, subjects = ([part[name] for part in found] for name in ("middle", "last", "subjects"))
        return cls(Rows(middle), Rows(last), torch.cat(subjects))


def write_pieces(path: Path, pictures: list[Float[Tensor, "_ 3 S S"]], subjects: Int[Tensor, " n"], backbone: EfficientNetLite0) -> None:
    """See the pieces and write what is seen."""
    seen = [backbone(some.to(backbone.stem.weight)) for some in pictures]
    middle, last = (torch.cat([part.half().cpu() for part in parts]).contiguous() for parts in zip(*seen, strict=True))
    with whole_file(path) as draft:
        save_file({"middle": middle, "last": last, "subjects": subjects}, draft)


def cut_from(shard: Shard, pack: SpritePack) -> tuple[list[Float[Tensor, "_ 3 S S"]], Int[Tensor, " n"]]:
    """Every subject in every frame of a shard that is well in sight, loosely cut out, and its place in the pack."""
    height, width = shard.frames.shape[-2:]
    seen = (visible(shard.boxes, height, width) > VISIBLE) & ((shard.boxes[..., 2:] - shard.boxes[..., :2]).amax(-1) > LEAST)
    clips, actors, moments = seen.nonzero(as_tuple=True)
    middles, sides = middles_and_sides(shard.boxes[clips, actors, moments])
    middles = middles + ASTRAY * sides[:, None] * torch.randn(len(sides), 2)
    sides = sides * torch.exp(torch.rand(len(sides)) * LOOSE)
    mirrored = torch.rand(len(sides)) < 0.5
    whole = shard.frames[clips, moments]
    pictures = [cut(*some) for some in zip(*(part.split(50) for part in (whole, middles, sides, mirrored)), strict=True)]
    names = [shard.specs[clip].subjects[actor] for clip, actor in zip(clips.tolist(), actors.tolist(), strict=True)]
    return pictures, torch.tensor([pack.index(name) for name in names])


def laid(sprite: UInt8[Tensor, "4 h w"], backdrop: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 S S"]:
    """A sprite (straight alpha) over a piece of a backdrop: turned a little, rarely a lot, sometimes squeezed; lit and styled."""
    side = int(uniform(*map(float, NATIVE)))
    left, top = (int(uniform(0.0, length - side + 1.0)) for length in (backdrop.shape[2], backdrop.shape[1]))
    under = backdrop[:, top : top + side, left : left + side].float() / 255
    alpha = sprite[3:].float() / 255
    picture = torch.cat([sprite[:3] * alpha / 255, alpha])
    scale = side * math.exp(-uniform(0.0, LOOSE)) / max(sprite.shape[1:])
    size = [max(4, round(length * scale)) for length in sprite.shape[1:]]
    picture = F.interpolate(picture[None], size=size, mode="bilinear", antialias=True, align_corners=False)
    layer = F.grid_sample(picture, F.affine_grid(placing(side, size), [1, 4, side, side], align_corners=False), align_corners=False)
    piece = layer[:, :3] + (1 - layer[:, 3:]) * under
    piece = apply_light(piece, either(LIGHTS)).clamp(0, 1) if chance(LIT) else piece
    piece = STYLES[either(STYLES)].apply(piece).clamp(0, 1) if chance(STYLED) else piece
    if chance(0.5):
        whole = F.pad(piece, (0, -side % 8, 0, -side % 8), mode="replicate")
        piece = worn((whole * 255).round().to(torch.uint8))[..., :side, :side].float() / 255
    return F.interpolate(piece, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0]


def placing(side: int, size: list[int]) -> Float[Tensor, "1 2 3"]:
    """A random map from a piece's coordinates to those of the picture laid on it, both in [-1, 1]."""
    angle = uniform(-math.pi, math.pi) if chance(TURNED) else 0.06 * float(torch.randn(()))
    across = (1 if chance(0.5) else -1) / (uniform(0.25, 1.0) if chance(SQUEEZED) else 1)
    x, y = (LAID_ASTRAY * torch.randn(2)).tolist()
    cos, sin, (down, wide) = math.cos(angle), math.sin(angle), (side / length for length in size)
    rows = [[cos, sin, -(cos * x + sin * y)], [-sin, cos, sin * x - cos * y]]
    return torch.tensor([[[value * across * wide for value in rows[0]], [value * down for value in rows[1]]]])


def trimmed(frames: UInt8[Tensor, "F 4 S S"]) -> UInt8[Tensor, "F 4 h w"]:
    """Cut to what is ever opaque."""
    opaque = frames[:, 3].amax(dim=0) > 24
    rows, columns = opaque.any(1).nonzero().flatten(), opaque.any(0).nonzero().flatten()
    return frames[..., int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


def laid_group(pack: SpritePack, first: int, each: int, backdrops: UInt8[Tensor, "n 3 H W"]) -> list[Float[Tensor, "each 3 S S"]]:
    """`each` pieces of every subject of a group."""
    pictures = []
    for subject in pack.animated[first : first + GROUP]:
        frames = trimmed(pack.frames(subject.id))
        picks = [(int(torch.randint(len(frames), ())), int(torch.randint(len(backdrops), ()))) for _ in range(each)]
        pictures.append(torch.stack([laid(frames[frame], backdrops[behind]) for frame, behind in picks]))
    return pictures


@torch.inference_mode()
def prepare_pieces(pack: SpritePack, clips: Path, out: Path, each: int, device: str = "cpu") -> None:
    """Make the files of pieces that are not in `out` yet.

    clips: folder that `practice.prepare` filled. each: sprites laid for every subject.
    """
    out.mkdir(parents=True, exist_ok=True)
    backbone, paths = EfficientNetLite0.load().to(device, torch.bfloat16), shard_paths(clips, "train")
    for number, path in enumerate(track(paths, "pieces of clips")):
        target = out / f"pieces-{path.name}"
        if not target.exists():
            torch.manual_seed(number)
            write_pieces(target, *cut_from(Shard.read(path), pack), backbone)
    for first in track(range(0, len(pack.animated), GROUP), "sprites over pieces"):
        target = out / f"pieces-laid-{first:04}.safetensors"
        if not target.exists():
            torch.manual_seed(first)
            behind = [paths[int(torch.randint(len(paths), ()))] for _ in range(BACKDROPS)]
            pictures = laid_group(pack, first, each, torch.cat([Shard.read(path).frames.flatten(0, 1) for path in behind]))
            write_pieces(target, pictures, torch.arange(first, first + len(pictures)).repeat_interleave(each), backbone)
