"""The page on which people judge clips for the fine-tuning set; `review.html` is what they see.

It serves one dataset to whoever can reach the port: without a password, so by default only to this machine.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kinema.curation.cut import clip_path
from kinema.curation.labels import ADJUDICATED, CRITERIA, REVIEWERS, SCORES, Judgement, Labels, agreement, disputed, verdict
from kinema.curation.table import MEASUREMENTS, TIERS, Record, read_table, records_of
from kinema.curation.tiers import TIERS as TIER_NAMES
from kinema.errors import InputError, MissingExtraError

PAGE = Path(__file__).with_name("review.html")
SHOWN = ("motion", "brightness", "blur", "text_area", "watermark", "seconds", "width", "height")  # values told beside a clip


def clips_of(dataset: Path, tier: str) -> list[Record]:
    """Clips of a tier, in an order that mixes sources and is the same for everybody. Raises InputError for an unknown or empty tier."""
    if tier not in TIER_NAMES:
        raise InputError(f"tier {tier!r} is unknown: tiers are {', '.join(TIER_NAMES)}")
    level = TIER_NAMES.index(tier) + 1
    chosen = {row["key"] for row in records_of(read_table(dataset / TIERS)) if row["tier"] >= level}
    clips = [clip for clip in records_of(read_table(dataset / MEASUREMENTS)) if clip["key"] in chosen]
    if not clips:
        raise InputError(f"{dataset} has no clips in tier {tier}: choose an earlier one with --tier")
    return sorted(clips, key=lambda clip: hashlib.blake2b(clip["key"].encode()).digest())


class Desk:
    """Who is to see what next."""

    def __init__(self, dataset: Path, tier: str):
        self.dataset, self.labels = dataset, Labels(dataset)
        self.clips = {clip["key"]: clip for clip in clips_of(dataset, tier)}
        self.lock = threading.Lock()

    def next(self, reviewer: str, adjudicate: bool) -> dict[str, Any]:
        """The next clip for this person, and how far the work is. A clip that one other has judged comes first."""
        said = self.labels.by_clip()
        waiting = [key for key in self.clips if self.wants(said.get(key, ()), reviewer, adjudicate)]
        waiting.sort(key=lambda key: -len(said.get(key, ())))
        counts = self.counts(said)
        if not waiting:
            return {"clip": None, **counts}
        clip = self.clips[waiting[0]]
        earlier = [{"reviewer": each.reviewer, "scores": dict(each.scores)} for each in said.get(waiting[0], ())] if adjudicate else []
        facts = {name: clip[name] for name in SHOWN if clip.get(name) is not None}
        shown = {"key": clip["key"], "video": f"clip/{clip['file']}.mp4", "path": clip["path"], "facts": facts, "earlier": earlier}
        return {"clip": shown, "left": len(waiting), **counts}

    def wants(self, judgements: Sequence[Judgement], reviewer: str, adjudicate: bool) -> bool:
        if any(each.reviewer == reviewer for each in judgements):
            return False
        return disputed(judgements) if adjudicate else len(judgements) < REVIEWERS

    def counts(self, said: dict[str, list[Judgement]]) -> dict[str, Any]:
        mine = {key: judgements for key, judgements in said.items() if key in self.clips}
        words = [verdict(judgements) for judgements in mine.values()]
        return {
            "clips": len(self.clips),
            "kept": words.count(True),
            "rejected": words.count(False),
            "disputed": sum(disputed(judgements) for judgements in mine.values()),
            "agreement": agreement(mine),
        }

    def judge(self, key: str, reviewer: str, scores: dict[str, int], adjudicate: bool) -> bool:
        """Keep a judgement; returns whether it says keep. Raises InputError for an unknown clip or a bad score."""
        if key not in self.clips:
            raise InputError(f"clip {key!r} is not in this tier")
        with self.lock:
            if adjudicate and not disputed(self.labels.by_clip().get(key, ())):
                raise InputError(f"clip {key!r} is not disputed")
            judgement = Judgement(key, reviewer.strip(), scores, ADJUDICATED if adjudicate else "reviewer")
            self.labels.add(judgement)
        return judgement.keep


def app_of(dataset: Path, tier: str) -> Any:
    """The application, for any ASGI server. Raises MissingExtraError without FastAPI, InputError where the tier is empty."""
    try:
        from fastapi import Body, FastAPI, HTTPException
        from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
    except ImportError as error:
        raise MissingExtraError("fastapi", "curate") from error
    desk = Desk(dataset, tier)
    files = {clip["file"] for clip in desk.clips.values()}
    app = FastAPI(title="Kinema review", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return PAGE.read_text(encoding="utf-8")

    @app.get("/api/terms")
    def terms() -> dict[str, Any]:
        return {"criteria": CRITERIA, "scores": SCORES, "dataset": dataset.resolve().name, "tier": tier}

    @app.get("/api/next")
    def following(reviewer: str, adjudicate: bool = False) -> dict[str, Any]:
        return desk.next(reviewer.strip(), adjudicate)

    @app.post("/api/judge")
    def judge(
        key: str = Body(), reviewer: str = Body(), scores: dict[str, int] = Body(), adjudicate: bool = Body(False)
    ) -> dict[str, bool]:
        return {"keep": desk.judge(key, reviewer, scores, adjudicate)}

    @app.get("/clip/{name}.mp4")
    def clip(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, "no such clip in this tier")
        return FileResponse(clip_path(dataset / "clips", name), media_type="video/mp4")

    @app.exception_handler(InputError)
    def refused(_: Any, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    return app


def serve(dataset: Path, tier: str, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until interrupted."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("uvicorn", "curate") from error
    app = app_of(dataset, tier)
    say(f"review {dataset} at http://{host}:{port} (Ctrl-C ends it; every judgement is kept as it is made)")
    uvicorn.run(app, host=host, port=port, log_level="warning")
