"""`kinema encode`: clips into the latents and text states that a transformer trains on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.console import ProgressBar, say, warn
from kinema.errors import InputError, WeightsError

if TYPE_CHECKING:
    from kinema.data.encode import EncodeJob, Encoder, Report

NAMED = 20  # failures that are printed; all of them are in failed.txt


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("dataset", type=Path, nargs="?", metavar="DATASET", help="what `kinema curate` wrote")
    where.add_argument("--clips", type=Path, metavar="DIR", help="rendered shards, or videos and pictures with captions (docs/data.md)")
    add("--tier", default="256p", metavar="NAME", help="of DATASET: 256p, 360p, 540p, 720p or review; default: %(default)s")
    add("--out", type=Path, required=True, metavar="DIR", help="where the encoded clips go; a folder of an earlier run is continued")
    add("--preset", metavar="NAME", help="whose VAE and text encoder to use; default: mini, or what the folder of weights says")
    add("--weights", type=Path, metavar="DIR", help="folder with the model's files; default: where the preset keeps them")
    add("--vae", type=Path, metavar="DIR", help="a finished VAE run, in place of the preset's: vae.safetensors and vae.json")
    add(
        "--sides", type=int, nargs="+", default=(), metavar="N", help="encode about NxN pixels, at the clip's aspect; default: its own size"
    )
    add("--frames", type=int, nargs="+", default=(), metavar="T", help="lengths of buckets; default: each clip's own")
    add("--fps", type=float, metavar="N", help="thin clips to about N frames a second; default: keep every frame")
    add("--windows", type=int, default=1, metavar="N", help="take up to N pieces of a long clip; default: %(default)s, from its middle")
    add("--text-len", type=int, metavar="L", help="longest text, tokens; default: the preset's")
    add("--consume", action="store_true", help="delete rendered shards once they are encoded")
    add("--follow", type=float, default=0.0, metavar="SECONDS", help="wait so long for further clips; default: do not")
    add("--batch", type=int, default=16, metavar="N", help="clips at a time; default: %(default)s")
    add("--per-shard", type=int, default=32, metavar="N", help="clips a file; default: %(default)s")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...; default: %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from kinema.data.encode import encode_folder

    job = job_of(args)
    say("loading the models")
    encoder = load_encoder(args)
    with ProgressBar() as bar:
        report = encode_folder(job, encoder, lambda done, total: bar("encode", done, total))
    if not (report.written or report.there or report.failed):
        raise InputError(f"clips={job.clips} holds neither rendered shards nor videos or pictures: see docs/data.md")
    tell(args.out, report)
    return 0 if report.written or report.there else 1


def job_of(args: argparse.Namespace) -> "EncodeJob":
    """Raises InputError for values that make no job."""
    from kinema.data.encode import EncodeJob

    names = ("out", "tier", "fps", "windows", "consume", "batch", "per_shard")
    same = {name: getattr(args, name) for name in names}
    return EncodeJob(
        clips=args.dataset or args.clips, sides=tuple(args.sides), frames=tuple(args.frames), follow_seconds=args.follow, **same
    )


def load_encoder(args: argparse.Namespace) -> "Encoder":
    """Raises WeightsError where a model is missing."""
    import json
    from dataclasses import replace

    import torch

    from kinema.config import build
    from kinema.data.encode import Encoder
    from kinema.pipelines.placement import choose_device
    from kinema.pipelines.store import choose_model
    from kinema.presets import MODELS
    from kinema.text.encoder import load_text_encoder
    from kinema.vae.model import VAEConfig, channels_last
    from kinema.weights import load_vae

    device = choose_device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config, files = choose_model(MODELS, args.preset, args.weights)
    vae_config, vae_file = config.vae, files.vae
    if args.vae is not None:
        try:
            vae_config, vae_file = build(VAEConfig, json.loads((args.vae / "vae.json").read_text())), args.vae / "vae.safetensors"
        except (OSError, ValueError) as error:
            raise WeightsError(f"no finished VAE run in {args.vae} ({error}): train one with `kinema train vae`") from error
    vae = load_vae(vae_file, vae_config).to(device, dtype).eval()
    channels_last(vae)
    text = config.text if args.text_len is None else replace(config.text, text_len=args.text_len)
    return Encoder(vae, load_text_encoder(text, files.text, device, dtype))


def tell(out: Path, report: "Report") -> None:
    """What was written, on standard output; what was not, by name, and in a file."""
    path = out / "failed.txt"
    path.unlink(missing_ok=True)  # an earlier run's
    for bucket, count in sorted(report.written.items()):
        print(f"{out}: {count} clips of {bucket}")
    if report.there:
        say(f"{report.there} clips were encoded before")
    if report.failed:
        from kinema.data.store import write_text

        write_text(path, "\n".join(report.failed) + "\n")
        warn(f"{len(report.failed)} clips could not be encoded, and are listed in {path}:")
        for reason in report.failed[:NAMED]:
            say(f"  {reason}")
