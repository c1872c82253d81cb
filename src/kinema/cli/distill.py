"""`kinema distill RECIPE`."""

import argparse
from pathlib import Path


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file with a [guidance] or a [steps] table, as in runs/")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="values to change, such as loop.steps=100")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from kinema.config import override, read_config
    from kinema.distill.recipe import DistillRecipe, distill

    recipe = override(read_config(DistillRecipe, args.recipe), args.changes)
    distill(recipe)
    print(recipe.loop.out)
