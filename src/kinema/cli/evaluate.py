"""`kinema evaluate world`."""

import argparse
from pathlib import Path

import kinema
from kinema.cli.generate import model_flags
from kinema.errors import InputError


def flags(parser: argparse.ArgumentParser) -> None:
    subjects = parser.add_subparsers(title="what to score on", metavar="WHAT", required=True)
    world = subjects.add_parser("world", help="held-out prompts of the embedded world: subject, place, direction of motion, reconstruction")
    world.add_argument("--count", type=int, default=200, metavar="N", help="prompts; default: %(default)s")
    world.add_argument("--steps", type=int, metavar="N", help="denoising steps; default: the model's own")
    world.add_argument("--guidance", type=float, metavar="G", help="guidance scale; default: the model's own")
    world.add_argument("--shift", type=float, metavar="S", help="shift of the noise levels; default: by the number of steps")
    world.add_argument(
        "--out", type=Path, default=Path("outputs/evaluate-world"), metavar="DIR", help="goes on where it stopped; default: %(default)s"
    )
    world.add_argument("--recogniser", type=Path, metavar="DIR", help="the judge's weights; default: the shipped ones")
    world.add_argument("--pack", type=Path, metavar="FILE", help="the sprite pack; default: what `kinema world build` made")
    model_flags(world.add_argument_group("which model, and where it runs"))
    world.set_defaults(run=run_world)


def run_world(args: argparse.Namespace) -> None:
    if args.count < 1:
        raise InputError(f"count={args.count} must be 1 or more")
    from kinema.evaluate.world import RECOGNISER, evaluate_world

    pipeline = kinema.load(args.preset, weights=args.weights, device=args.device, dtype=args.dtype, offload=args.offload)
    given = {"steps": args.steps, "guidance": args.guidance, "shift": args.shift}
    chosen = {name: value for name, value in given.items() if value is not None}
    evaluate_world(pipeline, args.out, args.count, chosen, args.recogniser or RECOGNISER, args.pack)
    print(args.out / "scores.json")
