"""`kinema demo` and `kinema generate`: prompts to videos, and saved latents to frames."""

import argparse
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import kinema
from kinema.cli.console import ProgressBar, say, warn
from kinema.cli.given import given_flags, given_of, reference_of, say_crops
from kinema.cli.rewrite import writer_flags, writer_of
from kinema.errors import InputError
from kinema.pipelines.prompts import Row, read_prompts

if TYPE_CHECKING:
    from kinema.parallel.mesh import World
    from kinema.pipelines.base import Request
    from kinema.pipelines.video import VideoPipeline

T = TypeVar("T")
DEMO_PROMPT = "A cat walks on the grass, cinematic style."
SEED_RANGE = 2**31  # drawn seeds stay short enough to type
BATCH_SEED = 0  # a list draws no random seed, so that it can go on where it stopped


def demo_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", default=DEMO_PROMPT, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run=run_demo)


def generate_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to make (one of these)").add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help="what the video shows")
    what.add_argument(
        "--prompts", type=Path, metavar="FILE", help="a list: .txt, .csv with a prompt column, .jsonl; what is done is skipped"
    )
    what.add_argument("--from-latents", type=Path, metavar="FILE", help="decode latents that an earlier run saved")
    given_flags(parser.add_argument_group("what to begin with, end with, or continue"))
    request_flags(parser.add_argument_group("how"))
    words = parser.add_argument_group("how the prompt is put")
    words.add_argument("--rewrite", choices=("normal", "master"), help="rewrite prompts first; the original stays in the recipe")
    writer_flags(words)
    parser.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="folder for the files; default: %(default)s")
    where = parser.add_argument_group("which model, and where it runs")
    model_flags(where)
    spread_flags(where)
    speed_flags(where)
    parser.add_argument(
        "--lora", action="append", default=[], metavar="FILE[:SCALE]", help="add adapters, at this strength (1 if left out); several add up"
    )
    parser.set_defaults(run=run_generate)


def request_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="height and width in pixels, multiples of 16")
    group.add_argument("--frames", type=int, metavar="N", help="1 + a multiple of 4; 1 makes a picture")
    group.add_argument("--fps", type=int, metavar="N", help="frames a second of the file")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps: more is slower and finer")
    group.add_argument("--guidance", type=float, metavar="G", help="how closely to follow the prompt; 1 is off")
    group.add_argument(
        "--reference-guidance",
        type=float,
        metavar="G",
        help="how closely to follow the picture of the subject, given or recalled; default: the model's own",
    )
    group.add_argument(
        "--guidance-interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="noise levels at which guidance works; default: 0 1"
    )
    group.add_argument("--reuse", type=int, metavar="N", help="compute one step in N and reuse it in between; default: 1, 3 is usual")
    group.add_argument(
        "--cache", type=float, metavar="BOUND", help="leave out blocks where the first one changes less than this; default: 0, 0.1 is usual"
    )
    group.add_argument("--forecast", action="store_true", help="with --cache: continue what is left out as a straight line")
    group.add_argument(
        "--draft",
        type=float,
        metavar="SHARE",
        help="make it first with sides of this share, then again from that: 0.5 is usual, 0 is none; default: the model's own",
    )
    group.add_argument("--strength", type=float, metavar="S", help="noise level at which the second pass begins; default: the model's own")
    group.add_argument("--shift", type=float, metavar="S", help="how much of the schedule is spent at high noise")
    group.add_argument("--sampler", metavar="NAME", help="euler, heun or the multistep one; `kinema info` lists them")
    group.add_argument("--negative", metavar="TEXT", help="what to keep away from; for models with classifier-free guidance")
    group.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same bits; default: random, 0 with --prompts")
    group.add_argument("--num-videos", type=int, default=1, metavar="N", help="videos a prompt, with seeds N, N + 1, ...; default: 1")


def model_flags(group: argparse._ArgumentGroup) -> None:
    """What `load` reads, for every command that makes videos."""
    group.add_argument("--preset", metavar="NAME", help="default: mini; `kinema info` lists them all")
    group.add_argument("--weights", type=Path, metavar="DIR", help="folder with the model's files; default: where the preset keeps them")
    group.add_argument("--dit", type=Path, metavar="FILE", help="the transformer's weights, where they lie elsewhere")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...; default: %(default)s")
    group.add_argument("--dtype", default="auto", choices=("auto", "bf16", "fp16", "fp32"), help="auto: bf16 where the processor has it")
    group.add_argument(
        "--offload",
        nargs="?",
        const="parts",
        default="none",
        choices=("none", "parts", "blocks"),
        help="keep on the device only the part at work (parts), or of the transformer only the block at work (blocks)",
    )


def spread_flags(group: argparse._ArgumentGroup) -> None:
    """How large videos fit, and what several processes do."""
    group.add_argument("--tile", type=int, metavar="PIXELS", help="side of the tiles that a large video is decoded in; default: the VAE's")
    group.add_argument("--memory", metavar="SIZE", help="choose both so that the video fits, such as 12GB; `kinema plan` tells more")
    group.add_argument(
        "--mesh", metavar="AXES", help="how torchrun's processes share the work, such as sequence=2,data=2; default: all make one video"
    )


def speed_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--attention",
        default="sdpa",
        metavar="NAME",
        help="sdpa, cudnn, flash2, flash3, sage, or sparse: sliding-tile, radial, with options such as radial:dense=0.9 (docs/speed.md)",
    )
    group.add_argument(
        "--compile",
        nargs="?",
        const="blocks",
        default="none",
        choices=("none", "blocks", "graphs"),
        help="compile the transformer: the first step waits, later ones gain; graphs: for fixed sizes, on CUDA",
    )


def run_demo(args: argparse.Namespace) -> None:
    pipeline = kinema.load()
    with pipeline.world:
        make_videos(pipeline, [pipeline.config.request(args.prompt, seed=args.seed)], args.out)


def run_generate(args: argparse.Namespace) -> None:
    if args.from_latents:
        return decode_latents(args)
    rows = read_prompts(args.prompts) if args.prompts else [Row(args.prompt)]
    if args.rewrite:
        rows = rewritten(args, rows)
    pipeline = load(args, args.preset, args.dtype)
    with pipeline.world:
        return make_rows(args, pipeline, rows)


def rewritten(args: argparse.Namespace, rows: list[Row]) -> list[Row]:
    from kinema.caption.rewrite import rewrite

    writer, found = writer_of(args), []
    for row in rows:
        made = rewrite(row.prompt, args.rewrite, writer)
        say(f"rewritten by {made.writer}: {made.text}")
        found.append(Row(made.text, row.seed, made.original))
    return found


def load(args: argparse.Namespace, preset: str | None, dtype: str) -> "VideoPipeline":
    from kinema.parallel.mesh import MeshConfig

    given = vars(args)
    mesh = MeshConfig.parse(args.mesh) if given.get("mesh") else None
    where = {"device": args.device, "dtype": dtype, "offload": args.offload, "tile": given.get("tile"), "mesh": mesh}
    where |= {name: given[name] for name in ("attention", "compile") if name in given}
    return kinema.load(preset, weights=args.weights, dit=args.dit, loras=given.get("lora", ()), **where)


def make_rows(args: argparse.Namespace, pipeline: "VideoPipeline", rows: list[Row]) -> None:
    if args.negative and pipeline.config.dit.guidance:
        raise InputError(
            f"negative={args.negative!r} has no effect on {pipeline.config.name}: its guidance is distilled into it; leave it out"
        )
    requests = [request for row in rows for request in requests_of(args, pipeline, row)]
    if args.memory:
        fit_into(args.memory, pipeline, requests)
    if args.prompts:
        make_batch(pipeline, requests, args.out)
    else:
        make_videos(pipeline, requests, args.out)


def fit_into(memory: str, pipeline: "VideoPipeline", requests: list["Request"]) -> None:
    """Place the pipeline so that the largest of the requests fits."""
    from kinema.pipelines.plan import place, read_memory, return_freed_memory
    from kinema.weights.scales import form_of

    largest = max(requests, key=lambda request: request.shape.latent.tokens)
    chosen = {"form": form_of(pipeline.files.dit), "mesh": pipeline.world.config}
    pipeline.placement = place(pipeline.config, largest, pipeline.placement, read_memory(memory), **chosen)
    return_freed_memory()
    say(f"memory: offload={pipeline.placement.offload}, tile={pipeline.placement.tile_size or pipeline.config.vae.tile_size}")


def requests_of(args: argparse.Namespace, pipeline: "VideoPipeline", row: Row) -> list["Request"]:
    """What one prompt asks for: its own seed, the flag's, or one drawn now."""
    chosen = {
        name: getattr(args, name)
        for name in ("frames", "fps", "steps", "shift", "sampler", "negative", "reuse", "cache", "forecast", "draft", "strength")
    }
    height, width = args.size or (None, None)
    chosen["reference_guidance"] = args.reference_guidance
    chosen["guidance_interval"] = tuple(args.guidance_interval) if args.guidance_interval else None
    chosen |= {"given": given_of(args), "reference": reference_of(args), "recalls": not args.no_recall, "stability": args.stability}
    seed = next((seed for seed in (row.seed, args.seed) if seed is not None), BATCH_SEED if args.prompts else secrets.randbelow(SEED_RANGE))
    request = pipeline.config.request(row.prompt, args.guidance, seed=seed, height=height, width=width, typed=row.typed, **chosen)
    if args.strength is not None and not request.draft:
        raise InputError(f"strength={args.strength} is of the pass after a draft, and there is none: add --draft 0.5")
    say_crops(request)
    return request.variants(args.num_videos)


def make_videos(pipeline: "VideoPipeline", requests: list["Request"], out: Path) -> None:
    """One file a request; its path goes to standard output."""
    for request in mine(pipeline.world, requests):
        make_video(pipeline, request, out)


def make_video(pipeline: "VideoPipeline", request: "Request", out: Path, stem: str | None = None) -> None:
    with ProgressBar() as bar:
        path = pipeline.generate_to(out, request, stem, on_step=bar)
    if pipeline.world.leads:
        print(path, flush=True)


def mine(world: "World", work: list[T]) -> list[T]:
    """What this rank and its peers do of what rank 0 has to do: seeds are drawn and files are looked for there."""
    return world.agree(lambda: work)[world.data_rank :: world.data_ranks]


def make_batch(pipeline: "VideoPipeline", requests: list["Request"], out: Path) -> None:
    """Like `make_videos`, but names tell what is done, so that a batch that was stopped goes on."""
    named = [(pipeline.batch_stem(number, request), request) for number, request in enumerate(requests)]
    waiting = [(stem, request) for stem, request in named if not is_done(out, stem)]
    say(f"{len(named) - len(waiting)} of {len(named)} are done, {len(waiting)} to make")
    own = mine(pipeline.world, waiting)
    if pipeline.placement.offload != "none" and own:
        pipeline.prompts.prepare([request for _, request in own])
    for number, (stem, request) in enumerate(own, 1):
        say(f"[{number}/{len(own)}] {request.prompt}")
        make_video(pipeline, request, out, stem)


def is_done(out: Path, stem: str) -> bool:
    """The recipe is written last: where it is, all is."""
    return (out / f"{stem}.json").is_file()


def decode_latents(args: argparse.Namespace) -> None:
    """Saved latents -> the file that their run would have written."""
    from kinema.pipelines.files import load_latents

    latents, recipe = load_latents(args.from_latents)
    dtype = recipe["vae_dtype"] if args.dtype == "auto" else args.dtype
    pipeline = load(args, args.preset or recipe["model"], dtype)
    if pipeline.hashes.of("vae") != recipe["weights_sha256"]["vae"]:
        warn("these latents were made with another VAE: the frames will look wrong; name its folder with --weights")
    with pipeline.world as world:
        with ProgressBar() as bar:
            path = pipeline.decode_to(args.out, args.from_latents, latents, recipe, bar)
        if world.rank == 0:
            print(path, flush=True)
