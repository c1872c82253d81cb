"""`kinema train vae RECIPE` and `kinema train video RECIPE`."""

import argparse
from pathlib import Path


def flags(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(title="what to train", metavar="WHAT", required=True)
    for name, run, summary in (("vae", run_vae, "the autoencoder, on clips"), ("video", run_video, "the transformer, on encoded clips")):
        kind = kinds.add_parser(name, help=summary)
        kind.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file, as in runs/")
        kind.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="values to change, such as loop.steps=100")
        kind.set_defaults(run=run)


def run_vae(args: argparse.Namespace) -> None:
    from kinema.config import override, read_config
    from kinema.train.recipe import VaeRecipe, train_vae

    recipe = override(read_config(VaeRecipe, args.recipe), args.changes)
    train_vae(recipe)
    print(recipe.loop.out)


def run_video(args: argparse.Namespace) -> None:
    from kinema.config import override, read_config
    from kinema.train.recipe import VideoRecipe, train_video

    recipe = override(read_config(VideoRecipe, args.recipe), args.changes)
    train_video(recipe)
    print(recipe.loop.out)
