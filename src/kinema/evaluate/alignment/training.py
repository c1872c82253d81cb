"""Train the image-text model on the clips that `practice.py` made and on their captions, and score it on held-out ones.

A batch of clips and of texts, each clip's own text to be found among all of them and the other way round (Radford et al. 2021,
arXiv 2103.00020), and for each clip a text that is wrong in one thing, to be told from the right one. What the frozen backbones
say of clips and texts is taken down once, the texts beside their clips.

    python -m kinema.evaluate.alignment.training --clips DIR --out DIR [--recogniser DIR] [--steps 1500] [--device cuda]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinema.evaluate.alignment.model import BATCH, RECOGNISER, WEIGHTS, Towers, TowersConfig, View, padded, view, weights_hash
from kinema.evaluate.alignment.texts import DIMENSIONS, contrast, right_texts
from kinema.evaluate.backbones import MiniLM
from kinema.evaluate.practice import Rows, Shard, shard_paths
from kinema.media.files import whole_file
from kinema.train.loop import LoopConfig, Task, fit
from kinema.world.recogniser import Recogniser
from kinema.world.spec import ClipSpec, Split
from kinema.world.sprites import SpritePack, Subject

RIGHT = -1  # the dimension of a text that is one of a clip's captions
CONTRAST = 0.5  # weight of telling right from wrong
SCORES = "scores.json"


@dataclass(frozen=True)
class Texts:
    """Token states of many texts, one after the other, and what each is to which clip."""

    states: Float[Tensor, "tokens 384"]  # float16
    lengths: Int[Tensor, " n"]
    clips: Int[Tensor, " n"]
    dimensions: Int[Tensor, " n"]  # place in DIMENSIONS of a pair, or RIGHT
    wrong: Int[Tensor, " n"]  # 1 for the second of a pair, which follows the first

    def batch(self, numbers: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Texts by number, for the reading tower."""
        ends = self.lengths.cumsum(0)
        return padded([self.states[int(ends[n] - self.lengths[n]) : int(ends[n])] for n in numbers], device)


def texts_of(specs: Sequence[ClipSpec], known: dict[str, Subject]) -> list[tuple[str, int, int, int]]:
    """(text, clip, dimension, wrong) of every text."""
    rows = []
    for clip, spec in enumerate(specs):
        rows += [(text, clip, RIGHT, 0) for text in right_texts(spec, known, 0)]
        for place, dimension in enumerate(DIMENSIONS):
            rows += [(text, clip, place, wrong) for wrong, text in enumerate(contrast(spec, known, dimension, 0) or ())]
    return rows


def read_texts(path: Path, specs: Sequence[ClipSpec], known: dict[str, Subject], minilm: MiniLM) -> Texts:
    """The texts of a shard, from the file beside it if they were read before."""
    if not path.exists():
        rows = texts_of(specs, known)
        order = sorted(range(len(rows)), key=lambda n: len(rows[n][0]))  # like lengths together: little padding
        states: list[Tensor] = [torch.empty(0)] * len(rows)
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            for number, state in zip(some, minilm.states([rows[n][0] for n in some]), strict=True):
                states[number] = state.half()
        columns = torch.tensor([row[1:] for row in rows])
        lengths = torch.tensor([len(state) for state in states])
        with whole_file(path) as draft:
            save_file({"states": torch.cat(states), "lengths": lengths, "columns": columns}, draft)
    found = load_file(path)
    return Texts(found["states"], found["lengths"], *found["columns"].unbind(1))


def read_views(path: Path, shard: Shard, judge: Recogniser) -> View:
    """What the frozen networks say of a shard's frames, from the file beside it if they were asked before."""
    if not path.exists():
        with torch.autocast(judge.judges.place.head.weight.device.type, torch.bfloat16):  # twice as fast on a CPU
            views = [
                view(judge, frames, judge.look(frames, (middle.float(), last.float())))
                for frames, middle, last in zip(shard.frames, shard.middle, shard.last, strict=True)
            ]
        seen, moving = torch.stack([some.seen.half() for some in views]), torch.stack([some.moving.float() for some in views])
        with whole_file(path) as draft:
            save_file({"seen": seen, "moving": moving}, draft)
    found = load_file(path)
    return View(found["seen"], found["moving"])


@dataclass(frozen=True)
class Lesson:
    """What the frozen networks said of many clips and their texts."""

    seen: Rows  # [T s], float16
    moving: Rows  # [T m]
    texts: Texts

    @classmethod
    @torch.inference_mode()
    def read(cls, folder: Path, split: Split, known: dict[str, Subject], judge: Recogniser) -> "Lesson":
        """Raises InputError where `folder` holds no clips of the split."""
        minilm, views, texts, start = MiniLM(), [], [], 0
        for path in track(shard_paths(folder, split), f"{split} views and texts"):
            shard = Shard.read(path)
            views.append(read_views(path.with_name(f"views-{path.name}"), shard, judge))
            found = read_texts(path.with_name(f"texts-{path.name}"), shard.specs, known, minilm)
            texts.append(Texts(found.states, found.lengths, found.clips + start, found.dimensions, found.wrong))
            start += len(shard.specs)
        columns = zip(*((t.states, t.lengths, t.clips, t.dimensions, t.wrong) for t in texts), strict=True)
        seen, moving = (Rows(list(parts)) for parts in zip(*views, strict=True))
        return cls(seen, moving, Texts(*(torch.cat(part) for part in columns)))

    def views(self, clips: Int[Tensor, " B"], device: torch.device | str) -> View:
        """Clips by number, for the tower of videos."""
        return View(*(rows[clips].to(device).float() for rows in (self.seen, self.moving)))


class AlignmentTask(Task):
    """Bring together what belongs together."""

    model: Towers

    def __init__(self, towers: Towers, judge: str, lesson: Lesson, heldout: Lesson, batch: int):
        """judge: the SHA-256 of the recogniser's weights."""
        self.model, self.judge, self.lesson, self.heldout, self.batch = towers.train(), judge, lesson, heldout, batch
        texts, clips = lesson.texts, len(lesson.seen)
        self.right: list[list[int]] = [[] for _ in range(clips)]
        self.pairs: list[list[int]] = [[] for _ in range(clips)]  # numbers of the right ones
        for number, (clip, dimension, wrong) in enumerate(
            zip(texts.clips.tolist(), texts.dimensions.tolist(), texts.wrong.tolist(), strict=True)
        ):
            if not wrong:
                (self.right if dimension == RIGHT else self.pairs)[clip].append(number)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        device = generator.device
        clips = torch.randperm(len(self.right), generator=generator, device=device)[: self.batch].cpu()
        draws = torch.randint(1 << 20, (2, len(clips)), generator=generator, device=device).tolist()
        right = [self.right[clip][draw % len(self.right[clip])] for clip, draw in zip(clips.tolist(), draws[0], strict=True)]
        asked = [
            (row, self.pairs[clip][draw % len(self.pairs[clip])])
            for row, (clip, draw) in enumerate(zip(clips.tolist(), draws[1], strict=True))
            if self.pairs[clip]
        ]
        videos = self.model.seeing.video(self.lesson.views(clips, device))
        numbers = [*right, *(number + wrong for wrong in (0, 1) for _, number in asked)]
        texts = self.model.reading(*self.lesson.texts.batch(numbers, device))
        scale, owners = self.model.log_scale.exp().clamp(max=100), videos[[row for row, _ in asked]]
        products = scale * videos @ texts[: len(right)].T
        target = torch.arange(len(right), device=device)
        found = (F.cross_entropy(products, target) + F.cross_entropy(products.T, target)) / 2
        fits, fails = ((owners * some).sum(dim=1) for some in texts[len(right) :].chunk(2))
        told = F.softplus(scale * (fails - fits[:, None])).mean()  # every wrong one against every right one, as ROC-AUC counts
        figures = {"found": found, "told": told, "right": (fits > fails).float().mean(), "scale": scale}
        return found + CONTRAST * told, figures

    def export(self, weights: dict[str, Tensor], folder: Path) -> None:
        """The averaged weights, and what they score on held-out clips."""
        self.model.load_state_dict(weights)
        self.model.eval().save(folder / WEIGHTS, self.judge)
        scores = score(self.model, self.heldout)
        (folder / SCORES).write_text(json.dumps(scores, indent=1) + "\n")
        print(json.dumps(scores, indent=1), flush=True)


def area_under_curve(right: Float[Tensor, " n"], wrong: Float[Tensor, " m"]) -> float:
    """ROC-AUC: how often a right one scores above a wrong one, over all pairs; ties count half (Mann & Whitney 1947)."""
    above = right[:, None] - wrong
    return float((above > 0).float().mean() + 0.5 * (above == 0).float().mean())


def recalls(products: Float[Tensor, "n n"]) -> dict[str, float]:
    """Share of rows whose own column is among the best 1, 5 and 10."""
    ranks = (products > products.diagonal()[:, None]).sum(dim=1)
    return {f"R@{top}": float((ranks < top).float().mean()) for top in (1, 5, 10)}


@torch.inference_mode()
def score(towers: Towers, lesson: Lesson) -> dict[str, dict[str, float | int]]:
    """Retrieval among all held-out clips, each with its user's prompt, and right against wrong texts by dimension."""
    device, texts = towers.log_scale.device, lesson.texts
    videos = torch.cat([towers.seeing.video(lesson.views(some, device)) for some in torch.arange(len(lesson.seen)).split(BATCH)]).cpu()
    numbers = torch.arange(len(texts.lengths)).split(BATCH)
    vectors = torch.cat([towers.reading(*texts.batch(some.tolist(), device)) for some in numbers]).cpu()
    prompts = (texts.clips.diff(prepend=torch.tensor([-1])) > 0).nonzero().flatten()  # the first text of each clip
    products, fits = videos @ vectors[prompts].T, (videos[texts.clips] * vectors).sum(dim=1)
    out: dict[str, dict[str, float | int]] = {
        "video to text": {"clips": len(videos), **recalls(products)},
        "text to video": recalls(products.T),
    }
    for place, dimension in enumerate(DIMENSIONS):
        right, wrong = (fits[(texts.dimensions == place) & (texts.wrong == which)] for which in (0, 1))
        out[dimension] = {
            "pairs": len(right),
            "auc": area_under_curve(right, wrong),
            "right above its wrong": float((right > wrong).float().mean()),
        }
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the image-text and video-text model.")
    parser.add_argument("--clips", type=Path, required=True, help="what `python -m kinema.evaluate.practice` made")
    parser.add_argument("--recogniser", type=Path, default=RECOGNISER, help="whose glimpse to look with")
    parser.add_argument("--pack", type=Path, help="sprite pack; default: where `kinema world build` puts it")
    parser.add_argument("--out", type=Path, required=True, help="goes on where it stopped")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    known, judge = {subject.id: subject for subject in SpritePack.open(chosen.pack).subjects}, Recogniser.load(chosen.recogniser)
    splits: tuple[Split, ...] = ("train", "heldout")
    lesson, heldout = (Lesson.read(chosen.clips, split, known, judge) for split in splits)
    torch.manual_seed(0)
    task = AlignmentTask(Towers(TowersConfig()).to(chosen.device), weights_hash(chosen.recogniser), lesson, heldout, chosen.batch)
    config = LoopConfig(out=chosen.out, steps=chosen.steps, lr=1e-3, weight_decay=0.1, ema=0.998, warmup=100)
    fit(task, config)


if __name__ == "__main__":
    main()
