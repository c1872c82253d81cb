"""Adapters that a run is asked for: which files, how strongly, and what goes into the recipe."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.dit.lora import check_fit, merge
from kinema.dit.model import DiT
from kinema.dit.quantise import Quantised
from kinema.errors import InputError, WeightsError
from kinema.pipelines.recipe import sha256
from kinema.weights.lora import read_lora

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoraFile:
    """A file of adapters, or a PEFT folder, and its strength."""

    path: Path
    scale: float = 1.0  # 0 is off; below 0 turns away from what was learned

    @classmethod
    def parse(cls, text: str) -> "LoraFile":
        """FILE or FILE:SCALE. Raises InputError where there is no such file."""
        name, colon, scale = text.rpartition(":")
        scaled = colon and not Path(text).exists() and is_number(scale)
        found = cls(Path(name), float(scale)) if scaled else cls(Path(text))
        if not found.path.exists():
            raise InputError(f"lora={text} does not exist: give a .safetensors file, or FILE:SCALE such as zorb.safetensors:0.8")
        return found

    def facts(self) -> dict[str, Any]:
        """For the recipe."""
        return {"file": self.path.name, "sha256": sha256(self.path), "scale": self.scale}


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def refuse_quantised(dit: DiT) -> None:
    if any(isinstance(layer, Quantised) for layer in dit.modules()):
        raise InputError("lora: quantised weights take no adapters: merge them into the wide weights, then quantise those")


def merge_files(dit: DiT, files: Sequence[LoraFile], base: str) -> None:
    """Add the adapters of several files to a model. base: name of the model, to tell when a file was made for another.

    Raises WeightsError, naming the file, where one cannot be read or does not fit.
    """
    refuse_quantised(dit)
    found = []
    for file in files:
        lora = read_lora(file.path)
        try:
            check_fit(dit, lora)
        except WeightsError as error:
            raise WeightsError(f"{file.path}: {error}") from error
        if lora.about.get("base_model", base) != base:
            LOG.warning("%s was trained for %s, not for %s: it may show little", file.path.name, lora.about["base_model"], base)
        found.append((lora, file.scale))
    merge(dit, found)
