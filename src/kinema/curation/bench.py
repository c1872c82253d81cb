"""What the engine and its ledger cost: a simulated operator that only waits, over as many items as asked for."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from kinema.curation.chain import Chains, digest
from kinema.curation.engine import Engine, Progress
from kinema.curation.funnel import Work, crew_of
from kinema.curation.job import Job
from kinema.curation.ledger import Ledger
from kinema.curation.operator import Device, Item, Level, Measurement, Metric, Rows, Values
from kinema.curation.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Nap:
    """Takes its time and measures nothing."""

    name: ClassVar[str] = "nap"
    version: ClassVar[str] = "1"
    over: ClassVar[Level] = "source"
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[Metric, ...]] = (Metric("nap"),)
    device: ClassVar[Device] = "cpu"
    batch: ClassVar[int] = 1
    seconds: float = 0.01
    deadline_s: float = 60.0

    def run(self, item: Item, values: Values) -> Rows:
        time.sleep(self.seconds)
        return [Measurement("nap", self.seconds)]


def overhead(items: int, seconds: float, work: Work, progress: Progress) -> list[str]:
    """Run it, run it again on the full ledger, and say what either took; a line each."""
    with TemporaryDirectory(prefix="kinema-ledger-") as folder:
        out = Path(folder)
        wall, cpu, spent = one_run(out, items, seconds, work, progress)
        again, _, _ = one_run(out, items, seconds, work, progress)
        size = sum(path.stat().st_size for path in out.iterdir())
        with Ledger(out) as ledger:
            peak = ledger.runs()[0]["peak_mb"]
    share = 100 * (wall * work.workers / spent - 1)
    return [
        f"{items} items of {1000 * seconds:g} ms, {work.workers} workers, {work.engine}: {wall:.1f} s, "
        f"{share:.2f} % more than the operator itself",
        f"engine and ledger: {1e6 * cpu / items:.0f} us of processor time an item, {100 * cpu / spent:.2f} % of the operator's",
        f"a rerun that finds everything done: {again:.1f} s; ledger {size / items:.0f} bytes an item; largest worker {peak:.0f} MB",
    ]


def one_run(out: Path, items: int, seconds: float, work: Work, progress: Progress) -> tuple[float, float, float]:
    """Seconds on the clock, of processor time in this process, and within the operator."""
    chains = Chains((Nap(seconds=seconds),), out)
    with Ledger(out) as ledger, closing(crew_of(Recipe(), work)) as crew:
        ledger.begin_run({"engine": work.engine})
        began, cpu = time.perf_counter(), time.process_time()
        Engine(chains, ledger, crew, 2, progress).run(naps(chains, items), items)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        spent = ledger.sql.execute("SELECT total(seconds) FROM task").fetchone()[0]
    return wall, cpu, spent


def naps(chains: Chains, items: int) -> Iterator[Job]:
    return (Job(Item(digest(index), Path("nowhere"), "source"), chains.steps["source"]) for index in range(items))
