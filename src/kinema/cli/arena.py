"""`kinema arena`: a blind human study, from folders of videos to the table."""

import argparse
from pathlib import Path

from kinema.cli.console import say
from kinema.errors import InputError


def flags(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)
    for name, add, summary in COMMANDS:
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        add(command)


def build_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="STUDY", help="a new folder")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=DIR", help="a model and its videos; give two or more")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="txt, csv or jsonl: what the videos were asked for")
    parser.add_argument("--kind", choices=("pair", "single"), default="pair", help="two side by side, or one to accept; default: pair")
    parser.add_argument("--title", default="Which video?", help="what raters read above; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of sides, order and checks; default: 0")
    parser.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> None:
    from kinema.evaluate.arena.study import build_study
    from kinema.pipelines.prompts import read_prompts

    prompts = [row.prompt for row in read_prompts(args.prompts)]
    study = build_study(args.study, prompts, dict(map(split_model, args.model)), args.kind, args.title, args.seed)
    say(f"{len(study.prompts)} prompts, {len(study.models)} models; now: kinema arena serve {args.study}")
    print(args.study)


def split_model(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise InputError(f"model={text!r} must be NAME=DIR, such as mini=outputs/mini")
    return name, Path(folder)


def serve_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="STUDY", help="a folder that `kinema arena build` made")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="default: %(default)s")
    parser.add_argument("--invite", nargs="*", default=[], metavar="NAME", help="print a link for each of these raters")
    parser.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace) -> None:
    from kinema.evaluate.arena.server import invite, serve

    address = f"http://{args.host}:{args.port}"
    for name, path in invite(args.study, args.invite).items():
        print(f"{name}: {address}{path}", flush=True)
    say(f"anybody who opens {address} becomes a rater; their own link brings them back. Ctrl-C stops.")
    serve(args.study, args.host, args.port)


def report_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="STUDY", help="a folder with votes")
    parser.add_argument("--votes", type=Path, metavar="FILE", help="a CSV of votes, in place of the study's own")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    from kinema.evaluate.arena.report import write_report
    from kinema.evaluate.arena.study import Study
    from kinema.evaluate.arena.votes import Votes, read_votes

    votes = read_votes(args.votes) if args.votes else Votes(args.study / "votes.sqlite").all()
    written = write_report(args.study, Study.open(args.study), votes)
    print(written["report.md"].read_text(encoding="utf-8"))
    say(f"also as a page: {written['report.html']}")


def export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="STUDY")
    parser.add_argument("file", type=Path, metavar="FILE.csv")
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> None:
    from kinema.evaluate.arena.study import Study
    from kinema.evaluate.arena.votes import Votes

    Study.open(args.study)
    say(f"{Votes(args.study / 'votes.sqlite').export(args.file)} votes")
    print(args.file)


def table_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "counts", type=Path, nargs="?", metavar="FILE.csv", help="model, count, accepted videos an axis; default: the paper's six models"
    )
    parser.set_defaults(run=run_table)


def run_table(args: argparse.Namespace) -> None:
    from kinema.evaluate.arena.report import approvals, markdown
    from kinema.evaluate.arena.table import PUBLISHED, read_counts

    source = args.counts or PUBLISHED
    print(markdown(source.stem.replace("_", " "), [approvals(read_counts(source))]))


def power_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--net", type=float, default=0.1, help="true wins minus losses, as a share; default: %(default)s")
    parser.add_argument("--ties", type=float, default=0.2, help="share of ties; default: %(default)s")
    parser.add_argument("--prompts", type=int, metavar="N", help="the chance with so many prompts; default: as many as give 80 %%")
    parser.set_defaults(run=run_power)


def run_power(args: argparse.Namespace) -> None:
    from kinema.evaluate.arena.analysis import power, prompts_for

    prompts = prompts_for(args.net, args.ties) if args.prompts is None else args.prompts
    chance = power(prompts, args.net, args.ties)
    print(f"{prompts} prompts decide a net difference of {args.net:.0%} with a chance of {chance:.0%}")


COMMANDS = (
    ("build", build_flags, "make a study from folders of videos"),
    ("serve", serve_flags, "open its page for raters"),
    ("report", report_flags, "strengths, pairs, agreement and power, with intervals"),
    ("export", export_flags, "all votes as CSV"),
    ("table", table_flags, "the paper's table with its ranking, from counts"),
    ("power", power_flags, "what a study of so many prompts can decide"),
)
