# ruff: noqa: RUF009 (the defaults are frozen)
"""What a funnel does, as one TOML file: each operator's parameters, the thresholds of the tiers, and how hard the engine tries.

OPERATORS is the funnel itself, in the order of HunyuanVideo (arXiv 2412.03603, §3.1): a stage is added by one line here.
"""

from dataclasses import dataclass, field, fields

from kinema.curation.balance import Concepts
from kinema.curation.captions import Captions
from kinema.curation.crops import Crops
from kinema.curation.cut import Cut
from kinema.curation.duplicates import Duplicates
from kinema.curation.measure import (
    Aesthetic,
    BlackBorders,
    Clarity,
    Embedding,
    Fingerprint,
    Geometry,
    Light,
    Movement,
    Quality,
    Safety,
    Text,
    Watermark,
)
from kinema.curation.operator import Operator, SetOperator
from kinema.curation.probe import Probe
from kinema.curation.shots import Shots
from kinema.curation.tiers import Ladder, Policy, ladders_of
from kinema.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Operators:
    """The stages in their order."""

    probe: Probe = Probe()
    shots: Shots = Shots()  # single-shot clips, each begun where it is clear
    cut: Cut = Cut()
    geometry: Geometry = Geometry()
    light: Light = Light()
    borders: BlackBorders = BlackBorders()
    clarity: Clarity = Clarity()
    motion: Movement = Movement()
    text: Text = Text()
    watermark: Watermark = Watermark()
    quality: Quality = Quality()
    aesthetic: Aesthetic = Aesthetic()
    safety: Safety = Safety()
    fingerprint: Fingerprint = Fingerprint()
    embedding: Embedding = Embedding()
    crops: Crops = Crops()  # what is cropped is cut and measured again
    duplicates: Duplicates = Duplicates()
    concepts: Concepts = Concepts()
    caption: Captions = Captions()  # of what the first tier keeps


OPERATORS = Operators()


def all_tiers(least: float | None = None, most: float | None = None) -> Ladder:
    """The same bound at every tier."""
    return Ladder(*((bound,) * 5 if bound is not None else None for bound in (least, most)))


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What each tier asks (256p, 360p, 540p, 720p, review), by the name of a value. An empty table asks nothing.

    Priors. The literature gives brightness 20-180, text area 5 %, motion 0.2 % of the diagonal, 23 frames/s, 2 s (Allegro, arXiv
    2410.15458, and others, each on its own scale), and 60 % of the picture to be left (HunyuanVideo 1.5); the rest rises from what is
    plainly bad to what is plainly good.
    """

    short_side: Ladder = Ladder(at_least=(256.0, 360.0, 540.0, 720.0, 720.0))
    seconds: Ladder = Ladder(at_least=(1.0, 1.0, 1.5, 2.0, 2.0))
    fps: Ladder = Ladder(at_least=(9.5, 12.0, 15.0, 20.0, 23.0))
    aspect: Ladder = all_tiers(0.42, 2.4)
    brightness: Ladder = Ladder(at_least=(16.0, 18.0, 20.0, 20.0, 24.0), at_most=(230.0, 220.0, 210.0, 200.0, 180.0))
    contrast: Ladder = Ladder(at_least=(8.0, 12.0, 16.0, 20.0, 24.0))
    border_area: Ladder = all_tiers(most=0.01)
    kept_area: Ladder = all_tiers(0.6)
    blur: Ladder = Ladder(at_most=(5.8, 4.1, 2.7, 2.0, 2.0))  # edges no softer than 1.5 pixels once the clip has the tier's size
    motion: Ladder = Ladder(at_least=(0.002, 0.0025, 0.003, 0.0035, 0.004), at_most=(0.25, 0.22, 0.2, 0.18, 0.15))
    jitter: Ladder = Ladder(at_most=(0.03, 0.025, 0.02, 0.015, 0.01))
    frozen: Ladder = Ladder(at_most=(0.5, 0.4, 0.3, 0.2, 0.1))
    text_area: Ladder = Ladder(at_most=(0.02, 0.015, 0.01, 0.01, 0.005))  # one line across the frame covers 3 %
    watermark: Ladder = Ladder(at_most=(0.78, 0.7, 0.6, 0.5, 0.5))  # docs/filters.md: where the detector's false alarms end
    brisque: Ladder = Ladder(at_most=(70.0, 60.0, 55.0, 50.0, 45.0))
    colour_contrast: Ladder = Ladder(at_least=(0.02, 0.03, 0.05, 0.07, 0.1))
    nsfw: Ladder = Ladder(at_most=(0.8, 0.8, 0.5, 0.3, 0.2))  # its authors: below 0.2 safe, above 0.8 not; drawings reach 0.7


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
