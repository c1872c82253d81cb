"""What a person sees: results on standard output, everything else on standard error; errors as one clear line."""

import errno
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import Any

from kinema.errors import InputError, KinemaError

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE
TERMINATED = 143  # 128 + SIGTERM
PATIENCE = 5.0  # seconds
LINE_EVERY = 10.0  # seconds between plain progress lines


def is_first_rank() -> bool:
    """Whether this process speaks for those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def said_once() -> Iterator[None]:
    """For parsing flags: of several ranks, the first alone says what is wrong with them, or helps."""
    if is_first_rank():
        yield
        return
    try:
        with redirect_stderr(None), redirect_stdout(None):
            yield
    except SystemExit:
        time.sleep(PATIENCE)
        raise


def say(text: str) -> None:
    """A line about what is going on; of several ranks the first says it."""
    if is_first_rank():
        print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    say(f"kinema: note: {text}")


def guarded(run: Callable[[], int | None], debug: bool = False) -> int:
    """Call `run`; whatever it raises becomes one line and an exit status."""
    quiet_libraries()
    logging.getLogger("kinema").handlers = [Notes()]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # an exit unwinds, so that drafts are removed
    try:
        return run() or 0
    except KeyboardInterrupt:
        say("kinema: interrupted; files that were finished are kept")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if getattr(error, "speaks", is_first_rank()):  # of ranks that fail together, the first says why
            if debug:
                traceback.print_exc()
            print(f"kinema: {describe(error)}", file=sys.stderr, flush=True)
        else:
            time.sleep(PATIENCE)  # torchrun ends all ranks when one exits: let it be the one that has spoken
        return 2 if isinstance(error, InputError) else 1


class Notes(logging.Handler):
    """What the package logs, as lines for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def describe(error: Exception) -> str:
    """One line for a person; an error that is not ours says how to see where it came from."""
    if isinstance(error, KinemaError):
        return f"error: {error}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "error: out of memory: ask for fewer --frames or a smaller --size, or add --memory SIZE (see `kinema plan`)"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"error: no room left to write {error.filename or 'the output'}: free some space or choose another --out"
    if isinstance(error, PermissionError):
        return f"error: no permission for {error.filename or 'a file'}: choose a place that you may write to"
    text = " ".join(str(error).split()) or "no message"
    return f"unexpected {type(error).__name__}: {text[:300]} (add --debug to see where it came from)"


def quiet_libraries() -> None:
    """Keep libraries' own bars and banners off the terminal; they are set before the first import of them."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """Shows one stage after another: a bar with time left in a terminal, plain lines now and then elsewhere."""

    def __init__(self) -> None:
        self.stage = ""
        self.began = self.shown = 0.0
        self.bar: Any = None
        if sys.stderr.isatty() and is_first_rank():
            self.bar = rich_bar()
            self.task = self.bar.add_task("load", total=None)

    def __enter__(self) -> "ProgressBar":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of `stage` are ready."""
        if stage != self.stage:
            self.stage, self.began, self.shown = stage, time.monotonic(), 0.0
            if self.bar:
                self.bar.reset(self.task, description=stage, total=total)
        if self.bar:
            self.bar.update(self.task, completed=done, total=total)
        else:
            self.plain(done, total)

    def plain(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done not in (0, total) and now - self.shown < LINE_EVERY:
            return
        self.shown = now
        left = f", {clock((now - self.began) / done * (total - done))} left" if 0 < done < total else ""
        say(f"{self.stage}: {done}/{total}{left}")


def rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def clock(seconds: float) -> str:
    """65 -> 1:05; 3700 -> 1:01:40."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
