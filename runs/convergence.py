"""What the progressive schedule is worth: mini from random weights, twice for the same time: through all rows, and in the last row alone.

    python runs/convergence.py LATENTS ... --heldout LATENTS --out DIR [--seconds 900] [--threads 1]

LATENTS: folders as `kinema encode` leaves them, with pictures or clips of 64x64 and clips of 33x128x128, as runs/mini_reference.sh makes
them. The averaged weights of each checkpoint are held against the same held-out clips, noise and times of 33x128x128.
Leaves convergence.json and convergence.png; started again, it goes on.
Source of the claim: HunyuanVideo (arXiv 2412.03603, section 4.4).
"""

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from kinema.data.index import LoaderConfig
from kinema.dit.model import DiT
from kinema.media.files import whole_file
from kinema.presets import mini
from kinema.train.checkpoint import KeepConfig, complete_ones, read, step_of
from kinema.train.loop import LoopConfig
from kinema.train.recipe import VideoRecipe, train_video
from kinema.train.scaling import heldout_loss
from kinema.train.stages import Stage
from kinema.train.video import VideoTask

LAST = Stage(name="clips 128", sides=(128,), frames=(33,), steps=400, tokens=3456, shift=1.7, given_share=0.0)
PICTURES = replace(LAST, name="pictures 64", sides=(64,), frames=(1,), steps=150, tokens=1536, image_share=1.0, shift=1.0)
CLIPS = replace(LAST, name="clips 64", sides=(64,), steps=300, shift=1.2)
SCHEDULES = {"progressive": (PICTURES, CLIPS, LAST), "last stage alone": (LAST,)}
POINTS = 12  # checkpoints of a run that are judged
BATCHES, SEED = 12, 7  # of held-out clips


def trained(name: str, args: argparse.Namespace) -> Path:
    """The folder of a finished run."""
    loop = LoopConfig(
        out=args.out / name.replace(" ", "-"),
        seconds=args.seconds,
        optimizer="muon",
        lr=1e-3,
        muon_lr=1e-3,
        warmup=20,
        ema=0.98,
        log_every=1,
        save_every=args.seconds / POINTS,
        keep=KeepConfig(every=1),
        peak_tflops=1.0,
    )
    task = VideoTask(folders=tuple(args.latents), stages=SCHEDULES[name], sample=False, workers=1)
    train_video(VideoRecipe(model=mini().dit, task=task, loop=loop, device="cpu"))
    return loop.out


def judged(run: Path, args: argparse.Namespace) -> list[tuple[float, float]]:
    """Core seconds and held-out loss of each checkpoint."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    spent = {row["step"]: row["progress"] * args.seconds * args.threads for row in log}
    reads = LoaderConfig(folders=(args.heldout,), tokens=LAST.tokens, sides=LAST.sides, frames=LAST.frames)
    model, found = DiT(mini().dit), []
    for path in sorted(complete_ones(run / "checkpoints")):
        model.load_state_dict(read(path, "model.") | read(path, "ema.weights."))
        found.append((spent[step_of(path)], heldout_loss(model, reads, LAST.shift, BATCHES, SEED)))
        print(f"{run.name}: {found[-1][0]:.0f} core seconds, held-out loss {found[-1][1]:.4f}", flush=True)
    return found


def reached(curve: list[tuple[float, float]], loss: float) -> float | None:
    """Core seconds at which a curve first comes down to `loss`, by straight lines between its points; None where it does not."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y1 <= loss < y0:
            return x0 + (x1 - x0) * (y0 - loss) / (y0 - y1)
    return None


def plot(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    from matplotlib.figure import Figure  # the train extra

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        minutes, losses = np.array(curve).T
        axes.plot(minutes / 60, losses, "o-", label=name)
    best = min(loss for curve in curves.values() for _, loss in curve)
    axes.set(xlabel="core minutes", ylabel="held-out loss, 33x128x128", ylim=(best - 0.01, curves["last stage alone"][0][1] + 0.02))
    axes.legend()
    with whole_file(path) as draft:
        figure.savefig(draft, dpi=90, format="png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("latents", type=Path, nargs="+")
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=SCHEDULES, help="train this one and stop, so that two processes can train both at once")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs = {name: trained(name, args) for name in ([args.only] if args.only else SCHEDULES)}
    if not args.only:
        curves = {name: judged(run, args) for name, run in runs.items()}
        last = curves["last stage alone"][-1]
        at = reached(curves["progressive"], last[1])
        told = {"core_seconds": curves, "last_alone_ends_at": last, "progressive_gets_there": at}
        with whole_file(args.out / "convergence.json") as draft:
            draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        plot(curves, args.out / "convergence.png")
        print(f"{last[0]:.0f} core seconds of the last stage alone against {'never' if at is None else f'{at:.0f}'}: loss {last[1]:.4f}")
