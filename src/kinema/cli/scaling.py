"""`kinema scaling`: measure how size and data should grow with compute, and read a law off."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.cli.console import say
from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.train.scaling import Planned
    from kinema.train.scaling_fit import Fit, Point

LAWS = ("image", "video")


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", type=Path, nargs="?", metavar="RECIPE", help="a TOML file such as runs/scaling.toml: train what has no row yet, then fit")
    add("changes", nargs="*", metavar="KEY=VALUE", help="values to change, such as budgets=[1e-4,2e-4]")
    add("--plan", action="store_true", help="print the runs, their steps and FLOPs; train nothing")
    add("--fit", action="store_true", help="fit the rows that are there; train nothing")
    add("--paper", choices=LAWS, help="predict by the coefficients that HunyuanVideo's paper prints; needs no recipe")
    add("--predict", type=float, nargs="+", default=(), metavar="PF", help="the best size and tokens for so many PetaFLOPs of training")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    if any(budget <= 0 for budget in args.predict):
        raise InputError(f"--predict {list(args.predict)}: budgets are PetaFLOPs above 0")
    if args.paper:
        return predict_by_paper(args)
    if args.recipe is None:
        raise InputError("name a recipe, such as runs/scaling.toml, or a published law: --paper image --predict 5.8e7")
    return run_recipe(args)


def predict_by_paper(args: argparse.Namespace) -> None:
    from kinema.train.scaling_fit import PAPER

    if not args.predict:
        raise InputError(f"--paper {args.paper} needs --predict PF ..., for instance --predict 5.8e7")
    law = PAPER[args.paper]
    for budget in args.predict:
        print(f"C = {budget:.3g} PF: N = {law.size(budget):.2f} billion parameters, D = {law.tokens(budget):.0f} billion tokens")


def run_recipe(args: argparse.Namespace) -> None:
    from kinema.config import override, read_config
    from kinema.train.scaling import ScalingConfig, plan, points, sweep
    from kinema.train.scaling_fit import fit_law

    config = override(read_config(ScalingConfig, args.recipe), args.changes)
    if args.plan:
        show(plan(config, say))
    elif (rows := points(config) if args.fit else sweep(config, say)) is None:
        say("stopped; start it again to go on")
    elif not rows:
        raise InputError(f"{config.out} has no rows yet: run without --fit")
    else:
        report(config.out, fit_law(rows), rows, args.predict)


def show(planned: "list[Planned]") -> None:
    for each in planned:
        flops = each.steps * each.flops_a_step
        print(f"{each.name:>24} PF  {each.params / 1e6:8.3f} M parameters  {each.steps:>7} steps  {flops:.3g} FLOPs")


def report(out: Path, fit: "Fit", rows: "list[Point]", budgets: "tuple[float, ...] | list[float]") -> None:
    """scaling.json and scaling.png in `out`; the law and its predictions on standard output."""
    from kinema.media.files import whole_file
    from kinema.train.scaling_plot import plot

    with whole_file(out / "scaling.json") as draft:
        draft.write_text(json.dumps(facts(fit, rows), indent=1), encoding="utf-8")
    plot(fit, rows, out / "scaling.png")
    for each in fit.valleys:
        note = "" if each.within else "  (beyond the sizes run: not used)"
        floor = f"best N = {each.params * 1e3:.4g} M, D = {each.tokens * 1e3:.4g} M tokens, loss {each.loss:.4f}"
        print(f"C = {each.budget:.3g} PF: {floor}{note}")
    for what, one, two, law in (("N", "a1", "b1", fit.law.size), ("D", "a2", "b2", fit.law.tokens)):
        (a, c), (b, d) = fit.interval(one), fit.interval(two)
        print(f"{what}_opt = {law.a:.4g} [{a:.3g}, {c:.3g}] * C^{law.b:.3f} [{b:.3f}, {d:.3f}]   billions, C in PetaFLOPs, 95 %")
    for budget in budgets:
        (low, high), (few, many) = fit.size_interval(budget), fit.tokens_interval(budget)
        print(
            f"C = {budget:.3g} PF: N = {fit.law.size(budget):.4g} [{low:.3g}, {high:.3g}] billion, "
            f"D = {fit.law.tokens(budget):.4g} [{few:.3g}, {many:.3g}] billion tokens"
        )
    print(out / "scaling.png")


def facts(fit: "Fit", rows: "list[Point]") -> dict[str, Any]:
    from dataclasses import asdict

    law = {name: {"value": value, "interval": fit.interval(name)} for name, value in fit.law.coefficients.items()}
    units = {"N": "billions of parameters", "D": "billions of tokens", "C": "PetaFLOPs"}
    return {"law": law, "units": units, "valleys": [asdict(each) for each in fit.valleys], "rows": [asdict(each) for each in rows]}
