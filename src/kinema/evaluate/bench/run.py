"""The whole bench: every case of the parts asked for, in each number format."""

from collections.abc import Callable, Iterator, Sequence

from kinema.errors import WeightsError
from kinema.evaluate.bench.cases import CASES, Subject
from kinema.evaluate.bench.endtoend import end_to_end
from kinema.evaluate.bench.measure import Row, label, measure
from kinema.evaluate.bench.report import Report
from kinema.evaluate.bench.timing import CLOCKS, Clock
from kinema.pipelines.placement import Placement

WHOLE = "end-to-end"
PARTS = (*CASES, WHOLE)
RANDOM_WEIGHTS = "the model's weights are not here: random ones, which take as long, stand in for them"


def bench(
    subject: Subject,
    parts: Sequence[str],
    placements: Sequence[Placement],
    against: bool,
    rounds: int,
    seconds: float,
    on_row: Callable[[Row], None] = lambda row: None,
    clock: str = "wall",
    known: Sequence[Row] = (),
) -> Report:
    """Measure parts of a model.

    placements: one for each number format; the end-to-end part takes the first.
    against: beside diffusers with the same weights and inputs.
    clock: of `timing.CLOCKS`; end to end takes the wall's.
    known: rows of an earlier run, which are not measured again.
    rounds, seconds: time each case for at least so many rounds and at least so long.
    Raises MissingExtraError where diffusers is wanted and absent, KinemaError where the two compute different things.
    """
    notes = [] if subject.files else [RANDOM_WEIGHTS]
    rows: list[Row] = []
    for part in parts:
        try:
            for row in rows_of(part, subject, placements, against, rounds, seconds, CLOCKS[clock], known):
                rows.append(row)
                on_row(row)
        except WeightsError as error:
            notes.append(f"{part} is not measured: {error}")
    return Report(rows, notes, placements[0].device, clock)


def rows_of(
    part: str,
    subject: Subject,
    placements: Sequence[Placement],
    against: bool,
    rounds: int,
    seconds: float,
    clock: Clock,
    known: Sequence[Row],
) -> Iterator[Row]:
    if part == WHOLE:
        yield from end_to_end(subject, placements[0])
        return
    for case in CASES[part](subject, against):
        for placement in placements:
            before = (row for row in known if (row.name, row.dtype, row.sides.keys()) == (case.name, label(placement), case.sides.keys()))
            yield next(before, None) or measure(part, case, placement, rounds, seconds, clock)
