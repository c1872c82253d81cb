"""What a video will take before anything is loaded: memory by part, time, and the cheapest change that makes it fit.

The parts are rehearsed without numbers (`dryrun.py`); here they are put together as the pipeline holds them: text is read, the video
denoised, its latents decoded, and what is not needed has left, as the placement says.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.flow.sigmas import schedule
from kinema.kernels.attend import attend
from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.dryrun import STREAMED, Need, need_of_dit, need_of_text, need_of_vae
from kinema.pipelines.placement import Offload, Placement
from kinema.vae.tiling import count_tiles

LIBRARIES = {"cpu": 700_000_000, "cuda": 600_000_000}  # the process with what it imports; a CUDA context with its kernels
REACH = 0.5  # which share of a stated peak a good run sustains
HEAP_RETURNS = 4 << 20  # bytes from which on freed memory goes back at once
M_MMAP_THRESHOLD = -3  # of mallopt, in glibc
UNITS = {"GB": 10**9, "GIB": 2**30, "MB": 10**6, "MIB": 2**20, "": 10**9}
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

    @classmethod
    def stated(cls, tflops: float) -> "Rates":
        return cls(products=REACH * tflops * 1e12, attention=REACH * tflops * 1e12)

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
    """One request on one placement."""

    config: ModelConfig
    request: Request
    placement: Placement

    @cached_property
    def accelerator(self) -> bool:
        return self.placement.device.type != "cpu"

    @cached_property
    def text(self) -> Need:
        return need_of_text(self.config.text, self.placement.text_dtype, self.accelerator)

    @cached_property
    def dit(self) -> Need:
        return need_of_dit(self.config.dit, self.request.shape.latent, self.config.text.text_len, self.placement.dtype, self.accelerator)

    @cached_property
    def sparse_dit(self) -> Need:
        """As `dit`, at steps at which attention is sparse."""
        latent, pattern = self.request.shape.latent, self.placement.attention.pattern
        if pattern is None:
            return self.dit
        return need_of_dit(self.config.dit, latent, self.config.text.text_len, self.placement.dtype, self.accelerator, pattern)

    @property
    def dense_steps(self) -> int:
        """Steps at which all tokens see each other."""
        pattern, sigmas = self.placement.attention.pattern, schedule(self.request.steps, self.request.shift)[:-1]
        return self.request.steps if pattern is None else int((sigmas > pattern.dense).sum())

    @cached_property
    def vae(self) -> Need:
        config = self.placement.tiles_of(self.config.vae)
        return need_of_vae(config, self.request.shape.latent, self.placement.vae_dtype, self.accelerator)

    @property
    def frames(self) -> int:
        """Bytes of the finished frames, which lie in host memory."""
        shape = self.request.shape
        return shape.frames * shape.height * shape.width * 3

    @property
    def resident(self) -> int:
        """The transformer's weights that stay, where its blocks come and go: the rest, and the largest blocks on their way."""
        if self.placement.offload != "blocks":
            return self.dit.weights
        sizes = block_sizes(self.config, self.placement.dtype)
        return self.dit.weights - sum(sizes) + BLOCKS_HELD * max(sizes, default=0)

    def stages(self) -> list[Stage]:
        """On the device: the text is read, the video denoised, its latents decoded."""
        text, dit, vae = self.text.weights, self.resident, self.vae.weights
        host = 0 if self.accelerator else 2 * self.frames
        alone = self.placement.offload != "none"
        stays = 0 if alone and (self.accelerator or self.placement.offload == "blocks") else dit
        before = 0 if alone else text
        held = (text, before + dit, before + stays + vae)
        work = (self.text.work, max(self.dit.work, self.sparse_dit.work), self.vae.work + host)
        return [Stage(name, *each) for name, each in zip(("text", "denoise", "decode"), zip(held, work, strict=True), strict=True)]

    @property
    def peak(self) -> int:
        """Bytes of the device, or of the process on a CPU, when most is held."""
        return LIBRARIES["cuda" if self.accelerator else "cpu"] + max(stage.total for stage in self.stages())

    def seconds(self, rates: Rates) -> dict[str, float]:
        """Of each stage."""
        calls, dense = 2 if self.request.guidance > 1 else 1, self.dense_steps
        steps = dense * rates.seconds(self.dit) + (self.request.steps - dense) * rates.seconds(self.sparse_dit)
        latent = self.request.shape.latent
        times = (
            latent.t / min(latent.t, STREAMED) if self.config.vae.streams else count_tiles(self.placement.tiles_of(self.config.vae), latent)
        )
        return {"text": rates.seconds(self.text), "denoise": calls * steps, "decode": times * rates.seconds(self.vae)}


def block_sizes(config: ModelConfig, dtype: torch.dtype) -> list[int]:
    """Bytes of each of the trunk's blocks."""
    with torch.device("meta"):
        dit = DiT(config.dit)
    return [sum(weight.numel() for weight in dit.get_submodule(name).parameters()) * dtype.itemsize for name in dit.plan().blocks]


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


def place(config: ModelConfig, request: Request, placement: Placement, memory: int) -> Placement:
    """The placement of the fastest way to make this very request within `memory` bytes.

    Raises InputError, with the nearest request that would fit, where there is none.
    """
    plan = Plan(config=config, request=request, placement=placement)
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
