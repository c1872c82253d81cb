"""Published checkpoints <-> our models: strict, both ways, nothing silent.

read.py     files -> named tensors: .pt (never pickled code), safetensors, GGUF (gguf.py), diffusers folders, sharded or whole
names.py    the published names <-> those of diffusers
guess.py    a config from nothing but names and shapes
fit.py      tensors -> a model, or an error that lists every key that does not fit
lora.py     adapters in every dialect
convert.py  what a file is, and the same weights in another layout
"""

from kinema.weights.convert import LAYOUTS, convert, describe
from kinema.weights.fit import load_dit, load_vae
from kinema.weights.guess import infer_dit_config, infer_vae_config
from kinema.weights.names import from_diffusers, is_diffusers, to_diffusers
from kinema.weights.read import load_state

__all__ = [
    "LAYOUTS",
    "convert",
    "describe",
    "from_diffusers",
    "infer_dit_config",
    "infer_vae_config",
    "is_diffusers",
    "load_dit",
    "load_state",
    "load_vae",
    "to_diffusers",
]
