"""`kinema curate RAW_DIR --out DATASET`, and what is done with a dataset: `retier`, `review`, `status`, `diff`, `merge`, `bench`."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinema.cli.console import ProgressBar, say
from kinema.errors import InputError

RUN = "run"


def spelled_out(argv: Sequence[str]) -> list[str]:
    """`curate RAW_DIR` means `curate run RAW_DIR`; a folder named as an action is written ./status."""
    words = list(argv)
    if words[:1] == ["curate"] and len(words) > 1 and words[1] not in (*ACTIONS, "-h", "--help"):
        words.insert(1, RUN)
    return words


def flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "kinema curate RAW_DIR --out DATASET [options]\n       kinema curate ACTION DATASET [options]"
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, (summary, add_flags, run) in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        add_flags(action)
        action.set_defaults(run=run)


def recipe_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", type=Path, metavar="TOML", help="operators, thresholds and tiers; default: what the dataset was made by"
    )
    parser.add_argument(
        "--set", dest="changes", nargs="+", default=[], metavar="KEY=VALUE", help="values to change, such as tiers.mode=calibrated"
    )


def work_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DATASET", help="a run that was stopped goes on there")
    recipe_flags(parser)
    engine_flags(parser)


def engine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="default: %(default)s")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster; default: one started here")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one a core")


def run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("raw", type=Path, metavar="RAW_DIR", help="folder with videos, at any depth")
    work_flags(parser)
    parser.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="only share I (0 to N-1) of the files; `merge` joins them"
    )
    parser.add_argument("--retry", action="store_true", help="give what failed another chance")


def merge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", type=Path, nargs="+", metavar="SHARD", help="folders that `kinema curate --shard` wrote")
    work_flags(parser)


def retier_flags(parser: argparse.ArgumentParser) -> None:
    dataset_flag(parser)
    recipe_flags(parser)


def dataset_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a folder that `kinema curate` wrote")


def diff_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", type=Path, metavar="RUN_A")
    parser.add_argument("other", type=Path, metavar="RUN_B")
    parser.add_argument("--tolerance", type=float, default=1e-6, metavar="X", help="values this near, relatively, are equal; default: 1e-6")


def review_flags(parser: argparse.ArgumentParser) -> None:
    dataset_flag(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; default: %(default)s")
    parser.add_argument("--port", type=int, default=8420, help="default: %(default)s")
    parser.add_argument("--tier", default="review", metavar="NAME", help="clips of this tier are shown; default: %(default)s")
    parser.add_argument("--calibrate", action="store_true", help="no page: print the thresholds that the labels so far suggest")
    recipe_flags(parser)


def bench_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", type=int, default=100_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--ms", type=float, default=20.0, metavar="X", help="what the simulated operator takes for an item; default: 20")
    engine_flags(parser)


def shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} must be I/N with I from 0 to N-1, such as 0/4")
    return int(match[1]), int(match[2])


def recipe_of(args: argparse.Namespace, dataset: Path) -> Any:
    """The recipe asked for; else the dataset's own; else the default one. With --set applied."""
    from kinema.config import override, read_config
    from kinema.curation.recipe import Recipe

    own = dataset / "curation.toml"
    path = args.recipe or (own if own.exists() else None)
    return override(read_config(Recipe, path) if path else Recipe(), args.changes)


def work_of(args: argparse.Namespace) -> Any:
    from kinema.curation.funnel import Work

    if args.workers < 1:
        raise InputError(f"--workers {args.workers} must be at least 1")
    if args.address and args.engine != "ray":
        raise InputError("--address is for --engine ray")
    extra = {"shard": args.shard, "retry": args.retry} if hasattr(args, "shard") else {}
    return Work(engine=args.engine, workers=args.workers, address=args.address, **extra)


def run_run(args: argparse.Namespace) -> None:
    from kinema.curation.funnel import curate

    with ProgressBar() as progress:
        curate(args.raw, args.out, recipe_of(args, args.out), work_of(args), progress)
    conclude(args.out)


def run_merge(args: argparse.Namespace) -> None:
    from kinema.curation.funnel import merge

    with ProgressBar() as progress:
        merge(args.parts, args.out, recipe_of(args, args.parts[0]), work_of(args), progress)
    conclude(args.out)


def conclude(out: Path) -> None:
    from kinema.curation.status import lines

    for line in lines(out):
        say(line)
    print(out)


def run_retier(args: argparse.Namespace) -> None:
    from kinema.curation.summary import settle

    settle(args.dataset, recipe_of(args, args.dataset))
    conclude(args.dataset)


def run_status(args: argparse.Namespace) -> None:
    from kinema.curation.status import lines

    for line in lines(args.dataset):
        print(line)


def run_diff(args: argparse.Namespace) -> int:
    from kinema.curation.diff import compare

    differences = compare(args.one, args.other, args.tolerance)
    for line in differences.lines():
        print(line)
    return int(not differences.none)


def run_review(args: argparse.Namespace) -> None:
    if args.calibrate:
        from kinema.curation.labels import calibration_lines

        for line in calibration_lines(args.dataset, recipe_of(args, args.dataset)):
            print(line)
        return
    from kinema.curation.review import serve

    serve(args.dataset, args.tier, args.host, args.port, say)


def run_bench(args: argparse.Namespace) -> None:
    from kinema.curation.bench import overhead

    with ProgressBar() as progress:
        found = overhead(args.items, args.ms / 1000, work_of(args), progress)
    for line in found:
        print(line)


ACTIONS: dict[str, tuple[str, Any, Any]] = {
    RUN: ("curate a folder of raw videos; the word `run` may be left out", run_flags, run_run),
    "retier": ("decide the tiers again with other thresholds, from what was measured", retier_flags, run_retier),
    "review": ("open the page on which people judge clips for the fine-tuning set", review_flags, run_review),
    "status": ("how far a run is, during and after", dataset_flag, run_status),
    "diff": ("what differs between two datasets; exit status 1 if anything does", diff_flags, run_diff),
    "bench": ("what the engine and its ledger cost, with a simulated operator", bench_flags, run_bench),
    "merge": ("join shards into one dataset", merge_flags, run_merge),
}
"""Action -> one line of help, its flags, what it runs."""
