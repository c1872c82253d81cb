"""Train the recogniser: its place and its finder on whole frames, its subject on pieces; then score it on held-out clips.

python -m kinema.evaluate.naming --clips DIR --out DIR [--steps 3000] [--device cuda]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from kinema.evaluate.pieces import Pieces, prepare_pieces, visible
from kinema.evaluate.practice import Rows, Shard, read_shards
from kinema.train.loop import LoopConfig, Task, fit
from kinema.world.nets import Found
from kinema.world.recogniser import Judges, Recogniser
from kinema.world.scenes import PLACES
from kinema.world.spec import Split
from kinema.world.sprites import SpritePack

SMOOTHING = 0.1
SPREAD, LEAST_SPREAD = 0.12, 0.5  # of the heat around a middle: in the box's sides, and in cells
SURE = 0.3  # heat from which a cell has to know its box
FAINT = 0.25  # share of a subject in sight below which it need not be found
BOX_WEIGHT = 0.5
SCORES = "scores.json"


@dataclass(frozen=True)
class Lesson:
    """What the backbone saw in many frames, and what they show."""

    middle: Rows  # [112 h16 w16], float16
    last: Rows  # [320 h32 w32], float16
    boxes: Float[Tensor, "n 2 4"]  # in cells; NaN where there is no subject, or too little of it is seen
    places: Int[Tensor, " n"]

    @classmethod
    def read(cls, folder: Path, split: Split) -> "Lesson":
        """Raises InputError where `folder` holds no clips of the split."""
        shards = list(read_shards(folder, split))
        middle, last = (Rows([some.flatten(0, 1) for some in parts]) for parts in zip(*((s.middle, s.last) for s in shards), strict=True))
        places = torch.tensor([list(PLACES).index(spec.place) for shard in shards for spec in shard.specs])
        return cls(middle, last, torch.cat([boxes_in_cells(s) for s in shards]), places.repeat_interleave(len(middle) // len(places)))


def boxes_in_cells(shard: Shard) -> Float[Tensor, "n 2 4"]:
    """The boxes to be found, frame by frame."""
    height, width = shard.frames.shape[-2:]
    seen = visible(shard.boxes, height, width) > FAINT
    boxes = torch.where(seen[..., None], shard.boxes / height * shard.middle.shape[-2], torch.nan)
    return rearrange(boxes, "clips two T four -> (clips T) two four")


def wanted(boxes: Float[Tensor, "B 2 4"], height: int, width: int) -> tuple[Float[Tensor, "B h w"], Float[Tensor, "B 4 h w"]]:
    """The heat in [0, 1] that a Finder should show, and the box it should tell in each cell: that of the nearer subject."""
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    across, down = torch.arange(width).to(boxes) + 0.5, torch.arange(height).to(boxes) + 0.5
    x, y = middle[..., 0, None, None] - across, middle[..., 1, None, None] - down[:, None]
    spread = (SPREAD * size).clamp(min=LEAST_SPREAD)[..., None, None]
    heat = torch.exp(-((x / spread[:, :, 0]) ** 2 + (y / spread[:, :, 1]) ** 2) / 2).nan_to_num(0.0)
    sizes = size.log()[..., None, None].expand(-1, -1, -1, height, width)
    told = torch.stack([x.expand_as(heat), y.expand_as(heat), sizes[:, :, 0], sizes[:, :, 1]], dim=2)
    heat, nearer = heat.max(dim=1)
    return heat, told.gather(1, nearer[:, None, None].expand(-1, 1, 4, -1, -1))[:, 0].nan_to_num(0.0)


def finding_loss(found: Found, boxes: Float[Tensor, "B 2 4"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Of the heat, hard cells counting most (Lin et al. 2017, arXiv 1708.02002, for soft targets), and of the boxes."""
    heat, told = wanted(boxes, *found.heat.shape[1:])
    missed = F.binary_cross_entropy_with_logits(found.heat, heat, reduction="none") * (found.heat.sigmoid() - heat).abs() ** 2
    sure = (heat > SURE).float()
    astray = (F.smooth_l1_loss(found.boxes, told, reduction="none", beta=0.1).sum(dim=1) * sure).sum() / sure.sum().clamp(min=1)
    return missed.sum() / len(heat), astray


class JudgesTask(Task):
    """One step teaches all three, each on its own batch."""

    model: Judges

    def __init__(self, recogniser: Recogniser, lesson: Lesson, pieces: Pieces, heldout: list[Shard], batch: int):
        self.recogniser, self.model = recogniser, recogniser.judges.train()
        self.lesson, self.pieces, self.heldout, self.batch = lesson, pieces, heldout, batch

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        named, who = self.name(generator)
        frames = self.draw(len(self.lesson.places), self.batch // 6, generator)
        maps = [some[frames].to(generator.device).float() for some in (self.lesson.middle, self.lesson.last)]
        with torch.autocast(generator.device.type, torch.bfloat16):
            placed = self.model.place(*(some.flip(-1) for some in maps) if step % 2 else maps).float()
        where = F.cross_entropy(placed, self.lesson.places[frames].to(generator.device), label_smoothing=SMOOTHING)
        heat, astray = finding_loss(self.model.finder(*maps), self.lesson.boxes[frames].to(generator.device))
        return who + where + heat + BOX_WEIGHT * astray, {"subject": who, "top1": named, "place": where, "heat": heat, "box": astray}

    def draw(self, top: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
        return torch.randint(top, (count,), generator=generator, device=generator.device).cpu()

    def name(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The share of a batch of pieces that is named rightly, and the loss."""
        picks = self.draw(len(self.pieces.subjects), self.batch, generator)
        known = picks[self.pieces.subjects[picks] < len(self.recogniser.subjects)]  # still subjects are no classes
        maps = [some[known].to(generator.device).float() for some in (self.pieces.middle, self.pieces.last)]
        subjects = self.pieces.subjects[known].to(generator.device)
        with torch.autocast(generator.device.type, torch.bfloat16):
            logits = self.model.subject(*maps).float()
        return (logits.argmax(dim=1) == subjects).float().mean(), F.cross_entropy(logits, subjects, label_smoothing=SMOOTHING)

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """The averaged weights as a Recogniser, and what it scores on held-out clips."""
        self.model.load_state_dict(weights)
        self.recogniser.eval().save(folder)
        scores = accuracy(self.recogniser, self.heldout)
        (folder / SCORES).write_text(json.dumps(scores, indent=1) + "\n")
        print(scores, flush=True)


def accuracy(recogniser: Recogniser, shards: Sequence[Shard]) -> dict[str, float | int]:
    """Shares of clips: the subject (of two, either) is the first choice, or among the first 5; the place is right."""
    hits = []
    for shard in shards:
        for frames, spec in zip(shard.frames, shard.specs, strict=True):
            reading = recogniser.read(frames)
            best = [recogniser.subjects[place] in spec.subjects for place in reading.subjects.argsort(descending=True)[:5].tolist()]
            asked = any(subject in recogniser.subjects for subject in spec.subjects)
            place = recogniser.places[int(reading.places.argmax())] == spec.place
            hits.append([best[0], any(best), place, asked])
    table = torch.tensor(hits).float()
    top1, top5 = table[table[:, 3] > 0, :2].mean(dim=0).tolist()
    return {"clips": len(hits), "subject_top1": top1, "subject_top5": top5, "place": float(table[:, 2].mean())}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the recogniser that scores the world's videos.")
    parser.add_argument("--clips", type=Path, required=True, help="what `python -m kinema.evaluate.practice` made")
    parser.add_argument("--pack", type=Path, help="sprite pack; default: where `kinema world build` puts it")
    parser.add_argument("--out", type=Path, required=True, help="goes on where it stopped")
    parser.add_argument("--each", type=int, default=48, help="sprites laid over pieces, a subject; default: %(default)s")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    pack = SpritePack.open(chosen.pack)
    prepare_pieces(pack, chosen.clips, chosen.clips / "pieces", chosen.each, chosen.device)
    torch.manual_seed(0)
    recogniser = Recogniser(tuple(subject.id for subject in pack.animated), tuple(PLACES)).to(chosen.device)
    lesson, pieces = Lesson.read(chosen.clips, "train"), Pieces.read(chosen.clips / "pieces")
    task = JudgesTask(recogniser, lesson, pieces, list(read_shards(chosen.clips, "heldout")), chosen.batch)
    fit(task, LoopConfig(out=chosen.out, steps=chosen.steps, lr=2e-3, weight_decay=0.1, ema=0.998, warmup=100))


if __name__ == "__main__":
    main()
