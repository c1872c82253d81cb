"""`kinema train RECIPE`."""

import argparse
from pathlib import Path


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a TOML file, as in runs/")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values to change, such as loop.steps=100")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> None:
    from kinema.train.recipe import run_recipe

    run_recipe(args.recipe, args.overrides)
