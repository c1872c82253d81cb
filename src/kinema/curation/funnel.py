"""From a folder of raw videos to a dataset of clips in tiers: the stages in the order of HunyuanVideo (arXiv 2412.03603, §3.1).

Sources and clips pass their operators through the engine; the ledger keeps every result. Then tables are assembled, operators over the
whole set see them, and tiers are decided. Each of these steps is a function of the ledger or of the tables: any can be run again.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kinema.config import to_toml
from kinema.curation import table
from kinema.curation.chain import Chains, follow
from kinema.curation.engine import Crew, Engine, Progress
from kinema.curation.job import Job
from kinema.curation.ledger import File, Ledger
from kinema.curation.operator import Operator, SetOperator
from kinema.curation.recipe import Recipe
from kinema.curation.scan import scan
from kinema.curation.tiers import decide
from kinema.errors import InputError
from kinema.media.files import whole_file
from kinema.version import __version__

CLIPS, RECIPE = "clips", "curation.toml"


@dataclass(frozen=True)
class Funnel:
    """A recipe with the operators it names; what runs."""

    recipe: Recipe
    operators: tuple[Operator, ...]
    set_operators: tuple[SetOperator, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe) -> "Funnel":
        every = recipe.chosen()
        return cls(
            recipe,
            tuple(op for op in every if isinstance(op, Operator)),
            tuple(op for op in every if isinstance(op, SetOperator)),
        )

    def chains(self, out: Path) -> Chains:
        return Chains(self.operators, out / CLIPS)

    def metrics(self) -> list[str]:
        return table.metric_names([*self.operators, *self.set_operators])


@dataclass(frozen=True, kw_only=True)
class Work:
    """How a run is carried out; nothing here changes what comes out."""

    engine: Literal["local", "ray"] = "local"
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    address: str | None = None  # of a Ray cluster; None starts one here
    shard: tuple[int, int] = (0, 1)
    retry: bool = False  # give what failed another chance


def curate(raw: Path, out: Path, recipe: Recipe, work: Work, progress: Progress) -> Path:
    """Run a whole funnel, or go on with one; returns the folder of the dataset.

    Raises InputError where `raw` holds no video, or another run writes to `out`.
    """
    return run(Funnel.of(recipe), scan(raw, work.shard), out, work, progress)


def run(funnel: Funnel, files: Sequence[File], out: Path, work: Work, progress: Progress) -> Path:
    """A funnel over files that were scanned. A shard of several is measured only: `merge` decides."""
    with Ledger(out) as ledger:
        prepare(funnel, out)
        ledger.set_files(files)
        if work.retry:
            ledger.forget_failures()
        ledger.begin_run(
            {"engine": work.engine, "workers": work.workers, "shard": work.shard, "host": platform.node(), "version": __version__}
        )
        with closing(crew_of(funnel.recipe, work)) as crew:
            measure(funnel, ledger, out, crew, progress)
            if work.shard[1] == 1:
                finish(funnel, ledger, out, crew, progress)
    return out


def prepare(funnel: Funnel, out: Path) -> None:
    """The folder, the recipe in it, and no drafts of a run that was killed."""
    (out / CLIPS).mkdir(parents=True, exist_ok=True)
    for draft in (out / CLIPS).glob(".*.mp4"):
        draft.unlink(missing_ok=True)
    with whole_file(out / RECIPE) as file:
        file.write_text(to_toml(funnel.recipe), encoding="utf-8")


def crew_of(recipe: Recipe, work: Work) -> Crew:
    if work.engine == "ray":
        from kinema.curation.ray_engine import RayCrew

        return RayCrew(work.workers, work.address)
    from kinema.curation.pool import LocalCrew

    return LocalCrew(work.workers, recipe.engine.memory_mb)


def sources(chains: Chains, files: Sequence[File]) -> Iterator[Job]:
    return (chains.source(file) for file in files if file.key is not None)


def measure(funnel: Funnel, ledger: Ledger, out: Path, crew: Crew, progress: Progress) -> None:
    """Every operator over sources and clips that the ledger does not know the result of."""
    chains, files = funnel.chains(out), ledger.files()
    engine = Engine(chains, ledger, crew, funnel.recipe.engine.attempts, progress)
    engine.run(sources(chains, files), sum(file.key is not None for file in files))


def finish(funnel: Funnel, ledger: Ledger, out: Path, crew: Crew, progress: Progress) -> None:
    """From a full ledger to tables and tiers; clips of the first tier pass the operators that see only such."""
    chains, metrics = funnel.chains(out), funnel.metrics()
    found, clips, jobs = assemble(funnel, ledger, chains)
    if chains.steps["kept"]:
        reached = decide(columns_of(clips, metrics), funnel.recipe.ladders(kept=False)).reached
        kept = [chains.kept(jobs[clip.item.key]) for clip, tier in zip(clips, reached, strict=True) if tier]
        Engine(chains, ledger, crew, funnel.recipe.engine.attempts, progress).run(iter(kept), len(kept))
        clips = with_kept(clips, list(follow(chains, ledger, (chains.kept(jobs[job.item.key]) for job in kept))))
    table.write_table(out / table.SOURCES, found)
    table.write_table(out / table.MEASUREMENTS, [clip.record(metrics) for clip in clips])
    from kinema.curation.summary import settle

    ledger.commit()
    settle(out, funnel.recipe)


def assemble(funnel: Funnel, ledger: Ledger, chains: Chains) -> tuple[list[table.Record], list[table.Clip], dict[str, Job]]:
    """Records of sources, clips by key, and their jobs; the same span found twice is one clip."""
    records, clips, jobs = [], {}, {}
    for file in ledger.files():
        if file.key is None:
            records.append(table.source_record(file, None, 0))
            continue
        source = chains.source(file)
        leaves = [job for job in follow(chains, ledger, [source]) if job.item.over == "clip"]
        records.append(table.source_record(file, source, len(leaves)))
        for job in leaves:
            clips[job.item.key], jobs[job.item.key] = table.clip_of(job, file.path), job
    ordered = [clips[key] for key in sorted(clips)]
    for operator in funnel.set_operators:
        ordered = table.apply_set(operator, ordered)
    return records, ordered, jobs


def columns_of(clips: Sequence[table.Clip], metrics: Sequence[str]) -> dict[str, list[object]]:
    records = [clip.record(metrics) for clip in clips]
    return {name: [record[name] for record in records] for name in (records[0] if records else {"state": None})}


def with_kept(clips: Sequence[table.Clip], jobs: Sequence[Job]) -> list[table.Clip]:
    """Clips with what the operators over kept clips said of them; their other values, those of sets too, stay."""
    said = {job.item.key: job for job in jobs}
    return [table.extended(clip, said[clip.item.key]) if clip.item.key in said else clip for clip in clips]


def merge(parts: Sequence[Path], out: Path, recipe: Recipe, work: Work, progress: Progress) -> Path:
    """One dataset from shards that were measured apart: ledgers are joined, clips linked (copied across disks), tiers decided over all.

    Raises InputError where a part holds no ledger.
    """
    funnel = Funnel.of(recipe)
    return merge_funnel(funnel, parts, out, work, progress)


def merge_funnel(funnel: Funnel, parts: Sequence[Path], out: Path, work: Work, progress: Progress) -> Path:
    for part in parts:
        if not (part / "ledger.sqlite").exists():
            raise InputError(f"{part} holds no ledger.sqlite: give folders that `kinema curate --shard` wrote")
    with Ledger(out) as ledger:
        prepare(funnel, out)
        for part in parts:
            ledger.take_in(part / "ledger.sqlite")
            for clip in (part / CLIPS).glob("*/*.mp4"):
                link(clip, out / CLIPS / clip.parent.name / clip.name)
        ledger.begin_run({"engine": "merge", "parts": len(parts), "workers": work.workers, "host": platform.node(), "version": __version__})
        with closing(crew_of(funnel.recipe, work)) as crew:
            measure(funnel, ledger, out, crew, progress)  # what a shard left undone
            finish(funnel, ledger, out, crew, progress)
    return out


def link(clip: Path, home: Path) -> None:
    if home.exists():
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(clip, home)
    except OSError:
        with whole_file(home) as draft:
            draft.write_bytes(clip.read_bytes())
