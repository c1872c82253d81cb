# ruff: noqa: RUF009 (the defaults are frozen)
"""What a funnel does, as one TOML file: each operator's parameters, the thresholds of the tiers, and how hard the engine tries.

OPERATORS is the funnel itself, in the order of HunyuanVideo (arXiv 2412.03603, §3.1): a stage is added by one line here.
"""

from dataclasses import dataclass, field, fields

from kinema.curation.cut import Cut
from kinema.curation.operator import Operator, SetOperator
from kinema.curation.probe import Probe
from kinema.curation.tiers import Ladder, Policy, ladders_of
from kinema.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Operators:
    """The stages in their order."""

    probe: Probe = Probe()
    cut: Cut = Cut()


OPERATORS = Operators()


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What each tier asks (256p, 360p, 540p, 720p, review), by the name of a value. An empty table asks nothing."""

    bytes: Ladder = Ladder(at_least=(1, 1, 1, 1, 1))


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard the engine tries."""

    attempts: int = 2  # tries before a crash or a missed deadline is an operator's last word
    memory_mb: int = 6144  # most that a worker may allocate

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.memory_mb < 256:
            raise InputError(f"attempts={self.attempts} must be at least 1, memory_mb={self.memory_mb} at least 256")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole funnel."""

    skip: tuple[str, ...] = ()  # operators to leave out; what they would have given must not be asked for
    operators: Operators = field(default_factory=Operators)
    thresholds: Thresholds = field(default_factory=Thresholds)
    tiers: Policy = field(default_factory=Policy)
    engine: Effort = field(default_factory=Effort)

    def __post_init__(self) -> None:
        names = [part.name for part in fields(self.operators)]
        if unknown := [name for name in self.skip if name not in names]:
            raise InputError(f"skip names {', '.join(unknown)}: operators are {', '.join(names)}")
        given = {metric.name for op in self.chosen() for metric in op.gives}
        if missing := [name for name in ladders_of(self.thresholds) if name not in given]:
            raise InputError(
                f"the tiers ask for {', '.join(missing)}, which no operator gives once {', '.join(self.skip)} are skipped: "
                f"empty those tables, as in [thresholds.{missing[0]}]"
            )

    def chosen(self) -> list[Operator | SetOperator]:
        """The operators in their order, without those that are skipped."""
        return [getattr(self.operators, part.name) for part in fields(self.operators) if part.name not in self.skip]

    def ladders(self, kept: bool = True) -> dict[str, Ladder]:
        """What tiers ask, by metric. kept: also for values that only clips of the first tier have."""
        late = {metric.name for op in self.chosen() if op.over == "kept" for metric in op.gives}
        return {name: ladder for name, ladder in ladders_of(self.thresholds).items() if kept or name not in late}
