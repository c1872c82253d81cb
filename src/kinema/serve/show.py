"""Jobs and models as HTML. Everything that came from a person is escaped."""

import json
import time
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any

from kinema.presets import MODELS
from kinema.serve.fitting import Fitting
from kinema.serve.jobs import Job
from kinema.serve.speeches import is_speech
from kinema.serve.words import duration, say

LARGEST = 6  # times a video's own width that it is shown at
SURE = 0.12  # progress from which the time left is told by the job's own pace


def empty(language: str) -> str:
    return f'<div class="k-empty"><p>{say(language, "empty")}</p><p>{say(language, "drop")}</p></div>'


def note(text: str) -> str:
    return f'<div class="k-time" role="status">{escape(text)}</div>'


def stage(job: Job, language: str, before: int, expected: float, preview: bytes | None) -> str:
    """How a job stands. expected: seconds it should take; preview: an animated WebP."""
    if job.status == "done":
        return result(job, language)
    if job.status == "cancelled":
        return f'<div class="k-empty"><p>{say(language, "cancelled")}</p></div>'
    if job.status == "failed":
        return f'<div class="k-empty" role="alert"><p>{escape(say(language, "failed", reason=job.error))}</p></div>'
    return progress(job, language, before, expected) + picture(job, preview)


def progress(job: Job, language: str, before: int, expected: float) -> str:
    if job.status == "queued":
        text = say(language, "waiting", count=before)
        text += f" · {escape(say(language, 'again', reason=job.error))}" if job.error else ""
        return f'<div class="k-bar" role="status"><span>{text}</span></div><progress></progress>'
    text = say(language, "stopping" if job.cancel else stage_key(job))
    left = say(language, "left", time=duration(language, time_left(job, expected)))
    percent = round(100 * job.progress)
    bar = f'<progress max="100" value="{percent}" aria-label="{text}">{percent} %</progress>'
    return f'<div class="k-bar" role="status"><span>{text} · {percent} %</span><span>{left}</span></div>{bar}'


def stage_key(job: Job) -> str:
    return job.stage if job.stage in ("denoise", "decode", "done") else "load"


def time_left(job: Job, expected: float) -> float:
    """Seconds."""
    elapsed = time.time() - (job.started or time.time())
    if job.progress > SURE:
        return elapsed * (1 - job.progress) / job.progress
    return max(expected - elapsed, 1.0)


def picture(job: Job, preview: bytes | None) -> str:
    """The preview at the video's shape."""
    shape = shape_of(job.request)
    if preview is None:
        return f'<div class="k-screen k-blank" style="{shape}"></div>'
    return f'<img class="k-screen" style="{shape}" alt="" src="data:image/webp;base64,{b64encode(preview).decode()}">'


def shape_of(request: dict[str, Any]) -> str:
    """A screen's style: of the video's shape, and no larger than its pixels bear."""
    width, height = request["width"], request["height"]
    return f"aspect-ratio:{width}/{height};--shape:{width / height:.4f};--most:{LARGEST * width}px"


def result(job: Job, language: str) -> str:
    """The video or picture with its settings."""
    request, url = job.request, f"/v1/videos/{job.id}/content"
    shape = shape_of(request)
    if str(job.file).endswith(".png"):
        shown = f'<img class="k-screen" style="{shape}" src="{url}" alt="{escape(request["prompt"])}">'
    else:
        label, how = escape(request["prompt"]), "" if is_speech(request) else "loop muted"  # a voice is to be heard, once
        shown = f'<video class="k-screen" style="{shape}" src="{url}" controls autoplay {how} playsinline aria-label="{label}"></video>'
    took = say(language, "took", time=duration(language, (job.finished or 0) - (job.started or 0)))
    shape_text = f"{request['width']}x{request['height']}x{request['frames']}"
    facts = " · ".join((request["model"], shape_text, f"{say(language, 'steps')} {request['steps']}", took))
    text = escape(json.dumps(request, indent=1, ensure_ascii=False).encode("utf-8", "replace").decode())
    link = f'<a href="{url}" download="{job.id}{Path(str(job.file)).suffix}">{say(language, "download")}</a>'
    settings = f"<details><summary>{say(language, 'settings')}</summary><pre>{text}</pre></details>"
    return (
        f'{shown}<p class="k-prompt">{escape(request["prompt"])}</p><div class="k-bar"><span>{escape(facts)}</span>{link}</div>{settings}'
    )


def gallery(jobs: list[Job], language: str) -> str:
    """Finished videos, newest first."""
    return (
        f'<div class="k-grid">{"".join(map(card, jobs))}</div>'
        if jobs
        else f'<div class="k-empty"><p>{say(language, "no_videos")}</p></div>'
    )


def card(job: Job) -> str:
    url, prompt = f"/v1/videos/{job.id}/content", escape(job.request["prompt"])
    still = str(job.file).endswith(".png")
    shown = (
        f'<img loading="lazy" alt="" src="{url}">'
        if still
        else f'<video preload="metadata" muted loop playsinline src="{url}#t=0.5"></video>'
    )
    return f'<button type="button" class="k-card" data-id="{job.id}" title="{prompt}">{shown}<span>{prompt}</span></button>'


def models(served: dict[str, Fitting], language: str) -> str:
    """Every preset: what it is, what it needs, whether it is here."""
    heads = ("model", "parameters", "makes", "memory")
    head = "".join(f"<th scope='col'>{say(language, key)}</th>" for key in heads)
    rows = [row(make, served, language) for name, make in MODELS.items() if name != "tiny"]
    return f'<div class="k-wide"><table><thead><tr>{head}<th></th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def row(make: Any, served: dict[str, Fitting], language: str) -> str:
    fitting = served.get(make.__name__) or Fitting(make(), 0)
    made, count = fitting.config.defaults, fitting.parameters
    size = f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"
    needs = fitting.needs(made.frames, made.height, made.width) / 1e9
    here = "here" if make.__name__ in served else "absent"
    makes = f"{made.width}x{made.height}x{made.frames} · {say(language, 'steps')} {made.steps}"
    cells = (f"<b>{fitting.config.name}</b><br><small>{escape(make.__doc__)}</small>", size, makes, f"{needs:.1f} GB")
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}<td class='k-{here}'>{say(language, here)}</td></tr>"
