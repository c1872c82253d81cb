"""`kinema encode`, `kinema train vae RECIPE` and `kinema train video RECIPE`."""

import argparse
from pathlib import Path


def flags(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(title="what to train", metavar="WHAT", required=True)
    for name, run, summary in (("vae", run_vae, "the autoencoder, on clips"), ("video", run_video, "the transformer, on encoded clips")):
        kind = kinds.add_parser(name, help=summary)
        kind.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file, as in runs/")
        kind.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="values to change, such as loop.steps=100")
        kind.set_defaults(run=run)


def run_vae(args: argparse.Namespace) -> None:
    from kinema.config import override, read_config
    from kinema.train.recipe import VaeRecipe, train_vae

    recipe = override(read_config(VaeRecipe, args.recipe), args.changes)
    train_vae(recipe)
    print(recipe.loop.out)


def run_video(args: argparse.Namespace) -> None:
    from kinema.config import override, read_config
    from kinema.train.recipe import VideoRecipe, train_video

    recipe = override(read_config(VideoRecipe, args.recipe), args.changes)
    train_video(recipe)
    print(recipe.loop.out)


def encode_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR", help="shards of clips, as `kinema world render` writes them")
    parser.add_argument("--vae", type=Path, required=True, metavar="DIR", help="a finished VAE run: vae.safetensors and vae.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where shards of latents and text states go")
    parser.add_argument("--scales", type=int, nargs="+", default=[1], metavar="N", help="also at 1/N of the rendered size; default: 1")
    parser.add_argument("--text-len", type=int, default=64, metavar="L", help="longest text, tokens; default: %(default)s")
    parser.add_argument("--consume", action="store_true", help="delete clips once they are encoded")
    parser.add_argument("--follow", type=float, default=0.0, metavar="SECONDS", help="wait so long for further clips; default: do not")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="clips at a time; default: %(default)s")
    parser.set_defaults(run=run_encode)


def run_encode(args: argparse.Namespace) -> None:
    import torch

    from kinema.data.encode import EncodeJob, encode_folder
    from kinema.text.encoder import MINI, load_text_encoder
    from kinema.train.vae import load_trained_vae

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    names = ("clips", "out", "text_len", "consume", "batch")
    job = EncodeJob(scales=tuple(args.scales), follow_seconds=args.follow, **{name: getattr(args, name) for name in names})
    count = encode_folder(job, load_trained_vae(args.vae, device, dtype), load_text_encoder(MINI, None, device, dtype))
    print(f"{args.out}: {count} new shards")
