"""What a model can be asked for on this machine, and how long it will take.

Times come from what was measured here before, scaled by arithmetic to other sizes; before the first video, from how fast a plain matrix
product is here.
"""

import json
import os
import statistics
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kinema.dit.model import DiT, DiTConfig
from kinema.errors import InputError, WeightsError
from kinema.flow.samplers import SAMPLERS
from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.placement import choose_device, choose_dtype
from kinema.pipelines.store import default_folder, find_files
from kinema.presets import MODELS
from kinema.shapes import PixelShape
from kinema.train.flops import forward_flops as dit_flops
from kinema.train.vae import forward_flops as vae_flops

SMALL_SIZES = ((64, 64), (128, 128), (192, 128), (128, 192), (192, 192), (256, 256))  # width x height, for models made for little
PUBLISHED_SIZES = (
    (1280, 720), (720, 1280), (1104, 832), (832, 1104), (960, 960),
    (960, 544), (544, 960), (832, 624), (624, 832), (720, 720),
)  # fmt: skip
SMALL_LENGTHS, PUBLISHED_LENGTHS = (1, 9, 17, 33, 65), (1, 33, 65, 97, 129)
BYTES_A_TOKEN = 95  # times the width; between the published 45 GB at 544x960x129 and 60 GB at 720x1280x129
BYTES_A_PIXEL = 16  # the decoded video, as floats and as bytes
USABLE = 0.9  # of the memory
EFFICIENCY = 0.4  # of a plain matrix product's speed that a model reaches
TIMES = "times.jsonl"
LORAS = "loras"  # folder of adapters that may be asked for
REMEMBERED = 500  # measurements that are looked at
RECENT = 5  # of the same shape, of which the median counts


@dataclass(frozen=True)
class Fitting:
    """One model on this machine."""

    config: ModelConfig
    memory: int  # bytes that one device has

    @property
    def sizes(self) -> list[str]:
        """Sizes to offer, as WIDTHxHEIGHT: those that fit at some length, the default first."""
        chosen = self.config.defaults
        offered = SMALL_SIZES if chosen.width * chosen.height <= 256 * 256 else PUBLISHED_SIZES
        fitting = [(w, h) for w, h in offered if self.needs(1, h, w) <= self.memory]
        return [f"{w}x{h}" for w, h in dict.fromkeys([(chosen.width, chosen.height), *fitting])]

    def lengths(self, width: int, height: int) -> list[int]:
        """Numbers of frames to offer at this size."""
        offered = SMALL_LENGTHS if self.config.defaults.frames <= 33 else PUBLISHED_LENGTHS
        return [frames for frames in offered if self.needs(frames, height, width) <= self.memory]

    @property
    def parameters(self) -> int:
        """Of the transformer."""
        return parameters(self.config.dit)

    def needs(self, frames: int, height: int, width: int) -> int:
        """Bytes, about: weights in two bytes each, activations, and the video."""
        tokens = -(-frames // 4) * (height // 16) * (width // 16)
        return 2 * self.parameters + BYTES_A_TOKEN * self.config.dit.width * tokens + BYTES_A_PIXEL * frames * height * width

    def check(self, request: Request) -> None:
        """Raises InputError for a request that cannot fit into the memory."""
        needed = self.needs(request.frames, request.height, request.width)
        if needed > self.memory:
            raise InputError(
                f"{request.frames} frames of {request.width}x{request.height} need about {needed / 1e9:.0f} GB of memory, and there are "
                f"{self.memory / 1e9:.0f}: ask for fewer frames or a smaller size"
            )


@cache
def parameters(config: DiTConfig) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in DiT(config).parameters())


def fittings(names: list[str] | None = None) -> dict[str, Fitting]:
    """Models that can be served: those named, or all whose weights are here.

    Raises InputError for an unknown name, WeightsError where a named model's weights are missing.
    """
    unknown = [name for name in names or () if name not in MODELS]
    if unknown:
        raise InputError(f"model={unknown[0]!r} is not known: use one of {', '.join(MODELS)}")
    found = {}
    for config in (MODELS[name]() for name in names or MODELS):
        try:
            find_files(config, default_folder(config))
        except WeightsError:
            if names:
                raise
            continue
        found[config.name] = Fitting(config, int(USABLE * memory()))
    return found


@cache
def memory() -> int:
    """Bytes of one GPU, or of the machine."""
    if torch.cuda.is_available():
        return min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Work(NamedTuple):
    """What a video takes, in floating-point operations."""

    name: str  # of what makes it: measured times are told apart by it
    denoise: float
    decode: float


@dataclass(frozen=True)
class Estimate:
    """How long a video will take."""

    seconds: float
    measured: bool  # from this machine's history; otherwise a first guess


class Times:
    """The history: one line a finished video in `folder`/times.jsonl. Many workers may add to it."""

    def __init__(self, folder: Path):
        self.path = folder / TIMES

    def add(self, work: Work, seconds: dict[str, float]) -> None:
        """seconds: of the stages, as the pipeline timed them."""
        known = {"model": work.name, "denoise": seconds.get("denoise", 0.0), "decode": seconds.get("decode", 0.0)}
        with self.path.open("a", encoding="utf-8") as file:  # one short line is written in one piece
            file.write(json.dumps(known | {"denoise_work": work.denoise, "decode_work": work.decode}) + "\n")

    def estimate(self, work: Work) -> Estimate:
        """For an idle machine with the model loaded."""
        known = [line for line in self.lines() if line.get("model") == work.name]
        if not known:
            return Estimate((work.denoise + work.decode) / (EFFICIENCY * speed()), False)
        nearest = sorted(known, key=lambda line: abs(line["denoise_work"] / work.denoise - 1))[:RECENT]
        pace = [statistics.median(line[part] / line[f"{part}_work"] for line in nearest) for part in ("denoise", "decode")]
        return Estimate(work.denoise * pace[0] + work.decode * pace[1], True)

    def lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()[-REMEMBERED:]]


def work_of(config: ModelConfig, request: Request) -> Work:
    """Of one video."""
    calls = SAMPLERS[request.sampler].calls * request.calls
    passes = [work_on(config, config.name, steps * calls, shape) for shape, steps in request.passes]
    return Work(config.name, sum(each.denoise for each in passes), sum(each.decode for each in passes))


def work_on(config: ModelConfig, name: str, calls: int, shape: PixelShape) -> Work:
    """Of so many calls of the transformer on a shape, which is then decoded."""
    pixels = shape.frames * shape.height * shape.width
    return Work(name, calls * dit_flops(config.dit, 1, shape.latent.tokens, config.text.text_len), pixels * flops_a_pixel(config))


@cache
def flops_a_pixel(config: ModelConfig) -> float:
    frames, side = 9, 64
    return vae_flops(config.vae, frames, side, side)[1] / (frames * side * side)


@cache
def speed() -> float:
    """Floating-point operations a second of a plain matrix product here."""
    device = choose_device("auto")
    side = 4096 if device.type == "cuda" else 512
    matrix = torch.ones(side, side, device=device, dtype=choose_dtype("auto", device))
    best = min(timed_product(matrix) for _ in range(5))
    return 2 * side**3 / best


def timed_product(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    _ = (matrix @ matrix)[0, 0].item()  # waits for the device
    return time.perf_counter() - began
