"""An item on its way through its operators: what is next, what came of each, and how far a ledger knows the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kinema.curation.ledger import Failure, Task
from kinema.curation.operator import Item, Operator, Rejection, Rows, Span, Value, Vector


@dataclass(frozen=True)
class Step:
    """An operator in a chain."""

    op: Operator
    version: str  # of the operator, its parameters and all that it stands on
    essential: bool  # nothing can be done after it failed


@dataclass
class Job:
    """One item on its way through its chain."""

    item: Item
    chain: Sequence[Step]
    values: dict[str, Value] = field(default_factory=dict)
    vectors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    end: tuple[str, Rejection | Failure] | None = None  # the stage that ended it early, and why
    at: int = 0
    alone: bool = False  # a batch that it was in has crashed
    tries: int = 0
    interrupted: bool = False
    known: Mapping[tuple[str, str], Task] = field(default_factory=dict)  # what the ledger said when the job was settled

    def step(self) -> Step | None:
        """What is to be done next; None at the end. What an earlier failure makes impossible is marked as failed on the way."""
        while self.end is None and not self.spans and self.at < len(self.chain):
            step = self.chain[self.at]
            missing = [name for name in step.op.needs if name in self.failures]
            if not missing:
                return step
            self.take(Failure("missing_input", f"{missing[0]} failed"))
        return None

    def take(self, outcome: Rows | Failure) -> None:
        """The next operator's last word."""
        step = self.chain[self.at]
        self.at, self.tries, self.interrupted = self.at + 1, 0, False
        if isinstance(outcome, Failure):
            self.failures[step.op.name] = outcome
            self.values.update({metric.name: None for metric in step.op.gives})
            if step.essential:
                self.end = (step.op.name, outcome)
            return
        for row in outcome:
            if isinstance(row, Rejection):
                self.end = (step.op.name, row)
            elif isinstance(row, Span):
                self.spans.append(row)
            elif isinstance(row, Vector):
                self.vectors[row.name] = row.values
            else:
                self.values[row.name] = row.value

    def replay(self, place: Callable[["Job"], None]) -> None:
        """Go as far as the ledger knows the way. place: told after every step, to follow what it means for the item."""
        while step := self.step():
            task = self.known.get((step.op.name, step.version))
            if task is None or task.outcome is None:
                self.tries, self.interrupted = (task.attempts, task.interrupted > 0) if task else (0, False)
                return
            self.take(task.outcome)
            place(self)


def step_of(job: Job) -> Step:
    step = job.step()
    assert step is not None, f"{job.item.key} has nothing left to do"
    return step


def length(job: Job) -> float:
    """Seconds of video; 0 for a source that was not probed yet."""
    seconds = job.item.end_s - job.item.start_s or job.values.get("seconds")
    return seconds if isinstance(seconds, float) else 0.0
