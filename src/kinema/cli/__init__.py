"""The command line: one subcommand a stage. It parses, builds, calls, prints.

A command's file names its flags without importing torch, so that `--help` answers at once; what is heavy is imported by `run`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import kinema
from kinema.cli import (
    arena,
    avatar,
    bench,
    caption,
    curate,
    distill,
    encode,
    evaluate,
    generate,
    models,
    plan,
    quantize,
    rewrite,
    scaling,
    serve,
    train,
    world,
)
from kinema.cli.console import guarded, said_once

COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("turn a prompt into a short video with the built-in model", generate.demo_flags),
    "generate": ("turn prompts into videos, or saved latents into frames", generate.generate_flags),
    "plan": ("what a video will take: memory by part, time, and what makes it fit", plan.flags),
    "avatar": ("let a picture speak: a face, a voice, and how it acts", avatar.flags),
    "info": ("what a model, a checkpoint or a generated file holds", models.info_flags),
    "convert": ("rewrite a checkpoint: published, diffusers or Kinema layout", models.convert_flags),
    "quantize": ("store a transformer's weights in 8 or 4 bits", quantize.flags),
    "verify": ("hold this installation against witness files of the published numerics", models.verify_flags),
    "world": ("the embedded world that mini learns: build its sprites, sample its clips", world.flags),
    "curate": ("make a dataset of clips in tiers from a folder of raw videos", curate.flags),
    "caption": ("describe clips: structured captions, or the camera's movement alone", caption.flags),
    "rewrite": ("put a prompt into the words that the model was trained on, in English", rewrite.flags),
    "encode": ("turn clips into the latents and text states that a transformer trains on", encode.flags),
    "train": ("run a training recipe", train.flags),
    "scaling": ("measure how size and data should grow with compute, and read the best size off", scaling.flags),
    "distill": ("train a student that takes its guidance as an input, or few steps", distill.flags),
    "evaluate": ("score a model", evaluate.flags),
    "arena": ("let people compare models' videos without knowing which is whose", arena.flags),
    "serve": ("open the web page and the HTTP API", serve.flags),
    "bench": ("how fast each part runs on this machine", bench.flags),
}
"""Name -> one line of help, and the function that adds its flags and sets `run`."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kinema", description=kinema.__doc__)
    parser.add_argument("--version", action="version", version=f"kinema {kinema.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (summary, add_flags) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        add_flags(command)
        command.add_argument("--debug", action="store_true", help="on an unexpected error, show where it came from")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 bad input, 1 any other failure, 130 interrupted."""
    with said_once():
        args = build_parser().parse_args(curate.spelled_out(sys.argv[1:] if argv is None else argv))
    return guarded(lambda: args.run(args), debug=args.debug)
