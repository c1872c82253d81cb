"""`kinema quantize`: a transformer's weights in 8 or 4 bits."""

import argparse
from pathlib import Path

from kinema.errors import InputError

FORMS = ("fp8", "fp8-row", "int8", "int4")  # of kinema.dit.quantise


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="the transformer's weights: a .safetensors, .pt or .gguf file, or a folder"
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="a .safetensors file to write; use it with kinema generate --dit TARGET"
    )
    parser.add_argument("--to", choices=FORMS, default=FORMS[0], help="default: %(default)s")
    parser.add_argument("--preset", metavar="NAME", help="the model it belongs to; default: what its shapes show")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from kinema.cli.console import ProgressBar, say
    from kinema.pipelines.plan import return_freed_memory
    from kinema.pipelines.quantise import quantise_file
    from kinema.presets import MODELS
    from kinema.weights import infer_dit_config
    from kinema.weights.fit import published
    from kinema.weights.read import shapes_of

    return_freed_memory()
    if args.preset not in (None, *MODELS):
        raise InputError(f"preset={args.preset!r} is not known: use one of {', '.join(MODELS)}")
    config = MODELS[args.preset]().dit if args.preset else infer_dit_config(published(shapes_of(args.source)))
    with ProgressBar() as bar:
        error = quantise_file(args.source, args.target, config, args.to, lambda done, total: bar("quantise", done, total))
    say(f"its velocity differs by {error:.2%} from the original's, on random latents")
    print(args.target)
