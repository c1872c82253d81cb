"""`kinema bench`: how fast each part runs here, by itself or beside diffusers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.console import say, warn
from kinema.errors import InputError, WeightsError

if TYPE_CHECKING:
    from kinema.evaluate.bench.cases import Subject
    from kinema.evaluate.bench.measure import Row
    from kinema.pipelines.placement import Placement

PARTS = ("dit", "vae", "text", "end-to-end")
DEFAULT_PRESET = "mini"
PAGE_WIDTH = 140  # of the table where it goes to a file


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all of them")
    parser.add_argument("--against", choices=("diffusers",), help="time the same weights and inputs there too, in turn, and print ratios")
    parser.add_argument("--compile", action="store_true", help="compile the DiT of both sides; then that part alone is measured")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="instead: time and memory over frames, size and steps, as a picture")
    parser.add_argument("--table", type=Path, metavar="FILE", help="keep the figures as a Markdown table")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the figures, row by row; what a file has already is not measured again"
    )
    parser.add_argument("--preset", metavar="NAME", help="default: mini, or what the folder of weights says")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with the model's files; default: where the preset keeps them")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...; default: %(default)s")
    parser.add_argument("--dtype", nargs="+", choices=("bf16", "fp16", "fp32"), help="default: fp32, and bf16 where the processor has it")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="time each case so many times, or more; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="... and for so long, or longer; default: %(default)s")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: seconds worked, for a busy machine and one thread")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    if unknown := [part for part in args.parts if part not in PARTS]:
        raise InputError(f"part={unknown[0]!r} is not known: use {', '.join(PARTS)}")
    if args.rounds < 1:
        raise InputError(f"rounds={args.rounds} must be 1 or more")
    if args.compile and set(args.parts) - {"dit"}:
        raise InputError(f"--compile is for the dit alone, not {' '.join(args.parts)}: the other parts are not compiled")
    if args.curves:
        run_curves(args)
        return
    parts = ("dit",) if args.compile else args.parts or PARTS
    from rich.console import Console

    from kinema.evaluate.bench.report import Report, markdown, rows_in, table_of
    from kinema.evaluate.bench.run import bench
    from kinema.media.files import whole_file
    from kinema.pipelines.files import write_json

    known, made, where = rows_in(args.json, args.clock) if args.json else [], [], places(args)

    def keep(row: "Row") -> None:
        made.append(row)
        tell(row)
        if args.json:
            others = [each for each in known if (each.name, each.dtype) not in {(row.name, row.dtype) for row in made}]
            write_json(args.json, Report(made + others, [], where[0].device, args.clock).as_json())

    report = bench(find(args), parts, where, bool(args.against), args.rounds, args.seconds, keep, args.clock, known)
    console = Console()
    Console(width=None if console.is_terminal else PAGE_WIDTH).print(table_of(report))
    for note in report.notes:
        warn(note)
    if args.json:
        print(args.json)
    if args.table:
        with whole_file(args.table) as draft:
            draft.write_text(markdown(report), encoding="utf-8")
        print(args.table)


def run_curves(args: argparse.Namespace) -> None:
    """The picture, and the exponents as a table; the first number format alone."""
    from kinema.evaluate.bench.curves import lines, measure_curves, plot
    from kinema.pipelines.files import write_json

    curves = measure_curves(find(args), places(args)[0], args.rounds, args.clock, lambda curve: say(lines([curve])[-1]))
    plot(curves, args.curves)
    print("\n".join([*lines(curves), str(args.curves)]))
    if args.json:
        write_json(args.json, {"clock": args.clock, "curves": [curve.as_json() for curve in curves]})


def places(args: argparse.Namespace) -> "list[Placement]":
    """One for each number format; by default the fastest here, and fp32."""
    from dataclasses import replace

    from kinema.pipelines.placement import Placement

    found = dict.fromkeys(Placement.choose(args.device, dtype) for dtype in args.dtype or ("auto", "fp32"))
    return [replace(place, compile="blocks" if args.compile else "none") for place in found]


def find(args: argparse.Namespace) -> "Subject":
    """The model to measure; where its weights are absent, and none were named, it is measured without."""
    import kinema
    from kinema.evaluate.bench.cases import Subject
    from kinema.presets import MODELS

    try:
        pipeline = kinema.load(args.preset, weights=args.weights)
        return Subject(pipeline.config, pipeline.files, args.weights)
    except WeightsError:
        if args.weights is not None:
            raise
        return Subject(MODELS[args.preset or DEFAULT_PRESET](), None)


def tell(row: "Row") -> None:
    against = ", ".join(f"{row.speed(other):.2f}x {other}" for other in list(row.sides)[1:])
    say(f"{row.name}, {row.dtype}: {row.judged.times.best:.3f} s{f' ({against})' if against else ''}")
