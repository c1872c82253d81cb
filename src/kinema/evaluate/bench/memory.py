"""How much memory a piece of work takes at its peak, beyond its weights and inputs, in a process of its own.

On the CPU: growth of the resident set, which Linux tells and can reset; elsewhere it is not measured. On CUDA: torch's allocator.
"""

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from kinema.evaluate.bench.timing import Work
from kinema.pipelines.placement import Placement

Side = Callable[[Placement], Work]
"""Builds a model and its inputs there and gives the work to measure; it must pickle, as it travels to another process."""

STATUS = "/proc/{}/status"
RESET_PEAK = "5"  # what /proc/self/clear_refs takes to forget the peak (Linux, Documentation/filesystems/proc)


def peak_of(side: Side, placement: Placement) -> int | None:
    """Bytes that the work needs at its peak over what is held before; None where the system does not tell."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(growth, side, placement).result()


def growth(side: Side, placement: Placement) -> int | None:
    """`peak_of`, in this process."""
    with torch.inference_mode():
        work = side(placement)
        return device_growth(work, placement.device) if placement.device.type == "cuda" else host_growth(work)


def host_growth(work: Work) -> int | None:
    if sys.platform != "linux":
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise the work could live in what building the model left over
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    for _ in work():
        pass
    return status_bytes("VmHWM") - before


def device_growth(work: Work, device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    for _ in work():
        pass
    return torch.cuda.max_memory_allocated(device) - before


def status_bytes(field: str, process: int | str = "self") -> int:
    """VmRSS (resident now) or VmHWM (its peak) of a process; 0 where it is gone or nothing tells."""
    try:
        lines = Path(STATUS.format(process)).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
