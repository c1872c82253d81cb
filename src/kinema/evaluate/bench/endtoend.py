"""A prompt to a file as a person runs it: the command in a process of its own, started twice."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import KinemaError
from kinema.evaluate.bench.cases import Subject
from kinema.evaluate.bench.measure import Figures, Row, load
from kinema.evaluate.bench.memory import status_bytes
from kinema.evaluate.bench.sides import PROMPT, SEED, make_dit, make_vae
from kinema.evaluate.bench.timing import Times
from kinema.pipelines.placement import Placement, dtype_name
from kinema.pipelines.store import save_model

RUNS = 2  # the second finds every cache filled
FIRST_STEP = "denoise: 0/"  # how the command's progress line says that denoising begins


@dataclass(frozen=True)
class Run:
    """One run of the command, in seconds from its start; peak is its whole resident set in bytes."""

    first_step: float
    total: float
    peak: int | None


def end_to_end(subject: Subject, placement: Placement) -> list[Row]:
    """Prompt to file, and how long until denoising begins.

    Raises KinemaError where the command fails.
    """
    with workplace() as work:
        folder = subject.folder if subject.files else random_model(subject, work / "model")
        command = command_of(subject, placement, folder, work / "out")
        runs = [watched(command) for _ in range(RUNS)]
    dtype, peak = dtype_name(placement.dtype), max((run.peak for run in runs if run.peak), default=None)
    defaults = subject.config.defaults
    what = f"{defaults.frames}x{defaults.height}x{defaults.width}, {defaults.steps} steps"
    whole = {"prompt to file": Figures(Times(tuple(run.total for run in runs)), peak)}
    start = {"second run": Figures(Times((runs[-1].first_step,)), None)}
    return [
        Row(part="end-to-end", name=f"prompt to file, {what}", dtype=dtype, sides=whole, load=load()),
        Row(part="end-to-end", name="start-up to the first denoising step", dtype=dtype, sides=start, load=load()),
    ]


@contextmanager
def workplace() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kinema-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def random_model(subject: Subject, folder: Path) -> Path:
    config = subject.config
    save_model(folder, config, make_dit(config.dit, None).state_dict(), make_vae(config.vae, None).state_dict())
    return folder


def command_of(subject: Subject, placement: Placement, folder: Path | None, out: Path) -> list[str]:
    what = ["--prompt", PROMPT, "--seed", SEED, "--out", out]
    model = ["--preset", subject.config.name, *(("--weights", folder) if folder else ())]
    where = ["--device", placement.device, "--dtype", dtype_name(placement.dtype)]
    words = [sys.executable, "-m", "kinema", "generate", *what, *model, *where]
    return [str(word) for word in words]


def watched(command: list[str]) -> Run:
    """Run a command and note when its progress says that denoising begins."""
    began = time.perf_counter()
    first_step, peak, said = 0.0, 0, ""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            peak, said = max(peak, status_bytes("VmHWM", process.pid)), line.strip() or said
            if not first_step and line.startswith(FIRST_STEP):
                first_step = time.perf_counter() - began
    if process.returncode or not first_step:
        raise KinemaError(f"`kinema generate` ended with status {process.returncode} and said: {said}")
    return Run(first_step, time.perf_counter() - began, peak or None)
