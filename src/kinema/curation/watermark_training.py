"""Training of the watermark detector: marks are drawn over clips whose frames lie decoded on disk, so the truth is exact.

    python -m kinema.curation.watermark_training --out DIR [--clips 300] [--steps 3000] [--footage FILE FROM TO] [--start FILE.onnx]

One thread of a processor is enough. Clips of the world's training split and windows of any footage without marks serve as ground;
a part of them stays bare. Checkpoints every minute; the same command goes on from there. `--start` adapts a detector that was exported,
the shipped one for instance, to other footage.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from kinema.curation.decode import footage, spread
from kinema.curation.filters.watermark import FRAMES, STRIDE, maps
from kinema.curation.marks import SEEN, Mark, draw_mark, words
from kinema.curation.operator import Item
from kinema.media.files import whole_file
from kinema.world.render import render
from kinema.world.spec import sample_spec
from kinema.world.sprites import SpritePack

SIDE, CUT = 256, 128  # pixels of a clip's height and width, and of the piece of it that is learned from
BATCH, WARM_UP = 16, 0.05
PEAK_RATE, ADAPT_RATE = 3e-3, 1e-3  # from random weights, from an exported detector
BARE_SHARE, SUBTITLE_SHARE, BORDER_SHARE, SECOND_SHARE, STILL_SHARE = 0.35, 0.15, 0.1, 0.15, 0.1
CORE = 0.6  # of a box, around its middle: cells there answer for it
BOX_WEIGHT = 1.5
WINDOW_SECONDS = 4.0
CLIPS, CHECKPOINT, WEIGHTS, LOG = "clips.npy", "training.pt", "watermark.onnx", "training.jsonl"
WIDTHS = (16, 24, 48)  # channels at 2, 4 and 8 pixels a cell


class Dilated(nn.Module):
    """Residual block that looks further than its neighbours."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.mix, self.norm = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        return x + F.relu(self.norm(self.mix(x)))


def halve(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class WatermarkNet(nn.Module):
    """Maps of a clip to cells of 8 pixels: whether a mark's middle is near, and how far its box reaches; 0.2 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.body = nn.Sequential(
            halve(6, fine), halve(fine, middle), Dilated(middle, 1), Dilated(middle, 2),
            halve(middle, coarse), *(Dilated(coarse, dilation) for dilation in (1, 2, 4, 1, 2, 1)),
        )  # fmt: skip
        self.heads = nn.Conv2d(coarse, 5, 1)
        nn.init.constant_(self.heads.bias[:1], -4.0)  # type: ignore[index]

    def logits(self, seen: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 5 h w"]:
        """The first before its sigmoid, then the reaches in pixels."""
        raw = self.heads(self.body(seen))
        return torch.cat([raw[:, :1], F.softplus(raw[:, 1:]) * STRIDE], dim=1)

    def forward(self, seen: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 5 h w"]:
        cells = self.logits(seen)
        return torch.cat([cells[:, :1].sigmoid(), cells[:, 1:]], dim=1)


@dataclass(frozen=True)
class Sample:
    """Maps, boxes of marks (top, left, height, width), and boxes where nothing is asked: subtitles."""

    maps: Float[np.ndarray, "6 c c"]
    marks: list[tuple[int, int, int, int]]
    ignored: list[tuple[int, int, int, int]]


def any_square(frames: UInt8[np.ndarray, "T h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "T S S 3"]:
    """A square of the clip at some zoom, perhaps mirrored, brighter or darker."""
    scale = float(rng.uniform(1.0, 1.5))
    cut = int(min(frames.shape[1:3]) / scale)
    top, left = (int(rng.integers(0, length - cut + 1)) for length in frames.shape[1:3])
    square = frames[:, top : top + cut, left : left + cut]
    square = square[:, :, ::-1] if rng.random() < 0.5 else square
    gain, lift = float(rng.uniform(0.7, 1.2)), float(rng.uniform(-20, 20))
    table = np.clip(np.arange(256) * gain + lift, 0, 255).astype(np.uint8)
    return np.stack(
        [cv2.LUT(cv2.resize(np.ascontiguousarray(frame), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), table) for frame in square]
    )


def with_subtitle(frames: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A line in the lower quarter's middle, as the text filter finds it."""
    line = words(
        " ".join("".join(rng.choice(["ka", "lo", "mi", "tra", "ven", "so"], 2)) for _ in range(4)), int(rng.integers(10, 20)), -1, rng
    )
    line = line[: SIDE // 4, : SIDE - 8]
    top, left = int(rng.integers(SIDE * 3 // 4, SIDE - line.shape[0] + 1)), (SIDE - line.shape[1]) // 2
    mark = Mark(line, top, left)
    return mark.over(frames), mark.box


def make_sample(
    frames: UInt8[np.ndarray, "T h w 3"], pictures: Sequence[np.ndarray], rng: np.random.Generator, held: bool = False
) -> Sample:
    """A clip with none, one or two marks."""
    frames = any_square(frames, rng)
    if rng.random() < STILL_SHARE:
        frames = np.repeat(frames[:1], len(frames), axis=0)
    if rng.random() < BORDER_SHARE:
        bar = int(rng.integers(8, 48))
        frames[:, :bar], frames[:, -bar:] = 0, 0
    marks: list[tuple[int, int, int, int]] = []
    ignored: list[tuple[int, int, int, int]] = []
    if rng.random() < SUBTITLE_SHARE:
        frames, box = with_subtitle(frames, rng)
        ignored.append(box)
    if rng.random() >= BARE_SHARE:
        for _ in range(1 + (rng.random() < SECOND_SHARE)):
            mark = draw_mark(rng, SIDE, SIDE, pictures, held)
            (marks if mark.strength(frames) >= SEEN else ignored).append(mark.box)
            frames = mark.over(frames)
    top, left = (any_start(rng, [mark[axis] + mark[axis + 2] // 2 for mark in marks]) for axis in (0, 1))
    piece = frames[:, top : top + CUT, left : left + CUT]
    noise = rng.normal(0, float(rng.uniform(0, 3)), (CUT, CUT, 3)).astype(np.float32)
    piece = np.stack([np.clip(frame + np.roll(noise, 37 * index, axis=0), 0, 255).astype(np.uint8) for index, frame in enumerate(piece)])
    inside = [[moved for box in boxes if (moved := within(box, top, left)) is not None] for boxes in (marks, ignored)]
    return Sample(maps(piece).stacked(), *inside)


def any_start(rng: np.random.Generator, middles: Sequence[int]) -> int:
    """Where the piece begins on one axis: at an end of the clip, around a mark, or anywhere."""
    kind = rng.random()
    if middles and kind < 0.6:
        return int(np.clip(middles[0] - rng.integers(CUT // 8, CUT - CUT // 8), 0, SIDE - CUT))
    return int(rng.choice((0, SIDE - CUT))) if kind < 0.8 else int(rng.integers(0, SIDE - CUT + 1))


def within(box: tuple[int, int, int, int], top: int, left: int) -> tuple[int, int, int, int] | None:
    """The part of a box in the piece; None where there is none."""
    above, before = max(box[0], top), max(box[1], left)
    below, after = min(box[0] + box[2], top + CUT), min(box[1] + box[3], left + CUT)
    return (above - top, before - left, below - above, after - before) if below > above and after > before else None


def targets(sample: Sample) -> tuple[Float[np.ndarray, "5 h w"], Float[np.ndarray, "h w"]]:
    """What each cell should say, and how much it counts; cells of a box but outside its core do not."""
    cells = CUT // STRIDE
    wanted, weight = np.zeros((5, cells, cells), np.float32), np.ones((cells, cells), np.float32)
    middles = (np.arange(cells) + 0.5) * STRIDE
    for top, left, height, width in sample.ignored + sample.marks:
        weight[max(0, top // STRIDE) : (top + height) // STRIDE + 1, max(0, left // STRIDE) : (left + width) // STRIDE + 1] = 0
    for top, left, height, width in sample.marks:
        rows = np.abs(middles - top - height / 2) <= max(CORE * height / 2, STRIDE / 2)
        columns = np.abs(middles - left - width / 2) <= max(CORE * width / 2, STRIDE / 2)
        core = np.ix_(rows, columns)
        weight[core] = 1
        wanted[0][core] = 1
        x, y = np.broadcast_to(middles, (cells, cells))[core], np.broadcast_to(middles[:, None], (cells, cells))[core]
        for channel, reach in enumerate((x - left, y - top, left + width - x, top + height - y), start=1):
            wanted[channel][core] = np.maximum(reach, 0.5)
    return wanted, weight


def loss_of(cells: Float[Tensor, "B 5 h w"], wanted: Float[Tensor, "B 5 h w"], weight: Float[Tensor, "B h w"]) -> Tensor:
    """Focal loss of the middles and 1 - IoU of the boxes, each over the number of cells with a mark."""
    logit, truth = cells[:, 0], wanted[:, 0]
    plain = F.binary_cross_entropy_with_logits(logit, truth, reduction="none")
    focal = plain * (truth - logit.sigmoid()).abs().pow(2)
    count = truth.sum().clamp(min=1)
    found, asked = (rearrange(x[:, 1:], "B e h w -> B h w e")[truth > 0] for x in (cells, wanted))
    inner = torch.minimum(found, asked)
    both = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    area = lambda reach: (reach[:, 0] + reach[:, 2]) * (reach[:, 1] + reach[:, 3])  # noqa: E731
    iou = both / (area(found) + area(asked) - both)
    return 4 * (focal * weight).sum() / count + BOX_WEIGHT * (1 - iou).sum() / count


def batch_of(clips: np.ndarray, pictures: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    samples = [make_sample(np.asarray(clips[rng.integers(len(clips))]), pictures, rng) for _ in range(BATCH)]
    wanted, weight = zip(*(targets(sample) for sample in samples), strict=True)
    stacks = (np.stack([sample.maps for sample in samples]), np.stack(wanted), np.stack(weight))
    maps_, asked, counted = (torch.from_numpy(stack) for stack in stacks)
    return maps_, asked, counted


@dataclass(frozen=True)
class Stretch:
    """Seconds of a film on which there are no marks."""

    path: Path
    start: float
    end: float


def windows(stretch: Stretch) -> Iterator[UInt8[np.ndarray, "T S S 3"]]:
    """A stretch cut into windows of four seconds, squared."""
    for start in np.arange(stretch.start, stretch.end - WINDOW_SECONDS, WINDOW_SECONDS).tolist():
        item = Item(f"{stretch.path}-{start}", stretch.path, "clip", start=1, end=2, start_s=start, end_s=start + WINDOW_SECONDS)
        yield square(footage(item).small)


def square(frames: UInt8[np.ndarray, "T h w 3"]) -> UInt8[np.ndarray, "T S S 3"]:
    """The frames read, their middle, at the training size."""
    chosen, side = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)], min(frames.shape[1:3])
    top, left = (frames.shape[1] - side) // 2, (frames.shape[2] - side) // 2
    middle = chosen[:, top : top + side, left : left + side]
    return np.stack([cv2.resize(np.ascontiguousarray(frame), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in middle])


def make_clips(path: Path, pack: SpritePack, count: int, films: Sequence[Stretch]) -> None:
    """Write the ground for the marks: `count` clips of the world's training split, and all windows of the films."""
    real = [window for film in films for window in windows(film)]
    with whole_file(path) as draft:
        clips = open_memmap(draft, "w+", np.uint8, (count + len(real), FRAMES, SIDE, SIDE, 3))
        for seed in range(count):
            clip = render(sample_spec(seed, pack.subjects, 4 * FRAMES, SIDE, SIDE), pack)
            clips[seed] = rearrange(spread(clip.frames.numpy(), FRAMES), "T C H W -> T H W C")
        for place, window in enumerate(real, start=count):
            clips[place] = window
        clips.flush()


def logos(pack: SpritePack, held: bool, count: int = 120) -> list[UInt8[np.ndarray, "S S 4"]]:
    """First frames of subjects; every fourth is held for tests."""
    chosen = [subject for index, subject in enumerate(pack.subjects) if (index % 4 == 3) == held]
    step = max(1, len(chosen) // count)
    return [np.moveaxis(pack.frames(subject.id)[0].numpy(), 0, -1) for subject in chosen[::step]]


def rate_at(share: float) -> float:
    return share / WARM_UP if share < WARM_UP else float(np.cos(min(share, 1.0) * np.pi / 2) ** 2)


def save_state(path: Path, state: dict) -> None:
    with whole_file(path) as draft:
        torch.save(state, draft)


def start_from(net: WatermarkNet, exported: Path, seen: Float[Tensor, "B 6 h w"]) -> None:
    """Take the weights of an exported network, whose norms lie folded in its kernels: here each undoes itself, as measured on `seen`."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(exported)).graph
    arrays = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    folded = [[arrays[name] for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    kernels = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]

    def undo(norm: nn.BatchNorm2d, inputs: tuple[Tensor], bias: Tensor) -> None:
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(var)  # type: ignore[union-attr]

    with torch.no_grad():
        for kernel, (weight, _) in zip(kernels, folded, strict=True):
            kernel.weight.copy_(weight)
        net.heads.bias.copy_(folded[-1][1])  # type: ignore[union-attr]
        hooks = [norm.register_forward_pre_hook(partial(undo, bias=bias)) for norm, (_, bias) in zip(norms, folded, strict=False)]
        net.eval()(seen)
        for hook in hooks:
            hook.remove()


def fit(net: WatermarkNet, clips: np.ndarray, pictures: Sequence[np.ndarray], out: Path, steps: int, peak: float = PEAK_RATE) -> None:
    """Train up to `steps` in all, those of earlier calls counted."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=0.02)
    step = 0
    if (out / CHECKPOINT).exists():
        state = torch.load(out / CHECKPOINT, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    saved = time.monotonic()
    net.train()
    while step < steps:
        optimizer.param_groups[0]["lr"] = peak * rate_at(step / steps)
        seen, wanted, weight = batch_of(clips, pictures, np.random.default_rng([1, step]))
        loss = loss_of(net.logits(seen), wanted, weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        step += 1
        if step % 20 == 0:
            row = {"step": step, "loss": round(float(loss.detach()), 4)}
            with (out / LOG).open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
        if time.monotonic() - saved > 60:
            saved = time.monotonic()
            save_state(out / CHECKPOINT, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
    save_state(out / CHECKPOINT, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
    net.eval()


def export(net: WatermarkNet, path: Path) -> None:
    """Write the network as ONNX, for any size of maps."""
    seen = torch.zeros(1, 6, SIDE, SIDE + 2 * STRIDE)
    sizes = {"maps": {0: "batch", 2: "height", 3: "width"}, "cells": {0: "batch", 2: "rows", 3: "columns"}}
    with whole_file(path) as draft:
        torch.onnx.export(net.eval(), (seen,), str(draft), input_names=["maps"], output_names=["cells"], dynamic_axes=sizes, dynamo=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the watermark detector.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=300, help="of the world; default: %(default)s")
    parser.add_argument("--steps", type=int, default=3000, help="of 16 clips; default: %(default)s")
    parser.add_argument(
        "--footage", nargs=3, action="append", default=[], metavar=("FILE", "FROM", "TO"), help="seconds without marks; may be repeated"
    )
    parser.add_argument("--start", type=Path, metavar="FILE.onnx", help="begin with an exported detector; default: from random weights")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    pack, films = SpritePack.open(), [Stretch(Path(path), float(start), float(end)) for path, start, end in chosen.footage]
    if not (chosen.out / CLIPS).exists():
        make_clips(chosen.out / CLIPS, pack, chosen.clips, films)
    torch.manual_seed(0)
    net, clips, pictures = WatermarkNet(), np.load(chosen.out / CLIPS, mmap_mode="r"), logos(pack, held=False)
    if chosen.start and not (chosen.out / CHECKPOINT).exists():
        start_from(net, chosen.start, torch.cat([batch_of(clips, pictures, np.random.default_rng([0, each]))[0] for each in range(8)]))
    fit(net, clips, pictures, chosen.out, chosen.steps, ADAPT_RATE if chosen.start else PEAK_RATE)
    export(net, chosen.out / WEIGHTS)
    print(chosen.out / WEIGHTS)


if __name__ == "__main__":
    main()
