"""`kinema evaluate`: what is scored on, and the two tests on the embedded world."""

import argparse
from pathlib import Path

from kinema.cli import evaluate_avatar, evaluate_run
from kinema.cli.generate import load, model_flags
from kinema.errors import InputError


def flags(parser: argparse.ArgumentParser) -> None:
    subjects = parser.add_subparsers(title="what to score on", metavar="WHAT", required=True)
    evaluate_run.add(subjects)
    evaluate_avatar.add(subjects)
    world = subjects.add_parser("world", help="held-out prompts of the embedded world: subject, place, direction of motion, reconstruction")
    world_flags(world, "world", 200)
    world.set_defaults(run=run_world)
    i2v = subjects.add_parser(
        "i2v", help="held-out first frames of the embedded world that start to move: fidelity, subject, direction, flash"
    )
    world_flags(i2v, "i2v", 100)
    i2v.add_argument("--frames", type=int, metavar="N", help="1 + a multiple of 4; above the model's window it goes on piece by piece")
    i2v.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="height and width in pixels; default: the model's own")
    i2v.set_defaults(run=run_i2v)


def run_world(args: argparse.Namespace) -> None:
    if args.count < 1:
        raise InputError(f"count={args.count} must be 1 or more")
    from kinema.evaluate.world import RECOGNISER, evaluate_world

    pipeline = load(args, args.preset, args.dtype)
    given = {"steps": args.steps, "guidance": args.guidance, "shift": args.shift, "recalls": False if args.no_recall else None}
    chosen = {name: value for name, value in given.items() if value is not None}
    evaluate_world(pipeline, args.out, args.count, chosen, args.recogniser or RECOGNISER, args.pack)
    print(args.out / "scores.json")


def world_flags(parser: argparse.ArgumentParser, name: str, count: int) -> None:
    """What both of the world's tests ask."""
    parser.add_argument("--count", type=int, default=count, metavar="N", help="prompts; default: %(default)s")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps; default: the model's own")
    parser.add_argument("--guidance", type=float, metavar="G", help="guidance scale; default: the model's own")
    parser.add_argument("--shift", type=float, metavar="S", help="shift of the noise levels; default: by the number of steps")
    parser.add_argument("--no-recall", action="store_true", help="the model may not look up what its subjects look like")
    out = Path(f"outputs/evaluate-{name}")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="goes on where it stopped; default: %(default)s")
    parser.add_argument("--recogniser", type=Path, metavar="DIR", help="the judge's weights; default: the shipped ones")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="the sprite pack; default: what `kinema world build` made")
    model_flags(parser.add_argument_group("which model, and where it runs"))


def run_i2v(args: argparse.Namespace) -> None:
    if args.count < 1:
        raise InputError(f"count={args.count} must be 1 or more")
    from kinema.evaluate.i2v import evaluate_i2v
    from kinema.evaluate.world import RECOGNISER

    pipeline = load(args, args.preset, args.dtype)
    height, width = args.size or (None, None)
    given = {name: getattr(args, name) for name in ("steps", "guidance", "shift", "frames")} | {"height": height, "width": width}
    given["recalls"] = False if args.no_recall else None
    chosen = {name: value for name, value in given.items() if value is not None}
    evaluate_i2v(pipeline, args.out, args.count, chosen, args.recogniser or RECOGNISER, args.pack)
    print(args.out / "scores.json")
