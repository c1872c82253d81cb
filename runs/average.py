"""The average of two runs' weights as a model's folder: what a run from given weights won, without all of what it lost.

    python runs/average.py FOLDER OTHER OUT [--share 0.5]      share: of OTHER

Both hold config.toml, dit.safetensors and vae.safetensors. Averaging helps where one run began at the other's
weights, or both at the same (Wortsman et al. 2022, arXiv 2203.05482); measure it as any other weights.
"""

import argparse
from pathlib import Path

import torch

from kinema.config import read_config
from kinema.errors import InputError
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.recipe import sha256
from kinema.pipelines.store import CONFIG_FILE, find_files, save_model
from kinema.weights import load_state


def main(first: Path, other: Path, out: Path, share: float) -> None:
    config = read_config(ModelConfig, first / CONFIG_FILE)
    ours, theirs = (find_files(config, folder) for folder in (first, other))
    if sha256(ours.vae) != sha256(theirs.vae):
        raise InputError(f"{first} and {other} have different autoencoders: their latents are different languages")
    a, b = load_state(ours.dit), load_state(theirs.dit)
    if {name: tensor.shape for name, tensor in a.items()} != {name: tensor.shape for name, tensor in b.items()}:
        raise InputError(f"{first} and {other} hold transformers of different shapes")
    mean = {name: torch.lerp(a[name].float(), b[name].float(), share).to(a[name].dtype) for name in a}
    save_model(out, config, mean, load_state(ours.vae))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, metavar="FOLDER")
    parser.add_argument("other", type=Path, metavar="OTHER")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--share", type=float, default=0.5)
    main(**vars(parser.parse_args()))
