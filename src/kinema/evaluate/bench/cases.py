"""What is measured: for each part of a model, its cases; for each case, the sides that are held against each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kinema.dit.model import DiTConfig
from kinema.evaluate.bench import rivals, sides
from kinema.evaluate.bench.memory import Side
from kinema.evaluate.bench.timing import Work
from kinema.pipelines.base import ModelConfig
from kinema.pipelines.store import ModelFiles
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig

OURS = "kinema"
SMALL = PixelShape(33, 128, 128)
LARGE = PixelShape(33, 256, 256)
SHORT_FRAMES, LONG_FRAMES = 33, 129  # of the streamed decode
MEDIUM = DiTConfig(
    width=1024, heads=8, double_blocks=4, single_blocks=8, rope_axes=(16, 56, 56), text_width=4096, pooled_width=768, guidance=True
)  # 300 M parameters: the published proportions at a third of the width and a fifth of the depth
QUARTER = VAEConfig(channels=(32, 64, 128, 128))  # the published topology at a quarter of its width


@dataclass(frozen=True)
class Subject:
    """The model whose parts are measured."""

    config: ModelConfig
    files: ModelFiles | None  # None: random weights, on which timings do not depend
    folder: Path | None = None  # where the files lie, if not where the preset keeps them


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the report."""

    name: str
    sides: Mapping[str, Side]  # the first is what is judged, the others what it is held against
    agree: tuple[str, ...] = ()  # the sides that must give the first one's output


def dit_cases(subject: Subject, against: bool) -> list[Case]:
    """One step of the DiT, one clip, no padding in the text: the model's own, and one of 300 M parameters."""
    weights, rival = subject.files.dit if subject.files else None, rivals.dit_step if against else None
    own = [make_case(f"DiT step, {size(shape)}", sides.dit_step, rival, subject.config.dit, shape, weights) for shape in (SMALL, LARGE)]
    return [*own, make_case(f"DiT step, 300 M, {size(SMALL)}", sides.dit_step, rival, MEDIUM, SMALL, None)]


def vae_cases(subject: Subject, against: bool) -> list[Case]:
    """The model's own autoencoder, the published topology, and a long clip streamed."""
    config, weights = subject.config.vae, subject.files.vae if subject.files else None
    own = [
        make_case(f"VAE encode, {subject.config.name}, {size(LARGE)}", sides.vae_encode, None, config, LARGE, weights),
        make_case(f"VAE decode, {subject.config.name}, {size(LARGE)}", sides.vae_decode, None, config, LARGE, weights),
    ]
    encode, decode = (rivals.vae_encode, rivals.vae_decode) if against else (None, None)
    published = [
        make_case(f"VAE {what}, published at 1/4 width, {size(shape)}", side, rival, QUARTER, shape, None)
        for shape in (SMALL, LARGE)
        for what, side, rival in (("encode", sides.vae_encode, encode), ("decode", sides.vae_decode, decode))
    ]
    return own + published + (stream_cases(subject) if config.streams else [])


def stream_cases(subject: Subject) -> list[Case]:
    defaults, weights = subject.config.defaults, subject.files.vae if subject.files else None
    short, long = (PixelShape(frames, defaults.height, defaults.width) for frames in (SHORT_FRAMES, LONG_FRAMES))
    whole = {f"whole {shape.frames} frames": partial(sides.vae_decode, subject.config.vae, shape, weights) for shape in (short, long)}
    streamed = {f"streamed {long.frames} frames": partial(sides.vae_decode_stream, subject.config.vae, long, weights)}
    name = f"VAE decode in a stream, {subject.config.name}, {long.height}x{long.width}"
    return [Case(name=name, sides=streamed | whole, agree=(f"whole {long.frames} frames",))]


def text_cases(subject: Subject, against: bool) -> list[Case]:
    weights = subject.files.text if subject.files else None
    return [make_case("text encode, 1 prompt", sides.text_encode, None, subject.config.text, weights)]


def make_case(name: str, side: Callable[..., Work], rival: Callable[..., Work] | None, *what: Any) -> Case:
    """what: arguments that both sides take before the placement."""
    if rival is None:
        return Case(name=name, sides={OURS: partial(side, *what)})
    return Case(name=name, sides={OURS: partial(side, *what), rivals.NAME: partial(rival, *what)}, agree=(rivals.NAME,))


def size(shape: PixelShape) -> str:
    return f"{shape.frames}x{shape.height}x{shape.width}"


CASES: dict[str, Callable[[Subject, bool], list[Case]]] = {"dit": dit_cases, "vae": vae_cases, "text": text_cases}
"""Part -> its cases, beside diffusers or by themselves; `endtoend.py` has the whole."""
