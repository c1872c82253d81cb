"""Which operators an item passes, in which versions, and what comes out of it: the meaning that the engine does not know.

A source passes the operators over "source"; each span they find becomes a clip. A clip passes those over "clip"; a span from one of them
(a clear start, a crop) takes the clip's place and passes them again, except the one it came from. Clips of the first tier pass those
over "kept".
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from kinema.curation.cut import Cut, as_clip
from kinema.curation.job import Job, Step
from kinema.curation.ledger import File, Ledger
from kinema.curation.operator import Item, Level, Operator, Span

UNVERSIONED = ("deadline_s",)  # parameters that change no row


def digest(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()


def steps(operators: Sequence[Operator]) -> list[Step]:
    """Operators with their versions: hashes of name, version, parameters and of what each stands on.

    All that follows the cut stands on its bytes.
    """
    versions: dict[str, str] = {}
    found = []
    for op in operators:
        parameters = {name: value for name, value in asdict(op).items() if name not in UNVERSIONED}  # type: ignore[call-overload]
        below = [versions.get(name) for name in op.needs] + [versions.get(Cut.name) if op.over != "source" else None]
        versions[op.name] = digest(op.name, op.version, parameters, below)[:16]
        found.append(Step(op, versions[op.name], op.over == "source" or op.name == Cut.name))
    return found


class Chains:
    """The plan of a funnel, for the engine. clips: the folder that cut clips go to."""

    def __init__(self, operators: Sequence[Operator], clips: Path):
        self.clips = clips
        levels: tuple[Level, ...] = ("source", "clip", "kept")
        every = steps(operators)
        self.steps = {level: [step for step in every if step.op.over == level] for level in levels}

    def source(self, file: File) -> Job:
        assert file.key is not None, f"{file.path} cannot be read"
        return Job(Item(file.key, file.root / file.path, "source", clips=self.clips), self.steps["source"])

    def place(self, job: Job) -> None:
        """Once its file is cut, the item is that file."""
        name = job.values.get("file")
        if isinstance(name, str) and not job.item.is_cut:
            job.item = as_clip(job.item, name)

    def children(self, job: Job) -> Iterator[Job]:
        for span in job.spans:
            yield self.clip_of_source(job, span) if job.item.over == "source" else self.heir(job, span)

    def clip_of_source(self, job: Job, span: Span) -> Job:
        values = {f"source.{name}": value for name, value in job.values.items()}
        return Job(self.item(job.item.key, job.item.path, span, ()), self.steps["clip"], values)

    def heir(self, job: Job, span: Span) -> Job:
        """The clip that takes another's place; it inherits what the operator that made it had to say."""
        maker = job.chain[job.at - 1].op
        made_by = (*job.item.made_by, maker.name)
        inherited = {metric.name for step in self.steps["clip"] if step.op.name in made_by for metric in step.op.gives}
        values = {name: value for name, value in job.values.items() if name.startswith("source.") or name in inherited}
        chain = [step for step in self.steps["clip"] if step.op.name not in made_by]
        return Job(self.item(job.item.source, job.item.raw, span, made_by), chain, values)

    def item(self, source: str, path: Path, span: Span, made_by: tuple[str, ...]) -> Item:
        key = digest(source, span.start, span.end, span.crop)
        place = {"start": span.start, "end": span.end, "start_s": span.start_s, "end_s": span.end_s, "crop": span.crop}
        return Item(key, path, "clip", source=source, raw=path, clips=self.clips, made_by=made_by, **place)  # type: ignore[arg-type]

    def kept(self, job: Job) -> Job:
        """A clip of the first tier, on its way through what only such clips pass."""
        return Job(job.item, self.steps["kept"], dict(job.values))


def follow(chains: Chains, ledger: Ledger, jobs: Iterable[Job]) -> Iterator[Job]:
    """Each job as far as the ledger knows it, and those that came out of it in its stead: the leaves, in order."""
    for job in jobs:
        job.known = ledger.tasks(job.item.key)
        job.replay(chains.place)
        if job.step() is None and job.spans:
            yield from follow(chains, ledger, chains.children(job))
        else:
            yield job
