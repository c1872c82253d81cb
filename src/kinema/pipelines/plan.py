"""What a video will take before anything is loaded: memory by part, time, and the cheapest change that makes it fit.

The parts are rehearsed without numbers (`dryrun.py`); here they are put together as the pipeline holds them: text is read, the video
denoised, its latents decoded, and what is not needed has left, as the placement says.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kinema.dit.quantise import Form
from kinema.errors import InputError
from kinema.kernels.attend import attend
from kinema.kernels.patterns import Pattern
from kinema.media.video import WAITING
from kinema.parallel.mesh import MeshConfig
from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.dryrun import STREAMED, Need, block_sizes, need_of_dit, need_of_encoding, need_of_text, need_of_vae
from kinema.pipelines.placement import Offload, Placement
from kinema.shapes import TIME_STRIDE, LatentShape
from kinema.vae.model import VAEConfig
from kinema.vae.tiling import count_tiles

LIBRARIES = {"cpu": 700_000_000, "cuda": 600_000_000}  # the process with what it imports; a CUDA context with its kernels
REACH = 0.5  # which share of a stated peak a good run sustains
HEAP_RETURNS = 4 << 20  # bytes from which on freed memory goes back at once
M_MMAP_THRESHOLD = -3  # of mallopt, in glibc
UNITS = {"GB": 10**9, "GIB": 2**30, "MB": 10**6, "MIB": 2**20, "": 10**9}
ENDS = 3  # times a whole video's tokens that each of several ranks holds at both ends of the trunk
STREAMED_FRAMES = 4  # that a streaming VAE gives out at once
LOOKAHEAD = 60  # frames that x264 keeps, as it is set
BLOCKS_HELD = 2  # one at work, the next on its way
TILES = (192, 128)  # smaller than the usual one, in pixels


def read_memory(text: str) -> int:
    """12GB, 8GiB, 6000MB, or a number of GB, as bytes. Raises InputError for anything else."""
    number = text.strip().upper().rstrip("GIMB")
    unit = text.strip().upper()[len(number) :]
    try:
        size = int(float(number) * UNITS[unit])
    except (ValueError, KeyError) as error:
        raise InputError(f"memory={text!r} is no size: write it as 12GB, 8GiB or 6000MB") from error
    if size <= 0:
        raise InputError(f"memory={text!r} must be above 0")
    return size


def return_freed_memory() -> None:
    """Let glibc give large blocks back when they are freed, which keeps a process near what it uses; elsewhere nothing changes."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, HEAP_RETURNS)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Floating-point operations a second that products and attention reach."""

    products: float
    attention: float
    is_stated: bool = False

    @classmethod
    def stated(cls, tflops: float) -> "Rates":
        return cls(products=REACH * tflops * 1e12, attention=REACH * tflops * 1e12, is_stated=True)

    @classmethod
    def measured(cls, placement: Placement) -> "Rates":
        """On the device itself, in about a second."""
        make = {"device": placement.device, "dtype": placement.dtype}
        with torch.inference_mode():
            a, b = torch.randn(1024, 2048, **make), torch.randn(2048, 2048, **make)  # type: ignore[call-overload]
            q = torch.randn(1, 1536, 8, 128, **make)  # type: ignore[call-overload]
            products = 2 * 1024 * 2048 * 2048 / best_of(lambda: torch.nn.functional.linear(a, b), placement.device)
            attention = 4 * 1536**2 * 8 * 128 / best_of(lambda: attend(q, q, q), placement.device)
        return cls(products=products, attention=attention)

    def seconds(self, need: Need) -> float:
        return (need.flops - need.attention_flops) / self.products + need.attention_flops / self.attention


def best_of(work: Callable[[], object], device: torch.device, rounds: int = 4) -> float:
    """Seconds of the fastest of several calls."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken)


@dataclass(frozen=True)
class Stage:
    """What is on the device while a stage runs, in bytes."""

    name: str
    weights: int
    work: int

    @property
    def total(self) -> int:
        return self.weights + self.work


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One request on one placement.

    form: of the transformer's weights; None: as the placement's dtype. given: frames that are given. mesh: of several ranks what one
    takes, its share of tokens and weights reckoned, not rehearsed.
    """

    config: ModelConfig
    request: Request
    placement: Placement
    form: Form | None = None
    given: int = 0
    mesh: MeshConfig = field(default_factory=MeshConfig)

    @cached_property
    def accelerator(self) -> bool:
        return self.placement.device.type != "cpu"

    @cached_property
    def text(self) -> Need:
        return need_of_text(self.config.text, self.placement.text_dtype, self.accelerator)

    @property
    def latent(self) -> LatentShape:
        """What is denoised at once."""
        shape, window = self.request.shape, self.config.defaults.window
        return replace(shape, frames=min(shape.frames, window or shape.frames)).latent

    @cached_property
    def dit(self) -> Need:
        return self.step(None)

    @cached_property
    def sparse_dit(self) -> Need:
        """As `dit`, at steps at which attention is sparse."""
        pattern = self.placement.attention.pattern
        return self.dit if pattern is None else self.step(pattern)

    def step(self, pattern: Pattern | None) -> Need:
        """A step of one rank: a tensor mesh splits weights and products, a sequence mesh tokens too, but at both ends of the trunk."""
        whole, ranks = self.need_of(self.latent, pattern), self.mesh.peers
        if ranks == 1:
            return whole
        part = replace(self.latent, t=-(-self.latent.t // self.mesh.sequence))
        work = self.need_of(part, pattern).work + ENDS * self.tokens * (self.mesh.sequence > 1)
        shared = whole.weights // ranks + BLOCKS_HELD * max(self.blocks, default=0) // self.mesh.tensor
        return Need(min(shared, whole.weights), min(work, whole.work), whole.flops / ranks, whole.attention_flops / ranks)

    def need_of(self, latent: LatentShape, pattern: Pattern | None = None) -> Need:
        """A step of a single process."""
        at = (self.config.text.text_len, self.placement.dtype, self.accelerator, pattern, self.form)
        return need_of_dit(self.config.dit, replace(latent, t=latent.t + self.seen), *at)

    @property
    def tokens(self) -> int:
        """Bytes of a video's tokens in the trunk."""
        return replace(self.latent, t=self.latent.t + self.seen).tokens * self.config.dit.width * self.placement.dtype.itemsize

    @property
    def seen(self) -> int:
        """Latent frames that show the subject and stand before the video."""
        return int("reference" in self.config.conditions)

    @cached_property
    def blocks(self) -> list[int]:
        return block_sizes(self.config.dit, self.placement.dtype, self.form)

    @property
    def kept(self) -> int:
        """Bytes that the cache of blocks keeps between steps, for each call of the model."""
        return self.request.calls * (3 if self.request.forecast else 2) * self.tokens // self.mesh.sequence if self.request.cache else 0

    @property
    def dense_steps(self) -> int:
        """Steps at which all tokens see each other."""
        pattern, sigmas = self.placement.attention.pattern, self.request.sigmas[:-1]
        return len(sigmas) if pattern is None else int((sigmas > pattern.dense).sum())

    @cached_property
    def vae(self) -> Need:
        config = self.placement.tiles_of(self.config.vae)
        return need_of_vae(config, self.request.shape.latent, self.placement.vae_dtype, self.accelerator)

    @property
    def encoded(self) -> int:
        """Frames that the VAE reads: what is given, a picture of the subject, or all of a draft."""
        return self.request.frames if self.request.draft else max(self.given, self.seen)

    @cached_property
    def encoding(self) -> Need:
        shape = replace(self.request.shape, frames=self.encoded)
        return need_of_encoding(self.placement.tiles_of(self.config.vae), shape, self.placement.vae_dtype, self.accelerator)

    @property
    def frames(self) -> int:
        """Bytes of finished frames in host memory: parts that wait, and what the video's encoder looks ahead."""
        shape, part = self.request.shape, STREAMED_FRAMES if self.config.vae.streams else self.config.vae.tile_frames
        picture = shape.height * shape.width
        return round(picture * (3 * min(part * (WAITING + 1), shape.frames) + 1.5 * min(LOOKAHEAD, shape.frames)))

    @property
    def resident(self) -> int:
        """The transformer's weights that stay on a rank; where its blocks come and go: the rest, and the largest blocks on their way."""
        if self.placement.offload != "blocks":
            return self.dit.weights
        return self.need_of(self.latent).weights - sum(self.blocks) + BLOCKS_HELD * max(self.blocks, default=0)

    def stages(self) -> list[Stage]:
        """On the device: the text is read, what is given encoded, the video denoised, its latents decoded."""
        text, dit, vae = self.text.weights, self.resident, self.vae.weights
        host = 0 if self.accelerator else self.frames
        alone = self.placement.offload != "none"
        stays = 0 if alone and (self.accelerator or self.placement.offload == "blocks") else dit
        before, beside = 0 if alone else text, vae if self.encoded and not (alone and self.accelerator) else 0
        stages = [Stage("text", text, self.text.work)]
        stages += [Stage("encode", before + vae, self.encoding.work)] if self.encoded else []
        stages += [Stage("denoise", before + dit + beside, max(self.dit.work, self.sparse_dit.work) + self.kept)]
        return [*stages, Stage("decode", before + stays + vae, self.vae.work + host)]

    @property
    def peak(self) -> int:
        """Bytes of the device, or of the process on a CPU, when most is held."""
        return LIBRARIES["cuda" if self.accelerator else "cpu"] + max(stage.total for stage in self.stages())

    def seconds(self, rates: Rates) -> dict[str, float]:
        """Of each stage; what ranks exchange is not counted, nor what a cache of blocks saves."""
        calls, dense = self.request.calls, self.dense_steps
        steps = dense * rates.seconds(self.dit) + (len(self.request.sigmas) - 1 - dense) * rates.seconds(self.sparse_dit)
        latent = self.request.shape.latent
        times = (
            latent.t / min(latent.t, STREAMED) if self.config.vae.streams else count_tiles(self.placement.tiles_of(self.config.vae), latent)
        )
        pieces = latent.t / self.latent.t
        last = {"encode": rates.seconds(self.encoding) if self.encoded else 0.0}
        last |= {"denoise": pieces * calls * steps, "decode": times * rates.seconds(self.vae)}
        first = replace(self, request=self.request.first_pass).seconds(rates) if self.request.draft else {}
        whole = {name: seconds + first.get(name, 0.0) for name, seconds in last.items()}
        return {"text": rates.seconds(self.text)} | {name: seconds for name, seconds in whole.items() if seconds}


@dataclass(frozen=True)
class Change:
    """A way to need less, and what it costs."""

    plan: Plan
    says: str


def changes(plan: Plan) -> Iterator[Change]:
    """From what costs nothing to what changes the video; each contains those before it, as far as the placement goes."""
    ways: tuple[tuple[Offload, str], ...] = (
        ("parts", "--offload: parts that do not work wait outside; seconds a video"),
        ("blocks", "--offload blocks: blocks come when they work; a step takes at least as long as reading the weights"),
    )
    wanted = ["none", "parts", "blocks"].index(plan.placement.offload)
    for mode, says in ways[wanted:]:
        plan = replace(plan, placement=replace(plan.placement, offload=mode))
        yield Change(plan, says)
    if not plan.config.vae.streams:
        for tile in TILES:
            plan = replace(plan, placement=replace(plan.placement, tile_size=tile))
            yield Change(plan, f"--tile {tile} as well: smaller tiles overlap more, so that decoding takes longer")
    yield from smaller(plan)


def smaller(plan: Plan) -> Iterator[Change]:
    """Fewer frames, then a smaller picture too: halves, as the model's steps allow."""
    request = plan.request
    while request.frames > 1:
        request = replace(request, frames=max((request.frames - 1) // 8 * 4, 0) + 1)
        yield Change(replace(plan, request=request), f"--offload blocks and --frames {request.frames}: a shorter video")
    while min(request.height, request.width) > 32:
        request = replace(request, height=request.height // 32 * 16, width=request.width // 32 * 16)
        says = f"--offload blocks, --frames 1 and --size {request.height} {request.width}: a small picture"
        yield Change(replace(plan, request=request), says)


def cheapest(plan: Plan, memory: int) -> Change | None:
    """The first change that fits into `memory` bytes; None where nothing does."""
    return next((change for change in changes(plan) if change.plan.peak <= memory), None)


def count_given(request: Request, config: ModelConfig) -> int:
    """Frames that a request gives, at most: a video gives half of what is made at once."""
    latents = min(request.frames, config.defaults.window or request.frames) // 2 // TIME_STRIDE
    video = any(each.kind != "picture" for each in request.given)
    return TIME_STRIDE * latents + 1 if video else min(len(request.given), 1)


def place(config: ModelConfig, request: Request, placement: Placement, memory: int, **chosen: Any) -> Placement:
    """The placement of the fastest way to make this very request within `memory` bytes. chosen: other fields of Plan.

    Raises InputError, with the nearest request that would fit, where there is none.
    """
    plan = Plan(config=config, request=request, placement=placement, given=count_given(request, config), **chosen)
    if plan.peak <= memory:
        return placement
    found = cheapest(plan, memory)
    if found is None or found.plan.request != request:
        way = f": {found.says} would fit" if found else ""
        raise InputError(f"memory={memory / 1e9:.1f} GB is too little for {request.frames}x{request.height}x{request.width}{way}")
    return found.plan.placement


def device_memory(device: torch.device) -> int | None:
    """Bytes that the device has in all; of a CPU, what is free now. None where it is not here or nothing tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory if torch.cuda.is_available() else None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has left; None where nothing tells."""
    if device.type != "cuda":
        return device_memory(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def fitting_tile(config: VAEConfig, latent: LatentShape, placement: Placement, free: int | None) -> int:
    """Side in pixels of the tiles to decode in: the VAE's own, or the largest that fit into `free` bytes, at worst the smallest."""
    sizes = [config.tile_size, *(size for size in TILES if size < config.tile_size)]
    if free is None:
        return config.tile_size
    needs = (
        (size, need_of_vae(replace(config, tile_size=size), latent, placement.vae_dtype, placement.device.type != "cpu")) for size in sizes
    )
    return next((size for size, need in needs if need.work <= free), sizes[-1])
