"""`kinema info`, `kinema convert` and `kinema verify`: models and files, looked at and rewritten."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.cli.console import say
from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.dit.model import DiTConfig
    from kinema.pipelines.base import ModelConfig
    from kinema.vae.model import VAEConfig
    from kinema.weights.convert import Layout

PICTURES = (".mp4", ".png")
LAYOUTS = ("safetensors", "published", "diffusers", "comfy", "kohya", "peft")  # of kinema.weights


def info_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a video, picture, latents, checkpoint or model folder; none: the presets"
    )
    parser.set_defaults(run=run_info)


def run_info(args: argparse.Namespace) -> None:
    if args.file is None:
        return show_presets()
    if not args.file.exists():
        raise InputError(f"file={args.file} does not exist: give a video, picture, latents, checkpoint or model folder")
    if args.file.suffix in PICTURES:
        return show(picture_facts(args.file))
    return show(checkpoint_facts(args.file))


def show(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=1, ensure_ascii=False))


def picture_facts(path: Path) -> dict[str, Any]:
    """What the file is, and the recipe that it carries."""
    from dataclasses import asdict

    from kinema.media.video import probe, read_metadata

    header = asdict(probe(path)) if path.suffix == ".mp4" else {}
    return {"file": str(path), **header, "recipe": read_metadata(path)}


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """What lies in a model's folder, in latents of ours, or in a checkpoint of any layout."""
    from dataclasses import asdict

    from kinema.config import read_config
    from kinema.pipelines.base import ModelConfig
    from kinema.pipelines.files import is_latents, load_latents
    from kinema.pipelines.store import CONFIG_FILE
    from kinema.weights import describe

    if (path / CONFIG_FILE).is_file():
        return {"file": str(path), "config": asdict(read_config(ModelConfig, path / CONFIG_FILE))}
    if is_latents(path):
        latents, recipe = load_latents(path)
        return {"file": str(path), "latents": list(latents.shape), "recipe": recipe}
    return describe(path)


def show_presets() -> None:
    """Every preset with its size, defaults, and whether its weights are here."""
    from kinema.flow.samplers import SAMPLERS
    from kinema.kernels.choose import PLAIN, others
    from kinema.pipelines.placement import Placement
    from kinema.presets import MODELS

    rows = [["preset", "DiT", "VAE", "makes", "steps", "guidance", "weights"], *(preset_row(make()) for make in MODELS.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    place = Placement.choose()
    here = ", ".join(f"{name} {value}" for name, value in place.names().items())
    print(f"\nsamplers: {', '.join(SAMPLERS)}\nhere: {here}")
    print(f"attention: {PLAIN.says(place.device, place.dtype)}\n--attention: {others()}")


def preset_row(config: "ModelConfig") -> list[str]:
    from kinema.errors import WeightsError
    from kinema.pipelines.store import default_folder, find_files

    folder, size = default_folder(config), config.defaults
    try:
        find_files(config, folder)
        found = "here"
    except WeightsError:
        found = "absent"
    made = f"{size.frames} x {size.height} x {size.width}, {size.fps} fps"
    return [config.name, parameters(config.dit), parameters(config.vae), made, str(size.steps), str(size.guidance), found]


def parameters(config: "DiTConfig | VAEConfig") -> str:
    """How many, counted without building anything: 12.8 B, 15.4 M."""
    import torch

    from kinema.dit.model import DiT, DiTConfig
    from kinema.vae.model import CausalVAE

    with torch.device("meta"):
        model = DiT(config) if isinstance(config, DiTConfig) else CausalVAE(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def convert_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a checkpoint: .pt, .safetensors, a folder with one, or a training run")
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="a .safetensors file to write; with --to diffusers (of a model) or peft a folder"
    )
    parser.add_argument(
        "--to", choices=LAYOUTS, default=LAYOUTS[0], help="safetensors: names as they are; of LoRA: its dialect; default: %(default)s"
    )
    parser.set_defaults(run=run_convert)


def run_convert(args: argparse.Namespace) -> None:
    from kinema.weights import convert

    if (args.source / "checkpoints").is_dir():
        convert_run(args.source, args.target, args.to)
    else:
        convert(args.source, args.target, args.to)
    print(args.target)


def convert_run(run: Path, target: Path, layout: "Layout") -> None:
    """The averaged weights of a run's newest checkpoint, in float32."""
    import tempfile

    from kinema.train.checkpoint import averaged_weights
    from kinema.weights.convert import convert, write_tensors

    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".kinema-") as folder:
        whole = Path(folder) / "averaged.safetensors"
        write_tensors(averaged_weights(run), whole)
        convert(whole, target, layout)


def verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="witnesses: weights, inputs and outputs of the published models"
    )
    parser.set_defaults(run=run_verify)


def run_verify(args: argparse.Namespace) -> int:
    """One line a stored tensor; 1 where any is out of bounds or a file is no witness."""
    from kinema.errors import WeightsError
    from kinema.evaluate.witness import verify

    sound = True
    for path in args.files:
        try:
            checks = verify(path)
        except WeightsError as error:
            say(f"kinema: error: {error}")
            sound = False
            continue
        for check in checks:
            sign = "ok  " if check.ok else "FAIL"
            print(f"{sign} {path.name}: {check.name} differs by at most {check.max_difference:.1e} (bound {check.bound:.0e})", flush=True)
        sound &= all(check.ok for check in checks)
    return 0 if sound else 1
