"""`kinema world build`, `sample`, `speak`, `render` and `portraits`."""

import argparse
import os
from pathlib import Path

from kinema.cli.console import say
from kinema.shapes import PixelShape


def flags(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="fetch the animated emoji and pack them, once")
    build.add_argument(
        "--pack", type=Path, metavar="FILE", help="where the pack goes; default: the cache folder ($KINEMA_CACHE or ~/.cache/kinema)"
    )
    build.add_argument("--tarballs", type=Path, metavar="DIR", help="folder with tarballs fetched before; default: within the cache folder")
    build.set_defaults(run=run_build)
    sample = actions.add_parser("sample", help="write one clip and its truth")
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same clip; default: %(default)s")
    sample.add_argument("--frames", type=int, default=33, metavar="N", help="default: %(default)s")
    sample.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"), help="default: 256 256")
    sample.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="default: %(default)s")
    sample.set_defaults(run=run_sample)
    speak = actions.add_parser("speak", help="write one clip of a talking face with its voice, and its truth")
    speak.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same clip; default: %(default)s")
    speak.add_argument("--frames", type=int, default=33, metavar="N", help="default: %(default)s")
    speak.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"), help="default: 256 256")
    speak.add_argument("--split", choices=("train", "heldout"), default="train", help="of sentences and looks; default: %(default)s")
    speak.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="default: %(default)s")
    speak.set_defaults(run=run_speak)
    render = actions.add_parser("render", help="render clips into shards to train on; goes on where it stopped")
    render.add_argument("--out", type=Path, required=True, metavar="DIR")
    render.add_argument("--clips", type=int, default=4096, metavar="N", help="default: %(default)s")
    render.add_argument("--frames", type=int, default=33, metavar="N", help="1: pictures; default: %(default)s")
    render.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"), help="default: 128 128")
    render.add_argument("--first-seed", type=int, default=1_000_000, metavar="N", help="default: %(default)s")
    render.add_argument("--split", choices=("train", "heldout"), default="train", help="default: %(default)s")
    render.add_argument("--subjects", nargs="+", default=[], metavar="NOUN", help="only these, such as cat 'red heart'; default: all")
    render.add_argument("--often", nargs="+", default=[], metavar="NOUN", help="draw these four times as often as the others")
    render.add_argument(
        "--shots", nargs="+", default=[], metavar="SHOT", help="only these: close-up, 'medium shot', 'wide shot'; default: all"
    )
    render.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: one a core")
    render.add_argument("--ahead", type=int, default=0, metavar="N", help="pause while N shards lie unread; default: never")
    render.add_argument("--pack", type=Path, metavar="FILE", help="the sprite pack; default: where `world build` puts it")
    render.set_defaults(run=run_render)
    portraits = actions.add_parser("portraits", help="write the portraits that mini remembers its world by")
    portraits.add_argument("--out", type=Path, required=True, metavar="DIR")
    portraits.add_argument("--pack", type=Path, metavar="FILE", help="the sprite pack; default: where `world build` puts it")
    portraits.set_defaults(run=run_portraits)


def run_build(args: argparse.Namespace) -> None:
    from kinema.world.sprites import build_pack, default_path

    pack = args.pack or default_path()
    if pack.exists():
        say("the pack is there already: delete it to build it anew")
    else:
        build_pack(pack, args.tarballs)
    print(pack)


def run_portraits(args: argparse.Namespace) -> None:
    from kinema.world.memory import write_portraits
    from kinema.world.sprites import SpritePack

    write_portraits(SpritePack.open(args.pack), args.out)
    print(args.out)


def run_sample(args: argparse.Namespace) -> None:
    from kinema.world.sample import sample

    shape = PixelShape(args.frames, *args.size)
    video, truth = sample(args.seed, args.out, shape.frames, shape.height, shape.width)
    say(f"its truth: {truth}")
    print(video)


def run_speak(args: argparse.Namespace) -> None:
    from kinema.world.sample import speak

    shape = PixelShape(args.frames, *args.size)
    video, truth = speak(args.seed, args.out, args.split, shape.frames, shape.height, shape.width)
    say(f"its truth: {truth}")
    print(video)


def run_render(args: argparse.Namespace) -> None:
    from kinema.data.render import RenderJob, render_world

    shape = PixelShape(args.frames, *args.size)
    names = ("out", "clips", "first_seed", "split", "workers", "ahead", "pack")
    chosen = {name: getattr(args, name) for name in names} | {name: tuple(getattr(args, name)) for name in ("subjects", "often", "shots")}
    render_world(RenderJob(frames=shape.frames, height=shape.height, width=shape.width, **chosen))
    print(args.out)
