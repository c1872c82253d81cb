#!/usr/bin/env python3
"""HunyuanVideo's web page on Kinema's service, for people who come from there.

    python3 gradio_server.py
    SERVER_NAME=0.0.0.0 SERVER_PORT=8081 python3 gradio_server.py --open --flow-reverse

It is `kinema serve`, which has more flags, with the published names. Unlike the published one it listens on port 8080 and to this
machine alone, unless told otherwise.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("kinema") is None:  # called with the system's Python: go on with the one that `make setup` made
    PYTHON = Path(__file__).parent / ".venv" / "bin" / "python"
    if not PYTHON.exists():
        sys.exit("gradio_server.py: Kinema is not installed for this Python: run `make setup` here, once")
    os.execv(PYTHON, [str(PYTHON), *sys.argv])

from kinema.cli import serve
from kinema.cli.console import guarded
from kinema.errors import InputError

MODELS = {"HYVideo-T/2": "t2v_13b", "HYVideo-T/2-cfgdistill": "t2v_13b_distilled", "mini": "mini"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Kinema's web page with HunyuanVideo's names.", allow_abbrev=False)
    parser.add_argument("--host", default=os.environ.get("SERVER_NAME", "127.0.0.1"), help="default: $SERVER_NAME or 127.0.0.1")
    parser.add_argument("--port", default=os.environ.get("SERVER_PORT", str(serve.PORT)), help="default: $SERVER_PORT or 8080")
    parser.add_argument("--save-path", dest="folder", type=Path, default=Path("gradio_outputs"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--model", choices=MODELS, help="default: all whose weights are here")
    parser.add_argument("--model-base", metavar="DIR", help="folder of the weights; default: $MODEL_BASE or ckpts")
    parser.add_argument("--flow-reverse", action="store_true", help="accepted: sampling always runs from noise to data here")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="API keys, as made by kinema serve key add")
    parser.add_argument("--open", action="store_true", help="ask nobody for a key, also when listening beyond this machine")
    parser.add_argument("--debug", action="store_true", help="on an unexpected error, show where it came from")
    return parser


def run(args: argparse.Namespace) -> None:
    if not args.port.isdecimal():
        raise InputError(f"port={args.port!r} must be a number: {serve.PORT} is usual")
    if args.model_base:
        os.environ["MODEL_BASE"] = args.model_base  # also for the workers
    args.port, args.models = int(args.port), [MODELS[args.model]] if args.model else None
    args.queue = args.workers = None
    args.engine, args.time_limit = "uvicorn", 60
    serve.run(args)


if __name__ == "__main__":
    args = build_parser().parse_args()
    sys.exit(guarded(lambda: run(args), debug=args.debug))
