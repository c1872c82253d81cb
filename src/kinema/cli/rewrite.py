"""`kinema rewrite`: a prompt as a person types it -> as the model was trained to read it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.console import say
from kinema.pipelines.prompts import Row, read_prompts

if TYPE_CHECKING:
    from kinema.caption.rewrite import Writer


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="in English, Korean or Chinese")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a list instead: .txt, .csv or .jsonl")
    parser.add_argument(
        "--mode", choices=("normal", "master"), default="normal", help="normal only puts in order; master also fills what is left open"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a prompt, with the original beside it")
    writer_flags(parser)
    parser.set_defaults(run=run)


def writer_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--writer", choices=("rules", "smollm2"), default="rules", help="who rewrites, offline; default: %(default)s")
    endpoint_flags(parser)


def endpoint_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible address, such as http://localhost:8000/v1")
    parser.add_argument("--endpoint-model", metavar="NAME", default="", help="the model that the endpoint serves")


def writer_of(args: argparse.Namespace) -> "Writer | None":
    """Who the flags ask for; None: rules."""
    if args.endpoint:
        from kinema.caption.endpoint import EndpointConfig
        from kinema.caption.writers import EndpointWriter

        return EndpointWriter(EndpointConfig(url=args.endpoint, model=args.endpoint_model))
    if args.writer == "smollm2":
        from kinema.caption.writers import SmolWriter

        return SmolWriter()
    return None


def run(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from kinema.caption.rewrite import rewrite
    from kinema.errors import InputError

    if (args.prompt is None) == (args.prompts is None):
        raise InputError("say either one prompt or --prompts FILE")
    writer = writer_of(args)
    for row in read_prompts(args.prompts) if args.prompts else [Row(args.prompt)]:
        made = rewrite(row.prompt, args.mode, writer)
        print(json.dumps(asdict(made), ensure_ascii=False) if args.json else made.text, flush=True)
        say(f"rewritten from {made.language} by {made.writer}")
