#!/usr/bin/env python3
"""HunyuanVideo-I2V's command line on Kinema's pipeline, for people who come from there.

    python3 sample_image2video.py --i2v-mode --i2v-image-path a.jpg --prompt "A cat walks." --i2v-stability --flow-shift 7.0
    python3 sample_image2video.py --model mini --i2v-image-path a.png --prompt "A cat walks on the grass."

What it shares with `sample_video.py` is there; flags are known, refused with a reason, or accepted at their one working value alike.
"""

import argparse
from pathlib import Path

import sample_video
from kinema.cli.console import guarded, said_once, warn
from kinema.cli.generate import make_videos
from kinema.errors import InputError

SIDES = {"720p": 960, "540p": 720, "360p": 480}  # root of the pixels of a bucket
CONDITIONS = {"token_replace": "i2v_13b", "latent_concat": "i2v_13b_concat"}
DIT = Path("hunyuan-video-i2v-720p/transformers/mp_rank_00_model_states.pt")
FIXED = {"text-encoder": "llm-i2v", "tokenizer": "llm-i2v", "prompt-template": "dit-llm-encode-i2v"}
FIXED["prompt-template-video"] = "dit-llm-encode-video-i2v"
TRAINING = ("gradient-checkpoint", "gradient-checkpoint-layers", "lora-rank")


def build_parser() -> argparse.ArgumentParser:
    parser = sample_video.build_parser()
    parser.description = "Image to video with HunyuanVideo-I2V's flags."
    parser.set_defaults(model="HYVideo-T/2", **{flag.replace("-", "_"): value for flag, value in FIXED.items()})
    picture = parser.add_argument_group("the picture")
    picture.add_argument("--i2v-mode", action="store_true", help="accepted: this script always begins with a picture")
    picture.add_argument("--i2v-image-path", type=Path, required=True, metavar="FILE", help="the picture that the video begins with")
    picture.add_argument("--i2v-resolution", choices=SIDES, default="720p", help="which size its aspect is fitted to; default: %(default)s")
    picture.add_argument("--i2v-condition-type", choices=CONDITIONS, default="token_replace", help="which weights; default: %(default)s")
    picture.add_argument("--i2v-stability", action="store_true", help="calmer motion; goes with --flow-shift 7")
    picture.add_argument("--i2v-dit-weight", type=Path, metavar="FILE", help=f"default: {DIT} in --model-base")
    lora = parser.add_argument_group("an adapter")
    lora.add_argument("--use-lora", action="store_true", help="add the adapter of --lora-path")
    lora.add_argument("--lora-path", type=Path, metavar="FILE", help="a .safetensors file")
    lora.add_argument("--lora-scale", type=float, default=1.0, metavar="S", help="its strength; default: %(default)s")
    for flag in TRAINING:
        parser.add_argument(f"--{flag}", nargs="?", help=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from kinema.conditioning.frames import Given
    from kinema.conditioning.sizes import size_like
    from kinema.pipelines.loras import LoraFile

    for flag in TRAINING:
        if getattr(args, flag.replace("-", "_")) is not None:
            raise InputError(f"--{flag} is for training: see `kinema train` and docs/lora.md")
    if args.use_lora and args.lora_path is None:
        raise InputError("--use-lora needs --lora-path: name the adapter's file")
    sample_video.FIXED |= FIXED
    sample_video.check_flags(args)
    if args.model != "mini":
        sample_video.MODELS[args.model] = CONDITIONS[args.i2v_condition_type]
        args.dit_weight = args.i2v_dit_weight or args.dit_weight
    picture = Given.picture(args.i2v_image_path)
    pipeline = sample_video.load(args)
    if args.use_lora:
        pipeline.loras = (LoraFile.parse(f"{args.lora_path}:{args.lora_scale:g}"),)
    if args.model != "mini" and not args.video_size:
        args.video_size = list(size_like(picture.height, picture.width, SIDES[args.i2v_resolution]))
    elif args.model == "mini" and not args.video_size:
        args.video_size = list(pipeline.config.size_of((picture,)).values())
        warn(f"mini makes {args.video_size[1]}x{args.video_size[0]} of this picture; --i2v-resolution is for the large model")
    request = replace(sample_video.request_of(args, pipeline.config), given=(picture,), stability=args.i2v_stability)
    folder = Path(args.save_path + (f"_{args.save_path_suffix}" if args.save_path_suffix else ""))
    with pipeline.world:
        make_videos(pipeline, request.variants(args.num_videos), folder)


def main() -> int:
    with said_once():
        args = build_parser().parse_args()
    return guarded(lambda: run(args), debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
