"""How fast a run goes: tokens a second, model FLOPs, and their share of what the device can do (MFU)."""

import time
from dataclasses import dataclass
from functools import cache

import torch

SIDES = {"cuda": 8192, "cpu": 2048}  # of the square matrices whose product is timed
PEAK_SECONDS = 0.3  # how long to look for the best product
TERA = 1e12


@dataclass(frozen=True)
class Work:
    """What one batch asks for on this rank; zeros where a task does not count."""

    samples: int = 0
    tokens: int = 0
    flops: float = 0.0  # forward and backward, without recomputation
    size: str = ""  # its bucket: the first steps at a new one may compile


class Meter:
    """Adds up work and seconds between two looks."""

    def __init__(self, device: torch.device, peak_tflops: float | None):
        self.device, self.stated = device, peak_tflops
        self.reset()

    def reset(self) -> None:
        self.samples, self.tokens, self.flops, self.seconds, self.steps = 0, 0, 0.0, 0.0, 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def add(self, work: Work) -> None:
        self.samples, self.tokens, self.flops = self.samples + work.samples, self.tokens + work.tokens, self.flops + work.flops

    def step(self, seconds: float) -> None:
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds

    @property
    def peak(self) -> float:
        """FLOP/s of one device, as stated or as measured."""
        return self.stated * TERA if self.stated else matmul_peak(self.device.type)

    def figures(self) -> dict[str, float]:
        """Per rank, since the last call; what a task does not count is left out."""
        found = {"steps_per_second": self.steps / self.seconds, "memory_gb": memory(self.device) / 1e9}
        if self.tokens:
            found |= {"samples_per_second": self.samples / self.seconds, "tokens_per_second": self.tokens / self.seconds}
        if self.flops:
            speed = self.flops / self.seconds
            found |= {"tflops": speed / TERA, "mfu": speed / self.peak}
        self.reset()
        return found


def memory(device: torch.device) -> int:
    """Peak bytes of tensors on a GPU; of the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@cache
def matmul_peak(device: str) -> float:
    """FLOP/s of the best of many bfloat16 matrix products, with the threads that this process has."""
    side = SIDES.get(device, 2048)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - began < PEAK_SECONDS or best == float("inf"):
            start = time.perf_counter()
            a @ b
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
