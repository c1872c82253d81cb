"""`kinema evaluate avatar`."""

import argparse
from pathlib import Path

from kinema.cli.generate import load, model_flags
from kinema.errors import InputError


def add(subjects: argparse._SubParsersAction) -> None:
    avatar = subjects.add_parser("avatar", help="held-out faces and sentences: mouth against the truth, expression, identity, silence")
    avatar.add_argument("--count", type=int, default=20, metavar="N", help="faces, 2 or more; default: %(default)s")
    avatar.add_argument("--steps", type=int, default=4, metavar="N", help="denoising steps; default: %(default)s")
    avatar.add_argument(
        "--begin", type=float, default=0.1, metavar="S", help="noise level after the sketch; 1: no sketch; default: %(default)s"
    )
    avatar.add_argument("--guidance", type=float, default=1.0, metavar="G", help="how closely the mouth follows; default: %(default)s")
    avatar.add_argument("--avatar", type=Path, metavar="FILE", help="adapters other than those shipped")
    avatar.add_argument("--out", type=Path, default=Path("outputs/evaluate-avatar"), metavar="DIR", help="default: %(default)s")
    model_flags(avatar.add_argument_group("which model, and where it runs"))
    avatar.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    if args.count < 2:
        raise InputError(f"count={args.count} must be 2 or more: a face is compared with others")
    from kinema.evaluate.avatar import evaluate_avatar
    from kinema.pipelines.avatar import SHIPPED, Acting, TalkingFace

    talking = TalkingFace(load(args, args.preset, args.dtype), args.avatar or SHIPPED)
    evaluate_avatar(talking, args.out, args.count, Acting(steps=args.steps, begin=args.begin, guidance=args.guidance))
    print(args.out / "scores.json")
