"""What came of a run: tiers, reasons, and sums that add up. All of it is computed from the two tables, in seconds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.config import to_toml
from kinema.curation.labels import verdicts
from kinema.curation.recipe import Recipe
from kinema.curation.table import MEASUREMENTS, REJECTIONS, SOURCES, TIERS, Record, content_hash, read_table, records_of, write_table
from kinema.curation.tiers import TIERS as TIER_NAMES
from kinema.curation.tiers import Decision, decide
from kinema.media.files import whole_file

SCHEMA = 1  # raise it when a key of summary.json changes its meaning
SUMMARY = "summary.json"
STATES = ("kept", "rejected", "failed", "pending")


def settle(out: Path, recipe: Recipe) -> dict[str, Any]:
    """Decide the tiers of a measured dataset and write all that depends on them; returns the summary."""
    sources, columns = records_of(read_table(out / SOURCES)), read_table(out / MEASUREMENTS)
    clips = records_of(columns)
    decision = decide(columns or {"state": []}, recipe.ladders(), recipe.tiers)
    said = verdicts(out)
    tiers = [tier_record(*each, said) for each in zip(clips, decision.reached, decision.misses, strict=True)]
    summary = summarise(sources, clips, tiers, content_hash(sources, clips, tiers))
    write_table(out / TIERS, tiers)
    write_table(out / REJECTIONS, [*source_reasons(sources), *clip_reasons(clips, decision, said)])
    for name, text in (("curation.toml", to_toml(recipe)), (SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")):
        with whole_file(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
    from kinema.curation.report import write_report

    write_report(out, recipe, decision, sources, clips, tiers, summary)
    return summary


def tier_record(clip: Record, reached: int, misses: Sequence[Any], said: Mapping[str, bool]) -> Record:
    """What became of a clip. Failed: it was not judged, since an operator had no answer for a value that the first tier asks for."""
    state = "kept" if reached else clip["state"]
    if state == "in":
        unmeasured = any(miss.reason == "not_measured" for miss in misses)
        state = "failed" if unmeasured and clip["failures"] != "{}" else "rejected"
    name = TIER_NAMES[reached - 1] if reached else None
    word = {True: "accepted", False: "refused", None: None}[said.get(clip["key"])]
    return {
        "key": clip["key"],
        "file": clip["file"],
        "tier": reached,
        "name": name,
        "state": state,
        "seconds": clip["seconds"],
        "review": word,
    }


def source_reasons(sources: Sequence[Record]) -> list[Record]:
    return [
        reason("source", source["key"] or source["path"], source["stage"], source["reason"], source["detail"])
        for source in sources
        if source["state"] in ("rejected", "failed")
    ]


def reason(over: str, key: str, stage: str, why: str, detail: str, metric: str = "", value: Any = None, threshold: Any = None) -> Record:
    number = None if value is None else float(value)
    return {"over": over, "key": key, "stage": stage, "reason": why, "metric": metric, "value": number,
            "threshold": None if threshold is None else float(threshold), "detail": detail}  # fmt: skip


def clip_reasons(clips: Sequence[Record], decision: Decision, said: Mapping[str, bool]) -> list[Record]:
    """Every reason of every clip: what an operator said, what failed, and what it misses for the tier above the one it reached."""
    found = []
    for clip, reached, misses in zip(clips, decision.reached, decision.misses, strict=True):
        if clip["state"] in ("rejected", "failed"):
            found.append(reason("clip", clip["key"], clip["stage"], clip["reason"], clip["detail"]))
        if said.get(clip["key"]) is False:
            found.append(reason("clip", clip["key"], "review", "review", ""))
        for op, (why, detail) in json.loads(clip["failures"]).items():
            if op != clip["stage"]:
                found.append(reason("clip", clip["key"], op, why, detail))
        for miss in misses:
            stage = f"tier {TIER_NAMES[reached]}"
            found.append(reason("clip", clip["key"], stage, miss.reason, "", miss.metric, miss.value, miss.threshold))
    return found


def summarise(sources: Sequence[Record], clips: Sequence[Record], tiers: Sequence[Record], digest: str) -> dict[str, Any]:
    """Counts that add up: in = kept + rejected + failed + pending, for sources and for clips; pending is 0 once a run has ended."""
    as_state = {"in": "kept"}
    of_sources = Counter(as_state.get(source["state"], source["state"]) for source in sources)
    of_clips = Counter(tier["state"] for tier in tiers)
    reached = [sum(tier["tier"] > level for tier in tiers) for level in range(len(TIER_NAMES))]
    seconds = [float(sum(tier["seconds"] for tier in tiers if tier["tier"] > level)) for level in range(len(TIER_NAMES))]
    return {
        "schema": SCHEMA,
        "hash": digest,
        "sources": {"in": len(sources)} | {state: of_sources[state] for state in STATES},
        "clips": {"in": len(clips)} | {state: of_clips[state] for state in STATES},
        "seconds": {"sources": total(sources), "clips": total(clips)},
        "tiers": {
            name: {"clips": count, "seconds": round(length, 3)} for name, count, length in zip(TIER_NAMES, reached, seconds, strict=True)
        },
        "review": {word: sum(tier["review"] == word for tier in tiers) for word in ("accepted", "refused")},
        "reasons": {"sources": tally(sources), "clips": tally(clips)},
    }


def total(records: Sequence[Record]) -> float:
    return round(float(sum(record["seconds"] or 0.0 for record in records)), 3)


def tally(records: Sequence[Record]) -> Mapping[str, int]:
    """Stage and reason of those that operators threw away or could not read."""
    return dict(sorted(Counter(f"{r['stage']}: {r['reason']}" for r in records if r["state"] in ("rejected", "failed")).items()))
