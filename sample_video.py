#!/usr/bin/env python3
"""HunyuanVideo's command line on Kinema's pipeline, for people who come from there.

    python3 sample_video.py --video-size 720 1280 --video-length 129 --infer-steps 50 --prompt "A cat walks." --save-path ./results
    torchrun --nproc-per-node 8 sample_video.py --ulysses-degree 8 --prompt "A cat walks."
    python3 sample_video.py --model mini --prompt "A cat walks on the grass."

Every published flag is known: those that mean something work, also where the published script broke, and the others are refused
with a word why, so that no old command line does something else than it says.
"""

import argparse
import importlib.util
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if importlib.util.find_spec("kinema") is None:  # called with the system's Python: go on with the one that `make setup` made
    PYTHON = Path(__file__).parent / ".venv" / "bin" / "python"
    if not PYTHON.exists():
        sys.exit("sample_video.py: Kinema is not installed for this Python: run `make setup` here, once")
    os.execv(PYTHON, [str(PYTHON), *sys.argv])

from kinema.cli.console import guarded, said_once, warn
from kinema.cli.generate import make_videos
from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.parallel.mesh import MeshConfig
    from kinema.pipelines.base import ModelConfig, Request
    from kinema.pipelines.video import VideoPipeline

MODELS = {"HYVideo-T/2": "t2v_13b", "HYVideo-T/2-cfgdistill": "t2v_13b_distilled", "mini": "mini"}
PRECISIONS = ("bf16", "fp16", "fp32")
SEED_RANGE = 1_000_001  # as published

FIXED = {
    "latent-channels": "16",
    "rope-theta": "256",
    "vae": "884-16c-hy",
    "text-encoder": "llm",
    "tokenizer": "llm",
    "text-states-dim": "4096",
    "text-len": "256",
    "prompt-template": "dit-llm-encode",
    "prompt-template-video": "dit-llm-encode-video",
    "hidden-state-skip-layer": "2",
    "text-encoder-2": "clipL",
    "tokenizer-2": "clipL",
    "text-states-dim-2": "768",
    "text-len-2": "77",
    "denoise-type": "flow",
    "batch-size": "1",
}
"""Flags that belong to the weights or have one working value: that value is accepted, any other refused."""

REASONS = {
    "batch-size": "videos are made one by one: use --num-videos",
}

REFUSED = {
    "use-fp8": "8-bit weights are not in this version: use --precision bf16 with --use-cpu-offload",
    "apply-final-norm": "the released weights were trained without it",
    "use-linear-quadratic-schedule": "the published script never reads it; the shifted schedule does better: use --flow-shift",
    "linear-schedule-end": "the published script never reads it; use --flow-shift",
    "model-resolution": "the published script never reads it; use --video-size",
    "seed-type": "the published script never reads it; use --seed",
    "name-suffix": "the published script never reads it; use --save-path-suffix",
    "disable-autocast": "nothing is cast automatically here; use --precision fp32",
}
"""Published flags that do nothing or cannot work, and why."""


class Refuse(argparse.Action):
    """A flag that is known and not taken."""

    def __call__(self, parser, namespace, values, option_string=None):  # type: ignore[no-untyped-def]
        parser.error(f"{option_string}: {REFUSED[self.dest.replace('_', '-')]}")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Text to video with HunyuanVideo's flags.", allow_abbrev=False)
    request = parser.add_argument_group("the video")
    request.add_argument("--prompt", help="what the video shows")
    request.add_argument("--neg-prompt", help="what to keep away from; needs --cfg-scale above 1")
    request.add_argument("--video-size", type=int, nargs="+", metavar="PIXELS", help="height and width, or one number for a square")
    request.add_argument("--video-length", type=int, metavar="FRAMES", help="1 + a multiple of 4")
    request.add_argument("--infer-steps", type=int, metavar="N", help="denoising steps")
    request.add_argument("--flow-shift", type=float, metavar="S", help="default: 7, or 17 below 20 steps")
    request.add_argument("--flow-solver", help="euler (published), heun, or another of `kinema info`")
    request.add_argument("--flow-reverse", action="store_true", help="accepted: sampling always runs from noise to data here")
    request.add_argument("--cfg-scale", type=float, metavar="G", help="classifier-free guidance; above 1 it doubles the time")
    request.add_argument("--embedded-cfg-scale", type=float, metavar="G", help="guidance of the distilled model; default: 6")
    request.add_argument("--seed", type=int, metavar="N", help="default: drawn at random")
    request.add_argument("--num-videos", type=int, default=1, metavar="N", help="with seeds N, N + 1, ...")
    model = parser.add_argument_group("the model")
    model.add_argument("--model", default="HYVideo-T/2-cfgdistill", choices=MODELS, help="default: %(default)s")
    model.add_argument("--model-base", type=Path, metavar="DIR", help="folder of the weights; default: $MODEL_BASE or ckpts")
    model.add_argument("--dit-weight", type=Path, metavar="FILE", help="the transformer's weights, where they lie elsewhere")
    model.add_argument("--load-key", choices=("module", "ema"), help="which weights of a .pt file; default: module where it has them")
    model.add_argument("--precision", choices=PRECISIONS, help="of the transformer; default: bf16 where the processor has it")
    model.add_argument("--vae-precision", choices=PRECISIONS, help="default: as --precision")
    model.add_argument("--text-encoder-precision", choices=PRECISIONS, help="of both text encoders; default: as --precision")
    model.add_argument("--text-encoder-precision-2", choices=PRECISIONS, help="accepted where it equals the other one")
    model.add_argument("--vae-tiling", action=argparse.BooleanOptionalAction, default=True, help="decode large videos in tiles")
    model.add_argument("--use-cpu-offload", action="store_true", help="keep on the device only what works")
    model.add_argument("--reproduce", action="store_true", help="accepted: the same seed always gives the same bits here")
    model.add_argument("--attention", default="sdpa", metavar="NAME", help="as for `kinema generate`: flash3, radial ...")
    model.add_argument("--compile", action="store_true", help="compile the transformer, which pays from a few videos on")
    ranks = parser.add_argument_group("several processes, started by torchrun")
    ranks.add_argument("--ulysses-degree", type=int, metavar="N", help="processes that share a video's tokens; default: all of them")
    ranks.add_argument("--ring-degree", type=int, metavar="N", help="the same by ring attention, which passes keys round")
    files = parser.add_argument_group("the files")
    files.add_argument("--save-path", default="./results", metavar="DIR", help="default: %(default)s")
    files.add_argument("--save-path-suffix", default="", metavar="TEXT", help="added to the folder's name after a _")
    parser.add_argument("--debug", action="store_true", help="on an unexpected error, show where it came from")
    old = parser.add_argument_group("published flags with one working value, or none")
    for flag, value in FIXED.items():
        old.add_argument(f"--{flag}", default=value, metavar=value, help=argparse.SUPPRESS)
    for flag in REFUSED:
        old.add_argument(f"--{flag}", nargs="*", action=Refuse, help=argparse.SUPPRESS)
    return parser


def check_flags(args: argparse.Namespace) -> None:
    """Raise InputError where a flag asks for what is not to be had."""
    for flag, value in FIXED.items():
        given = getattr(args, flag.replace("-", "_"))
        if given != value:
            reason = REASONS.get(flag, f"the released weights need {value}")
            raise InputError(f"--{flag} {given} is not possible: {reason}")
    if args.text_encoder_precision_2 not in (None, args.text_encoder_precision):
        raise InputError(
            f"--text-encoder-precision-2 {args.text_encoder_precision_2}: both text encoders run in one precision; leave it out"
        )
    if args.video_size and len(args.video_size) > 2:
        raise InputError(f"--video-size takes a height and a width, not {len(args.video_size)} numbers")
    if args.prompt is None:
        raise InputError("--prompt is missing: say what the video should show")


def load(args: argparse.Namespace) -> "VideoPipeline":
    """The model that the flags name."""
    from kinema.kernels.choose import Attention
    from kinema.parallel.mesh import open_world
    from kinema.pipelines.placement import Placement
    from kinema.pipelines.store import choose_model
    from kinema.pipelines.video import VideoPipeline
    from kinema.presets import MODELS as PRESETS

    folder = args.model_base if args.model != "mini" else None
    config, files = choose_model(PRESETS, MODELS[args.model], folder, args.dit_weight)
    placement = Placement.choose("auto", args.precision or "auto", args.use_cpu_offload, args.vae_precision, args.text_encoder_precision)
    world = open_world(mesh_of(args), placement.device)
    fast = {"attention": Attention.parse(args.attention), "compile": "blocks" if args.compile else "none"}
    placement = replace(placement, device=world.device, tile=args.vae_tiling, **fast)
    return VideoPipeline(config, replace(files, load_key=args.load_key), placement, world)


def mesh_of(args: argparse.Namespace) -> "MeshConfig":
    """The published degrees; without them all processes share every video."""
    from kinema.parallel.mesh import MeshConfig, launched_ranks

    ulysses, ring = args.ulysses_degree or 1, args.ring_degree or 1
    if ulysses > 1 and ring > 1:
        raise InputError(f"--ulysses-degree {ulysses} with --ring-degree {ring}: use one of them; either takes any number of processes")
    if args.ulysses_degree is None and args.ring_degree is None:
        ulysses = launched_ranks()
    return MeshConfig(sequence=max(ulysses, ring), method="ring" if ring > 1 else "ulysses")


def request_of(args: argparse.Namespace, config: "ModelConfig") -> "Request":
    """The flags as a request; what they leave open is the model's default."""
    height, width = (args.video_size * 2)[:2] if args.video_size else (None, None)
    distilled = config.dit.guidance
    if args.embedded_cfg_scale is not None and not distilled:
        warn(f"--embedded-cfg-scale has no effect on {args.model}: use --cfg-scale")
    request = config.request(
        args.prompt,
        args.embedded_cfg_scale if distilled else args.cfg_scale,
        seed=secrets.randbelow(SEED_RANGE) if args.seed is None else args.seed,
        frames=args.video_length,
        height=height,
        width=width,
        steps=args.infer_steps,
        shift=args.flow_shift,
        sampler=args.flow_solver,
        negative=args.neg_prompt,
    )
    if distilled and args.cfg_scale is not None:
        request = replace(request, guidance=args.cfg_scale)
    if args.neg_prompt and request.guidance <= 1:
        warn("--neg-prompt has no effect without classifier-free guidance: add --cfg-scale 6, say, which doubles the time")
    return request


def run(args: argparse.Namespace) -> None:
    check_flags(args)
    pipeline = load(args)
    requests = request_of(args, pipeline.config).variants(args.num_videos)
    suffix = f"_{args.save_path_suffix}" if args.save_path_suffix else ""
    with pipeline.world:
        make_videos(pipeline, requests, Path(args.save_path + suffix))


def main() -> int:
    with said_once():
        args = build_parser().parse_args()
    return guarded(lambda: run(args), debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
