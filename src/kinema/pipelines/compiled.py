"""A transformer compiled block by block: blocks of a kind share their code, and what was compiled once is kept for later runs."""

import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.pipelines.placement import Compile

LOG = logging.getLogger(__name__)
FOLDER = Path("~/.cache/kinema/compiled")
FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compile_dit(dit: DiT, way: Compile, device: torch.device) -> None:
    """Compile the trunk's blocks for any number of tokens ("blocks"), or for fixed sizes as CUDA graphs ("graphs").

    Nothing happens before the first call, which then waits. Raises InputError where what the compiler needs is missing.
    """
    check_tools(way, device)
    options: dict[str, Any] = {"dynamic": True} if way == "blocks" else {"dynamic": False, "mode": "reduce-overhead"}
    for name in dit.plan().blocks:
        dit.get_submodule(name).compile(**options)
    if way == "graphs":
        dit.register_forward_pre_hook(begin_step)
    again = "again at every new size" if way == "graphs" else "once"
    folder = Path(os.environ[FOLDER_VARIABLE])
    known = "uses what earlier runs compiled" if folder.is_dir() and any(folder.iterdir()) else "keeps what it compiles"
    LOG.warning("compile: the first step waits, %s, for up to minutes; it %s in %s", again, known, folder)


def begin_step(dit: nn.Module, args: tuple[Any, ...]) -> None:
    """The blocks' graphs hand their results on in place; only a new step may reuse the memory."""
    torch.compiler.cudagraph_mark_step_begin()


def check_tools(way: Compile, device: torch.device) -> None:
    os.environ.setdefault(FOLDER_VARIABLE, str(FOLDER.expanduser()))  # before the compiler is imported, which then sets its own
    if way == "graphs" and device.type != "cuda":
        raise InputError(f"compile=graphs needs a CUDA device, this is {device.type}: use compile=blocks")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError("compile needs Triton, which PyTorch brings for CUDA on Linux: pip install triton, or leave --compile out")
    from torch._inductor.cpp_builder import get_cpp_compiler

    find: Callable[[], str] = get_cpp_compiler
    try:
        find()
    except Exception as error:  # inductor's own kind, which is not public
        raise InputError("compile needs a C++ compiler, and none is here: install g++ or clang++, or leave --compile out") from error
