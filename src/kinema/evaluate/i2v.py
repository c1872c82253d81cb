"""How well a picture starts to move: first frames of held-out clips of the embedded world, continued as the clips' prompts say.

Every figure stands beside the same for what the VAE gives back of the real clip, and for the real clip: what a perfect model on that
VAE could reach, and what the judges themselves can. How far a long video drifts is told by its end against its beginning. All three
are judged as files, since H.264 takes its share of every picture.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from einops import rearrange
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kinema.conditioning.frames import Given
from kinema.evaluate.direction import direction
from kinema.evaluate.scores import Share
from kinema.evaluate.sheet import strip, write_sheets
from kinema.evaluate.world import RECOGNISER, Case, Video, cases, each, real_video, reconstructed, wanted_direction
from kinema.media.files import whole_file
from kinema.media.image import write_image
from kinema.media.video import read_video, write_video
from kinema.pipelines.video import VideoPipeline
from kinema.world.recogniser import Recogniser
from kinema.world.sprites import SpritePack

AIMS = {"first frame, dB": "VAE - 1 dB", "subject stays": "85 %", "direction as the prompt says": "70 %", "jump after frame 1": "near real"}


@dataclass(frozen=True)
class Drift:
    """The last third of a video against its first."""

    colour: float  # mean difference of their mean colours, levels of 255
    sharpness: float  # ratio of their mean differences of neighbouring pixels
    motion: float  # ratio of their mean differences of neighbouring frames; infinite where nothing moved at first

    @classmethod
    def of(cls, video: Video) -> "Drift":
        """video: three frames or more."""
        third = max(len(video) // 3, 2)
        first, last = video[:third].float(), video[-third:].float()
        colour = (last.mean((0, 1, 2)) - first.mean((0, 1, 2))).abs().mean().item()
        return cls(colour, ratio(edges(last), edges(first)), ratio(fmean(steps_of(video[-third:])), fmean(steps_of(video[:third]))))


@dataclass(frozen=True)
class Sight:
    """What was measured of one video."""

    psnr: float  # dB, of its first frame against the given picture; infinite where they are equal
    subject_at_first: str  # who the recogniser sees in the given picture
    subject_seen: str  # and in the later half of the video
    direction_wanted: str  # empty: not asked
    direction_seen: str
    jump: float  # mean difference between frames 1 and 2, over the mean of all neighbours; 1 is even motion
    motion: float  # mean difference of neighbours, levels of 255
    drift: Drift


def edges(video: Float[Tensor, "T H W 3"]) -> float:
    """Mean difference of neighbouring pixels."""
    return (video.diff(dim=1).abs().mean() + video.diff(dim=2).abs().mean()).item() / 2


def ratio(value: float, reference: float) -> float:
    return value / reference if reference else math.inf


def psnr(first: Video, second: Video) -> float:
    """dB, peak 255."""
    error = (first.float() - second.float()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def steps_of(video: Video) -> list[float]:
    """Mean difference of each frame to the next, levels of 255."""
    return [(after.float() - before.float()).abs().mean().item() for before, after in pairwise(video)]


def subject_of(video: Video, recogniser: Recogniser) -> str:
    reading = recogniser.read(rearrange(video, "T H W c -> T c H W"))
    return recogniser.subjects[int(reading.subjects.argmax())]


def judge(case: Case, picture: Video, video: Video, recogniser: Recogniser) -> Sight:
    """picture: the given frame, [1 H W 3]."""
    steps, wanted = steps_of(video), wanted_direction(case.spec)
    mean = fmean(steps)
    return Sight(
        psnr=psnr(picture, video[:1]),
        subject_at_first=subject_of(picture, recogniser),
        subject_seen=subject_of(video[len(video) // 2 :], recogniser),
        direction_wanted=wanted,
        direction_seen=direction(video) if wanted else "",
        jump=ratio(steps[0], mean),
        motion=mean,
        drift=Drift.of(video),
    )


def moved_video(case: Case, picture: Path, pipeline: VideoPipeline, folder: Path, chosen: dict[str, Any]) -> Video:
    """The pipeline's video from a case's first frame, made unless `folder` has it already. chosen: fields of Request."""
    size = {"frames": case.spec.frames, "height": case.spec.height, "width": case.spec.width}
    request = pipeline.config.request(case.prompt, seed=case.number, given=(Given.picture(picture),), **size, **chosen)
    stem = pipeline.batch_stem(case.number, request)
    path = folder / f"{stem}.mp4"
    if not path.exists():
        pipeline.generate_to(folder, request, stem)
    return read_video(path)[0]


def as_file(path: Path, video: Video) -> Video:
    """What is left of a clip once it is written."""
    write_video(path, video, fps=12)
    return read_video(path)[0]


def summary(sights: Sequence[Sight]) -> dict[str, Share | float]:
    """A column of the table. Means of dB leave out what is infinite; of ratios the median, since still clips have none."""
    finite = [sight.psnr for sight in sights if math.isfinite(sight.psnr)]
    moving = [sight for sight in sights if sight.direction_wanted]
    return {
        "first frame, dB": fmean(finite) if finite else math.inf,
        "subject stays": Share.of([sight.subject_seen == sight.subject_at_first for sight in sights]),
        "direction as the prompt says": Share.of([sight.direction_seen == sight.direction_wanted for sight in moving]),
        "jump after frame 1": median(sight.jump for sight in sights),
        "motion, levels a frame": fmean(sight.motion for sight in sights),
        "colour at the end, levels off": fmean(sight.drift.colour for sight in sights),
        "sharpness at the end": median(sight.drift.sharpness for sight in sights),
        "motion at the end": median(sight.drift.motion for sight in sights),
    }


def table(kinds: dict[str, dict[str, Share | float]]) -> Table:
    out = Table("measure", *kinds, "aim", title="kinema evaluate i2v")
    for name in next(iter(kinds.values())):
        cells = [column[name] for column in kinds.values()]
        out.add_row(name, *(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells), AIMS.get(name, ""))
    return out


def evaluate_i2v(
    pipeline: VideoPipeline, out: Path, count: int, chosen: dict[str, Any], recogniser: Path = RECOGNISER, pack: Path | None = None
) -> dict:
    """Generate, judge, and write scores.json, sheet-*.png and the videos into `out`; a broken run goes on where it stopped.

    chosen: fields of Request other than the model's own. recogniser: folder of its weights. pack: None is the built one.
    Returns what scores.json holds. Raises WeightsError or InputError where recogniser or pack is missing.
    """
    judges, sprites = Recogniser.load(recogniser), SpritePack.open(pack)
    size = asdict(pipeline.config.defaults) | chosen
    shape = {name: size[name] for name in ("frames", "height", "width")}
    asked, same = cases(sprites, count, **shape), {name: value for name, value in chosen.items() if name not in shape}
    for folder in ("videos", "pictures", "vae", "real"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Sight]] = {"generated": [], "VAE of the real clip": [], "real clip": []}
    strips = []
    for case, real in each(asked, "pictures that move", lambda case: real_video(case, sprites)):
        picture = out / "pictures" / f"{case.number:04}.png"
        write_image(picture, real[0])
        made = moved_video(case, picture, pipeline, out / "videos", same)
        strips.append(strip(case.prompt, made))
        back = as_file(out / "vae" / f"{case.number:04}.mp4", reconstructed(pipeline.vae, real)[0])
        for videos, video in zip(columns.values(), (made, back, as_file(out / "real" / f"{case.number:04}.mp4", real)), strict=True):
            videos.append(judge(case, real[:1], video, judges))
    kinds = {name: summary(sights) for name, sights in columns.items()}
    facts = {"model": pipeline.config.name, "pictures": count, "shape": shape, "chosen": same}
    scores = write_scores(out / "scores.json", facts, kinds, columns["generated"])
    write_sheets(out, "sheet", strips)
    Console().print(table(kinds))
    return scores


def write_scores(path: Path, facts: dict[str, Any], kinds: dict[str, dict[str, Share | float]], sights: list[Sight]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, Share):
            return asdict(value)
        return None if isinstance(value, float) and not math.isfinite(value) else value

    scores = {kind: {name: plain(value) for name, value in column.items()} for kind, column in kinds.items()}
    answers = [{name: plain(value) for name, value in asdict(sight).items()} for sight in sights]
    whole = {"facts": facts, "scores": scores, "answers": answers}
    with whole_file(path) as draft:
        draft.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return whole
