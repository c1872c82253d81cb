"""`kinema train RECIPE`: one command; the recipe says what is trained."""

import argparse
import importlib
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinema.errors import InputError

KINDS = {
    "video": ("kinema.train.recipe", "VideoRecipe", "train_video"),
    "vae": ("kinema.train.recipe", "VaeRecipe", "train_vae"),
    "avatar": ("kinema.train.avatar", "AvatarRecipe", "train_avatar"),
    "lora": ("kinema.distill.lora", "LoraRecipe", "train_lora"),
}
"""What a recipe's `kind` may be: module, class of the recipe, and the function that trains it."""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file, as in runs/, or recipe.toml of an earlier run")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="values to change, such as loop.steps=100 or task.compile=true")
    parser.add_argument(
        "--plan", action="store_true", help="print stages, buckets, steps, tokens, FLOPs and the time expected; train nothing"
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="with --plan: time some steps here for the time expected and task.exponent"
    )
    parser.add_argument("--dry-run", action="store_true", help="check data, memory, disk and mesh with one real step; train nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    recipe, train = read_recipe(args.recipe, args.changes)
    if args.plan or args.dry_run:
        if recipe.kind != "video":
            raise InputError(f"--plan and --dry-run are for recipes of kind 'video': {args.recipe} is of kind {recipe.kind!r}")
        return show_plan(recipe, args.calibrate) if args.plan else show_checks(recipe)
    train(recipe)
    if os.environ.get("RANK", "0") == "0":
        print(recipe.loop.out)
    return 0


def read_recipe(path: Path, changes: list[str]) -> tuple[Any, Callable[[Any], Any]]:
    """The recipe in a file, of the kind that it names, and what trains it. Raises InputError where it names none."""
    from kinema.config import override, read_config

    kind = kind_of(path)
    if kind not in KINDS:
        raise InputError(f"{path}: kind={kind!r} is not known: begin the file with kind = {' or '.join(map(repr, KINDS))}")
    module, recipe, train = KINDS[kind]
    home = importlib.import_module(module)
    return override(read_config(getattr(home, recipe), path), changes), getattr(home, train)


def kind_of(path: Path) -> Any:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("kind")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error


def show_plan(recipe: Any, calibrate: bool) -> int:
    from rich.console import Console

    from kinema.train.plan import plan, table_of

    found = plan(recipe, calibrate)
    console = Console()
    Console(width=None if console.is_terminal else 140).print(table_of(found))
    print("\n".join(found.notes))
    return 0


def show_checks(recipe: Any) -> int:
    """One line a check; 2 where any failed."""
    from kinema.train.check import check

    sound = True
    for finding in check(recipe):
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name}: {finding.text}", flush=True)
        sound &= finding.ok
    return 0 if sound else 2
