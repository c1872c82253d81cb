"""`kinema plan`: memory by part, time, and the cheapest change that makes a video fit, before anything is loaded."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.dit.quantise import Form
    from kinema.parallel.mesh import MeshConfig
    from kinema.pipelines.plan import Plan, Rates


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="mini", metavar="NAME", help="default: %(default)s; `kinema info` lists them all")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="height and width in pixels; default: the preset's")
    parser.add_argument("--frames", type=int, metavar="N", help="default: the preset's")
    parser.add_argument("--steps", type=int, metavar="N", help="default: the preset's")
    parser.add_argument("--guidance", type=float, metavar="G", help="default: the preset's")
    parser.add_argument("--memory", metavar="SIZE", help="what there is, such as 24GB; default: all that this device has")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="cuda may be planned for anywhere")
    parser.add_argument("--dtype", default="auto", choices=("auto", "bf16", "fp16", "fp32"), help="auto: bf16 where the processor has it")
    parser.add_argument("--offload", nargs="?", const="parts", default="none", choices=("none", "parts", "blocks"), help="as for generate")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="as for generate")
    parser.add_argument("--attention", default="sdpa", metavar="NAME", help="as for generate")
    parser.add_argument("--dit", type=Path, metavar="FILE", help="the transformer's weights, to plan for their bits; default: as --dtype")
    parser.add_argument("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="as for generate; they take nothing more")
    parser.add_argument("--given", type=int, default=0, metavar="N", help="frames that are given, 1 for a picture; default: none")
    parser.add_argument("--cache", type=float, metavar="BOUND", help="as for generate")
    parser.add_argument("--forecast", action="store_true", help="as for generate")
    parser.add_argument("--draft", type=float, metavar="SHARE", help="as for generate")
    parser.add_argument("--strength", type=float, metavar="S", help="as for generate")
    parser.add_argument("--mesh", metavar="AXES", help="of several ranks, such as sequence=2,tensor=2: what one of them takes")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="of the device, such as 989; default: measured here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """1 where it does not fit."""
    from kinema.pipelines.plan import cheapest, device_memory, read_memory

    plan = plan_of(args)
    memory = read_memory(args.memory) if args.memory else device_memory(plan.placement.device)
    print("\n".join(table(plan)))
    print("\n".join(times(plan, rates_of(args, plan))))
    if memory is None:
        return 0
    if plan.peak <= memory:
        print(f"fits into {gigabytes(memory)}")
        return 0
    found = cheapest(plan, memory)
    print(f"does not fit into {gigabytes(memory)}; the cheapest change that does:")
    print(f"  {found.says} ({gigabytes(found.plan.peak)})" if found else "  none: use a smaller model")
    return 1


def plan_of(args: argparse.Namespace) -> "Plan":
    from kinema.parallel.mesh import MeshConfig
    from kinema.pipelines.placement import planned
    from kinema.pipelines.plan import Plan
    from kinema.presets import MODELS
    from kinema.weights.scales import form_of

    if args.preset not in MODELS:
        raise InputError(f"preset={args.preset!r} is not known: use one of {', '.join(MODELS)}")
    config, (height, width) = MODELS[args.preset](), args.size or (None, None)
    chosen = {name: getattr(args, name) for name in ("frames", "steps", "cache", "forecast", "draft", "strength")}
    chosen |= {"height": height, "width": width}
    request = config.request("a plan", args.guidance, seed=0, **chosen)
    form, mesh = form_of(args.dit) if args.dit else None, MeshConfig.parse(args.mesh) if args.mesh else MeshConfig()
    check(args, form, mesh)
    placement = planned(args.device, args.dtype, args.offload, args.tile, args.attention)
    return Plan(config=config, request=request, placement=placement, form=form, given=args.given, mesh=mesh)


def check(args: argparse.Namespace, form: "Form | None", mesh: "MeshConfig") -> None:
    """Raises InputError for what generate would refuse."""
    if args.lora and form:
        raise InputError(f"lora: adapters are merged into wide weights, and {args.dit} is quantised ({form}): merge first, then quantise")
    if args.lora and args.offload == "blocks":
        raise InputError("lora: adapters are merged into weights that stay; with offload=blocks, convert a merged file and give that")
    if mesh.tensor > 1 and args.offload == "blocks":
        raise InputError("offload=blocks reads whole blocks, which a tensor mesh splits: use a sequence mesh, or another --offload")
    if args.given and (args.given - 1) % 4:
        raise InputError(f"given={args.given} is not 1 + a multiple of 4: use 1 for a picture, 17 for a video to continue")


def rates_of(args: argparse.Namespace, plan: "Plan") -> "Rates | None":
    """Stated or measured; None where the device is not here."""
    import torch

    from kinema.pipelines.plan import Rates

    if args.peak is not None:
        return Rates.stated(args.peak)
    here = plan.placement.device.type == "cpu" or torch.cuda.is_available()
    return Rates.measured(plan.placement) if here else None


def table(plan: "Plan") -> list[str]:
    """One line a part."""
    request, names = plan.request, plan.placement.names()
    title = (
        f"{plan.config.name}, {request.frames}x{request.height}x{request.width}, {request.steps} steps, {names['device']}, {names['dtype']}"
    )
    head = f"{'part':10}{'weights':>12}{'held with':>12}{'work':>12}{'TFLOP':>12}"
    needs = {"text": plan.text, "denoise": plan.dit, "decode": plan.vae} | ({"encode": plan.encoding} if plan.encoded else {})
    rows = [
        f"{stage.name:10}{gigabytes(needs[stage.name].weights):>12}{gigabytes(stage.weights):>12}{gigabytes(stage.work):>12}"
        f"{needs[stage.name].flops / 1e12:>12.1f}"
        for stage in plan.stages()
    ]
    return [title, head, *rows, f"peak {gigabytes(plan.peak)}, with the process itself; TFLOP: one prompt, one step, one tile"]


def times(plan: "Plan", rates: "Rates | None") -> list[str]:
    from kinema.cli.console import clock

    if rates is None:
        return ["time: unknown, as the device is not here: name its --peak in TFLOPS, such as 989 for an H100"]
    seconds = plan.seconds(rates)
    parts = ", ".join(f"{name} {clock(value)}" for name, value in seconds.items())
    rate = f"{rates.products / 1e12:.2f} TFLOPS in products and {rates.attention / 1e12:.2f} in attention"
    return [f"time: about {clock(sum(seconds.values()))} ({parts}) at {rate}, {'stated' if rates.is_stated else 'measured here'}"]


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
