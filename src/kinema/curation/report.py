"""One page that shows what a run kept, what it threw away and why: a single file that opens anywhere, without a network."""

import base64
import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinema.config import to_toml
from kinema.curation.cut import clip_path
from kinema.curation.drawing import PAGE, bars, histogram, matrix, sheet_style, table
from kinema.curation.ledger import Ledger
from kinema.curation.recipe import Recipe
from kinema.curation.table import Record
from kinema.curation.tiers import TIERS, Decision, Ladder, numbers, passes
from kinema.media.files import whole_file
from kinema.version import __version__

REPORT, THUMBS = "report.html", "thumbs"
THUMB_WIDTH = 160  # pixels
NEAREST = 6  # clips shown on either side of a threshold
HOUR, DAY = 3600.0, 86400.0
SHOWN_CLUSTERS = 60
LEGEND = f"<p>Lines: thresholds of {', '.join(f'{number} {name}' for number, name in enumerate(TIERS, 1))}. Red: fails; green: passes.</p>"


def write_report(
    out: Path,
    recipe: Recipe,
    decision: Decision,
    sources: Sequence[Record],
    clips: Sequence[Record],
    tiers: Sequence[Record],
    summary: Mapping[str, Any],
) -> Path:
    """Writes `report.html` beside the tables; returns its path. `thumbs/` keeps a small picture a clip, made once."""
    inside = [clip for clip in clips if clip["state"] == "in"]
    shown: dict[str, str] = {}  # file -> style class, of every clip in a sheet
    parts = {
        "The funnel": funnel_part(sources, clips, tiers, decision, inside),
        "Values and thresholds": LEGEND + "".join(metric_parts(out, inside, decision, shown)),
        "What is rejected together (256p)": co_rejection(inside, decision),
        "Errors and refusals by reason": reasons_part(sources, clips),
        "Concepts before and after": clusters_part(clips, tiers),
        "Time": time_part(out, summary),
        "Where this comes from": provenance_part(out, recipe, summary),
    }
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in parts.items() if content)
    with whole_file(out / REPORT) as draft:
        page = PAGE.format(title=f"Curation of {html.escape(out.resolve().name)}", styles=sheet_style(thumbnails(out, shown)), body=body)
        draft.write_text(page, encoding="utf-8", errors="backslashreplace")
    return out / REPORT


def hours(seconds: int | float) -> str:
    return f"{seconds / HOUR:.2f} h" if seconds >= HOUR else f"{seconds / 60:.1f} min"


def funnel_part(
    sources: Sequence[Record], clips: Sequence[Record], tiers: Sequence[Record], decision: Decision, inside: Sequence[Record]
) -> str:
    """A bar a stage, as long as its hours; for each tier also how many fail by one value alone, and by any."""
    readable = [source for source in sources if source["state"] == "in"]
    rows = [
        ("files", len(sources), sum(source["seconds"] or 0 for source in sources), ""),
        ("files with clips", len(readable), sum(source["seconds"] or 0 for source in readable), ""),
        ("single-shot clips", len(clips), sum(clip["seconds"] for clip in clips), ""),
        ("not refused by an operator", len(inside), sum(clip["seconds"] for clip in inside), ""),
    ]
    missed = [misses for clip, misses in zip(clips, decision.misses, strict=True) if clip["state"] == "in"]
    reached = [level for clip, level in zip(clips, decision.reached, strict=True) if clip["state"] == "in"]
    for level, name in enumerate(TIERS):
        members = [tier for tier in tiers if tier["tier"] > level]
        stopped = [misses for misses, at in zip(missed, reached, strict=True) if at == level]
        alone = sum(len(misses) == 1 for misses in stopped)
        note = f"{len(stopped)} stop before: {alone} for one reason, {len(stopped) - alone} for several" if stopped else ""
        rows.append((f"tier {name}", len(members), sum(member["seconds"] for member in members), note))
    return bars([(name, seconds, f"{count:,} · {hours(seconds)}", note) for name, count, seconds, note in rows])


def metric_parts(out: Path, inside: Sequence[Record], decision: Decision, shown: dict[str, str]) -> Iterator[str]:
    """For each value with thresholds: its histogram, and the clips nearest the first and the last threshold on both sides."""
    columns = {name: [clip.get(name) for clip in inside] for name in {"key", *decision.ladders}}
    for name, ladder in decision.ladders.items():
        values = numbers(columns, name)
        lines = [(tier, bound) for side in (ladder.at_least, ladder.at_most) if side for tier, bound in zip(TIERS, side, strict=True)]
        missing = int(np.isnan(values).sum())
        fails = int((~passes(values, ladder, 0)).sum())
        note = f"{fails} of {len(values)} fail at 256p" + (f", {missing} of them NULL" if missing else "")
        sheets = "".join(sheets_of(inside, values, ladder, shown))
        yield f"<details open class=metric><summary><b>{name}</b> <i>{note}</i></summary>{histogram(values, lines)}{sheets}</details>"


def sheets_of(inside: Sequence[Record], values: np.ndarray, ladder: Ladder, shown: dict[str, str]) -> Iterator[str]:
    for word, side in (("at least", ladder.at_least), ("at most", ladder.at_most)):
        for bound in sorted({side[0], side[-1]}) if side else ():
            passing = values >= bound if word == "at least" else values <= bound
            good, bad = (nearest(values, bound, group) for group in (passing, ~passing & ~np.isnan(values)))
            yield f"<div class=sheet><span>{word} {bound:g}</span>{strip('out', bad, inside, values, shown)}"
            yield f"{strip('in', good, inside, values, shown)}</div>"


def nearest(values: np.ndarray, bound: float, group: np.ndarray) -> list[int]:
    """Indices of the clips of a group whose values are nearest to the bound, nearest first."""
    indices = np.flatnonzero(group)
    return indices[np.argsort(np.abs(values[indices] - bound), kind="stable")][:NEAREST].tolist()


def strip(kind: str, indices: Sequence[int], inside: Sequence[Record], values: np.ndarray, shown: dict[str, str]) -> str:
    pictures = []
    for index in indices:
        clip = inside[index]
        style = shown.setdefault(clip["file"], f"p{len(shown)}")
        title = html.escape(f"{clip['path']} {clip['start_s']:.2f}-{clip['end_s']:.2f} s")
        pictures.append(f'<figure title="{title}"><div class="{style}"></div><figcaption>{values[index]:.4g}</figcaption></figure>')
    return f"<div class={kind}>{''.join(pictures) or '<em>none</em>'}</div>"


def thumbnails(out: Path, shown: Mapping[str, str]) -> dict[str, str]:
    """Style class -> JPEG as base64; pictures that were made before are read."""
    (out / THUMBS).mkdir(exist_ok=True)
    return {style: base64.b64encode(thumbnail(out, file)).decode() for file, style in shown.items()}


def thumbnail(out: Path, file: str) -> bytes:
    """The clip's first frame, small; empty where it cannot be read any more."""
    import av
    import cv2

    path = out / THUMBS / f"{file}.jpg"
    if not path.exists():
        try:
            with av.open(str(clip_path(out / "clips", file))) as container:
                frame = next(container.decode(video=0))
                height = max(2, round(THUMB_WIDTH * frame.height / frame.width))
                pixels = frame.reformat(width=THUMB_WIDTH, height=height, format="bgr24", interpolation="AREA").to_ndarray()
        except (av.FFmpegError, OSError, StopIteration):
            return b""
        with whole_file(path) as draft:
            draft.write_bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes())
    return path.read_bytes()


def co_rejection(inside: Sequence[Record], decision: Decision) -> str:
    """How many clips fail both of two values at the first tier; the diagonal is each alone or with others."""
    columns = {name: [clip.get(name) for clip in inside] for name in {"key", *decision.ladders}}
    fails = {name: ~passes(numbers(columns, name), ladder, 0) for name, ladder in decision.ladders.items()}
    names = [name for name, failed in fails.items() if failed.any()]
    return matrix(names, [[int((fails[a] & fails[b]).sum()) for b in names] for a in names]) if names else "<p>nothing is rejected</p>"


def reasons_part(sources: Sequence[Record], clips: Sequence[Record]) -> str:
    """What operators refused or failed at: stage, reason, how many, an example's own words."""
    counts: Counter[tuple[str, str, str]] = Counter()
    example: dict[tuple[str, str, str], str] = {}
    for over, records in (("file", sources), ("clip", clips)):
        for record in records:
            said = [(record["stage"], record["reason"], record["detail"])] if record["state"] in ("rejected", "failed") else []
            said += [(op, *why) for op, why in json.loads(record.get("failures") or "{}").items() if op != record["stage"]]
            for stage, why, detail in said:
                counts[over, stage, why] += 1
                example.setdefault((over, stage, why), f"{record['path']}: {detail}")
    rows = [(*key, count, example[key]) for key, count in counts.most_common()]
    return table(("of", "stage", "reason", "count", "for example"), rows) if rows else "<p>none</p>"


def clusters_part(clips: Sequence[Record], tiers: Sequence[Record]) -> str:
    before = Counter(clip["cluster"] for clip in clips if clip.get("cluster") is not None)
    after: Counter[Any] = Counter()
    weighed: dict[Any, float] = defaultdict(float)
    for clip, tier in zip(clips, tiers, strict=True):
        if clip.get("cluster") is not None and tier["tier"]:
            after[clip["cluster"]] += 1
            weighed[clip["cluster"]] += clip.get("weight") or 0.0
    if not before:
        return ""
    rows = [(name, count, f"{count} → {after[name]} → {weighed[name]:.1f}", "") for name, count in before.most_common(SHOWN_CLUSTERS)]
    ginis = " → ".join(f"{gini([sizes[name] for name in before]):.2f}" for sizes in (before, after, weighed))
    note = f"<p>{len(before)} concepts; clips → in the first tier → after weighting. Gini coefficient of sizes: {ginis}</p>"
    return note + bars([(f"concept {name}", *rest) for name, *rest in rows])  # type: ignore[misc]


def gini(sizes: Sequence[int | float]) -> float:
    """0 where all are equal, towards 1 where one has everything."""
    ordered = np.sort(np.array(sizes, float))
    if not ordered.sum():
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


def time_part(out: Path, summary: Mapping[str, Any]) -> str:
    """Seconds an operator takes, and what that means in hours of video a day and core."""
    with Ledger(out, write=False) as ledger:
        spent: dict[str, list[float]] = defaultdict(list)
        for op, seconds in ledger.sql.execute("SELECT op, seconds FROM task WHERE seconds IS NOT NULL"):
            spent[op].append(seconds)
    rows = [
        (op, len(each), *(f"{1000 * value:.1f}" for value in (np.mean(each), *np.percentile(each, (50, 95)))), f"{sum(each):.1f}")
        for op, each in sorted(spent.items(), key=lambda item: -sum(item[1]))
    ]
    whole = sum(map(sum, spent.values()))
    pace = summary["seconds"]["sources"] / whole * DAY / HOUR if whole else 0.0
    note = f"<p>{whole:.0f} core-seconds for {hours(summary['seconds']['sources'])} of video: {pace:.0f} hours of video a day and core</p>"
    return note + table(("operator", "items", "mean ms", "median ms", "95 % ms", "total s"), rows)


def provenance_part(out: Path, recipe: Recipe, summary: Mapping[str, Any]) -> str:
    with Ledger(out, write=False) as ledger:
        runs = ledger.runs()
    names = ("engine", "workers", "host", "version", "done", "skipped")
    rows = [(index, *(run.get(name, "") for name in names), f"{run['peak_mb']:.0f}") for index, run in enumerate(runs, 1)]
    heads = ("run", "engine", "workers", "host", "version", "items ended", "results found in the ledger", "largest worker, MB")
    history = table(heads, rows)
    text = html.escape(to_toml(recipe))
    return f"<p>Kinema {__version__}, content {summary['hash']}</p>{history}<details><summary>recipe</summary><pre>{text}</pre></details>"
