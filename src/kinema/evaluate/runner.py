"""`kinema evaluate run`: models or folders of videos, a set of prompts, all metrics, one report.

A run goes on where it stopped: videos that are there are not made again, and what was measured of equal content is kept.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kinema.errors import InputError
from kinema.evaluate.measure import Job, Measured, Store, fingerprint, measure_all
from kinema.evaluate.metrics.table import Metric
from kinema.evaluate.promptsets import Ask
from kinema.evaluate.report.page import write_report
from kinema.evaluate.summary import Cell, Row, grid, summarise, write_rows
from kinema.evaluate.videos import match_videos
from kinema.media.files import whole_file
from kinema.pipelines.video import VideoPipeline
from kinema.version import __version__

OnStep = Callable[[str, int, int], None]
NO_VIDEO = "there is no video for this prompt"


@dataclass(frozen=True)
class Source:
    """Where a model's videos come from: a folder of them, or, with a request's fields, the model itself."""

    name: str
    folder: Path | None = None
    make: Callable[[list[Ask], Path, OnStep], dict[int, Path]] | None = None

    def videos(self, asks: list[Ask], count: int, out: Path, on_step: OnStep) -> dict[int, Path]:
        """Number of a prompt -> its video, for the first `count`; a folder may hold videos of the others too."""
        if self.folder is not None:
            return first(match_videos(self.folder, [ask.prompt for ask in asks]), count)
        assert self.make is not None
        return self.make(asks[:count], out / "videos" / self.name, on_step)


def first(videos: dict[int, Path], count: int) -> dict[int, Path]:
    return {number: path for number, path in videos.items() if number < count}


@dataclass(frozen=True)
class Evaluation:
    """What a run found; report.html and results.json are two ways to read it."""

    title: str
    models: list[str]
    rows: list[Row]
    metrics: dict[str, Metric]  # those that were measured
    missing: dict[str, str]  # metric -> why it was not
    cells: dict[str, list[Cell]]  # metric -> a Cell a model
    notes: dict[str, str]  # distribution -> how many samples it is of
    facts: dict[str, Any]


def run_evaluation(
    sources: Sequence[Source],
    asks: list[Ask],
    metrics: dict[str, Metric],
    out: Path,
    reference: Path | None = None,
    count: int | None = None,
    workers: int = 2,
    cases: int = 24,
    title: str = "Evaluation",
    on_step: OnStep = lambda stage, done, total: None,
) -> Evaluation:
    """Generate what is missing, measure, and write report.html, results.json, results.csv and summary.csv into `out`.

    reference: folder with the videos that these should equal (or be distributed like), one a prompt. count: only the first prompts.
    workers: processes.    cases: prompts shown in the report, the worst first.
    Raises InputError for two models of one name, no metric that can be measured here, or folders whose videos fit no prompt.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise InputError(f"models={names}: every model needs a name of its own: NAME=DIR")
    usable, missing = available(metrics, reference is not None)
    out.mkdir(parents=True, exist_ok=True)
    used = asks[:count]
    videos = {source.name: source.videos(asks, len(used), out, on_step) for source in sources}
    real = first(match_videos(reference, [ask.prompt for ask in asks]), len(used)) if reference else {}
    found = measured(used, videos, real, usable, Store(out / "measured"), workers, on_step)
    rows = [row_of(name, number, ask, videos[name].get(number), found) for name in names for number, ask in enumerate(used)]
    cells, notes = tabulate(rows, names, usable, [known for path in real.values() if (known := found.get((path, "reference")))])
    facts = {"kinema": __version__, "prompts": len(used), "measured by": fingerprint()[:12], "reference": str(reference or "")}
    evaluation = Evaluation(title, names, rows, usable, missing, cells, notes, facts)
    write_results(out, evaluation)
    write_report(out / "report.html", evaluation, cases)
    return evaluation


def available(metrics: dict[str, Metric], paired: bool) -> tuple[dict[str, Metric], dict[str, str]]:
    """What can be measured here, and why the rest cannot. Raises InputError where nothing can."""
    missing = {name: reason for name, metric in metrics.items() if (reason := metric.missing())}
    if not paired:
        alone = [name for name, metric in metrics.items() if metric.family in ("reconstruction", "distribution") and name not in missing]
        missing |= dict.fromkeys(alone, "needs videos to compare with: --reference DIR")
    usable = {name: metric for name, metric in metrics.items() if name not in missing}
    if not usable:
        raise InputError(f"metrics={', '.join(metrics)}: none can be measured here: {next(iter(missing.values()))}")
    return usable, missing


Found = dict[tuple[Path, str], Measured]


def measured(
    asks: list[Ask],
    videos: dict[str, dict[int, Path]],
    real: dict[int, Path],
    metrics: dict[str, Metric],
    store: Store,
    workers: int,
    on_step: OnStep,
) -> Found:
    """(video, prompt) -> what was measured; reference videos stand under the prompt "reference"."""
    each = tuple(name for name, metric in metrics.items() if metric.family != "distribution" and metric.family != "reconstruction")
    paired = tuple(name for name, metric in metrics.items() if metric.family == "reconstruction")
    features = tuple(dict.fromkeys(metric.features for metric in metrics.values() if metric.features))
    jobs = [
        Job(path, asks[n].prompt, each + (paired if n in real else ()), features, real.get(n) if paired else None, asks[n].way)
        for found in videos.values()
        for n, path in found.items()
    ]
    jobs += [Job(path, "reference", (), features) for path in real.values()] if features else []
    out: Found = {}
    on_step("measure", 0, len(jobs))
    for job, known in measure_all(jobs, store, workers):
        out[job.video, job.prompt] = known
        on_step("measure", len(out), len(jobs))
    return out


def row_of(model: str, number: int, ask: Ask, video: Path | None, found: Found) -> Row:
    if video is None:
        return Row(model, number, ask.prompt, ask.dimension, "", {}, error=NO_VIDEO)
    known = found[video, ask.prompt]
    return Row(model, number, ask.prompt, ask.dimension, str(video), known.values, known.reasons, known.error, known.features)


def tabulate(
    rows: list[Row], models: list[str], metrics: dict[str, Metric], real: list[Measured]
) -> tuple[dict[str, list[Cell]], dict[str, str]]:
    """A Cell a metric and model, and what must be said beside distances between sets."""
    cells: dict[str, list[Cell]] = {}
    notes: dict[str, str] = {}
    for name, metric in metrics.items():
        if metric.family != "distribution":
            cells[name] = summarise(grid(rows, models, name), metric.higher_is_better)
            continue
        try:
            cells[name] = [distance(rows, model, metric, real) for model in models]
            notes[name] = f"of {cells[name][0].count} videos against {len(real)}; one number a set, without an interval"
        except InputError as error:
            notes[name] = str(error)
    return cells, notes


def distance(rows: list[Row], model: str, metric: Metric, real: list[Measured]) -> Cell:
    """Raises InputError for too few videos."""
    ours = vectors([row.features for row in rows if row.model == model], metric.features)
    theirs = vectors([known.features for known in real], metric.features)
    return Cell(metric.measure(ours, theirs), float("nan"), float("nan"), len(ours))


def vectors(features: list[dict[str, list[float]]], name: str) -> Float[np.ndarray, "n d"]:
    found = [some[name] for some in features if name in some]
    return np.array(found) if found else np.zeros((0, 1))


def write_results(out: Path, evaluation: Evaluation) -> None:
    """results.json (all that is known but the features), results.csv (a line a video), summary.csv (a line a metric and model)."""
    rows = [asdict(replace(row, features={})) for row in evaluation.rows]
    for row in rows:
        del row["features"]
    known = {
        "title": evaluation.title,
        "models": evaluation.models,
        "facts": evaluation.facts,
        "metrics": {
            name: {
                "family": metric.family, "higher_is_better": metric.higher_is_better, "backbone": metric.backbone, "source": metric.source,
                "definition": metric.definition, "note": evaluation.notes.get(name, ""),
                "models": {model: plain(cell) for model, cell in zip(evaluation.models, evaluation.cells.get(name, []), strict=False)},
            }
            for name, metric in evaluation.metrics.items()
        },
        "missing": evaluation.missing,
        "videos": rows,
    }  # fmt: skip
    with whole_file(out / "results.json") as draft:
        draft.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_rows(
        out / "results.csv", evaluation.rows, [name for name, metric in evaluation.metrics.items() if metric.family != "distribution"]
    )
    lines = ["metric,model,mean,low,high,count,higher_is_better"]
    for name, cells in evaluation.cells.items():
        better = evaluation.metrics[name].higher_is_better
        lines += [
            f"{name},{m},{c.mean:.6g},{c.low:.6g},{c.high:.6g},{c.count},{better}" for m, c in zip(evaluation.models, cells, strict=True)
        ]
    with whole_file(out / "summary.csv") as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plain(cell: Cell) -> dict[str, Any]:
    """For JSON, which knows no NaN."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in asdict(cell).items()}


def generator(load: Callable[[], VideoPipeline], chosen: dict[str, Any]) -> Callable[[list[Ask], Path, OnStep], dict[int, Path]]:
    """A Source's `make`: the users' own pipeline, one video a prompt, those that are there skipped. chosen: fields of Request."""

    def make(asks: list[Ask], folder: Path, on_step: OnStep) -> dict[int, Path]:
        pipeline = load()
        seed = chosen.get("seed") or 0
        rest = {name: value for name, value in chosen.items() if name != "seed"}
        requests = [pipeline.config.request(ask.prompt, seed=seed if ask.seed is None else ask.seed, **rest) for ask in asks]
        found: dict[int, Path] = {}
        for number, request in enumerate(requests):
            stem = pipeline.batch_stem(number, request)
            path = folder / f"{stem}.mp4"
            if not (folder / f"{stem}.json").is_file():  # the recipe is written last
                path = pipeline.generate_to(folder, request, stem)
            found[number] = path
            on_step("generate", number + 1, len(requests))
        return found

    return make
