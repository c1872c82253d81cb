"""`kinema evaluate run` and what belongs to it: the list of metrics, their speed, and the autoencoder's protocol."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kinema
from kinema.cli.console import ProgressBar, say
from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.evaluate.runner import Source


def add(subjects: Any) -> None:
    """Add the commands beside those of the world."""
    for name, flags, summary in COMMANDS:
        flags(subjects.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."))


def run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME|NAME=DIR",
        help="a preset, whose videos are made, or NAME=DIR: a folder of videos (or of weights) under a name; give several",
    )
    parser.add_argument("--prompts", required=True, metavar="FILE", help="txt, csv or jsonl; or: world, general")
    parser.add_argument("--count", type=int, metavar="N", help="only the first N prompts")
    parser.add_argument("--metrics", default="all", metavar="LIST", help="all, families or names, joined by commas; default: all")
    parser.add_argument(
        "--backbone",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a published network lies (clip, raft, musiq ...); several",
    )
    parser.add_argument("--reference", type=Path, metavar="DIR", help="videos that these should equal, or be distributed like")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/evaluate"), metavar="DIR", help="goes on where it stopped; default: %(default)s"
    )
    parser.add_argument("--title", default="Evaluation", help="above the report; default: %(default)s")
    parser.add_argument("--cases", type=int, default=24, metavar="N", help="prompts shown in the report, worst first; default: %(default)s")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that measure; default: one a core, eight at most")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="for --prompts world: the sprite pack; default: the built one")
    made = parser.add_argument_group("how videos are made, where a model makes them")
    made.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="default: the model's own, as below")
    made.add_argument("--frames", type=int, metavar="N")
    made.add_argument("--steps", type=int, metavar="N")
    made.add_argument("--guidance", type=float, metavar="G")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0; a prompt's own goes first")
    made.add_argument("--device", default="auto")
    made.add_argument("--dtype", default="auto", choices=("auto", "bf16", "fp16", "fp32"))
    made.add_argument("--offload", action="store_true")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> None:
    if args.cases < 0 or (args.count is not None and args.count < 1) or (args.workers is not None and args.workers < 1):
        raise InputError(f"cases={args.cases}, count={args.count}, workers={args.workers}: use 0 or more, 1 or more, 1 or more")
    from kinema.evaluate.metrics.table import chosen
    from kinema.evaluate.promptsets import read_set
    from kinema.evaluate.published import place_backbone
    from kinema.evaluate.runner import run_evaluation

    for text in args.backbone:
        place_backbone(text)
    metrics, asks = chosen(args.metrics), read_set(args.prompts, args.pack)
    sources = [source_of(text, args) for text in args.model]
    say(f"{len(sources)} models, {len(asks[: args.count])} prompts, {len(metrics)} metrics")
    with ProgressBar() as bar:
        found = run_evaluation(sources, asks, metrics, args.out, args.reference, args.count, workers_of(args), args.cases, args.title, bar)
    for name, reason in found.missing.items():
        say(f"not measured: {name}: {reason}")
    print(args.out / "report.html")


def workers_of(args: argparse.Namespace) -> int:
    import os

    return args.workers or min(8, len(os.sched_getaffinity(0)))


def source_of(text: str, args: argparse.Namespace) -> "Source":
    """A preset's name, or NAME=DIR with a folder of videos, of weights, or of neither (an error when it is read)."""
    from kinema.evaluate.runner import Source, generator
    from kinema.presets import MODELS

    name, equals, folder = text.partition("=")
    weights = Path(folder) if equals else None
    if not name or (equals and not folder) or "/" in name:
        raise InputError(f"model={text!r} must be a preset ({', '.join(MODELS)}) or NAME=DIR, such as mine=outputs/mine")
    if weights is not None and not any(weights.glob("*.safetensors")) and not (weights / "vae").exists():
        return Source(name, weights)
    if weights is None and name not in MODELS:
        raise InputError(f"model={text!r} is no preset ({', '.join(MODELS)}): for a folder of videos write NAME=DIR")
    height, width = args.size or (None, None)
    given = {"height": height, "width": width, "frames": args.frames, "steps": args.steps, "guidance": args.guidance, "seed": args.seed}
    where: dict[str, Any] = {"weights": weights, "device": args.device, "dtype": args.dtype, "offload": args.offload}
    return Source(name, None, generator(lambda: kinema.load(None if weights else name, **where), given))


def metrics_flags(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_metrics)


def run_metrics(args: argparse.Namespace) -> None:
    from kinema.evaluate.metrics.table import METRICS

    for name, metric in METRICS.items():
        arrow, absent = "up" if metric.higher_is_better else "down", metric.missing()
        print(f"{name}  [{metric.family}, {arrow} is better, {metric.backbone}]" + (f"  NOT HERE: {absent}" if absent else ""))
        print(f"    {metric.definition}")


def bench_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=int, default=16, metavar="N", help="videos measured; default: %(default)s")
    parser.add_argument("--size", type=int, nargs=3, default=(33, 128, 128), metavar=("T", "H", "W"), help="default: 33 128 128")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core, eight at most")
    parser.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> None:
    from kinema.evaluate.speed import bench

    for line in bench(args.videos, tuple(args.size), workers_of(args)):
        print(line)


def vae_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=Path, required=True, metavar="DIR", help="real videos or pictures")
    parser.add_argument("--preset", metavar="NAME", help="default: mini")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with the model's files; default: where the preset keeps them")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(360, 640), metavar=("H", "W"), help="default: 360 640, the paper's for videos"
    )
    parser.add_argument("--frames", type=int, default=33, metavar="N", help="of each video; default: %(default)s; 1 for pictures")
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluate-vae"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run=run_vae)


def run_vae(args: argparse.Namespace) -> None:
    from kinema.evaluate.autoencoder import evaluate_vae

    with ProgressBar() as bar:
        scores = evaluate_vae(kinema.load(args.preset, weights=args.weights).vae, args.videos, (args.frames, *args.size), args.out, bar)
    for name, value in scores.items():
        print(f"{name}: {value}")


COMMANDS = (
    ("run", run_flags, "measure models or folders of videos on a set of prompts, and write a report"),
    ("metrics", metrics_flags, "list the metrics: what each means, and whether it can be measured here"),
    ("bench", bench_flags, "how fast the metrics are on this machine"),
    ("vae", vae_flags, "how faithful an autoencoder is: PSNR, SSIM and perceptual distance after the paper's protocol"),
)
