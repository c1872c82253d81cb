"""How well an avatar speaks: held-out characters and sentences, measured frame by frame against the truth of the world.

For every case the avatar makes a video of a held-out face saying a held-out sentence in a wanted expression. The tracker reads the
mouth; beside it stand the same numbers for the real clip and for what the autoencoder gives back of it, which nothing can beat.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from kinema.conditioning.expression import NAMES
from kinema.evaluate.tracker import FaceTracker, correlation
from kinema.media.audio import RATE, mux, resample
from kinema.media.files import whole_file
from kinema.media.frames import from_uint8, to_uint8
from kinema.media.image import write_image
from kinema.media.imagenet import EfficientNetLite0
from kinema.media.video import write_video
from kinema.pipelines.avatar import Acting, Portrait, TalkingFace, portrait
from kinema.world.speech import SpeechClip, render_speech, sample_speech
from kinema.world.voice import RATE as VOICE_RATE

FIRST_SEED = 500_000
LAGS = range(-3, 4)  # frames
SHUT = 0.12  # opening up to which a mouth counts as closed
LAST = 6  # frames from which the expression is read
SEEN = 224  # pixels, of the identity network

Frames = UInt8[Tensor, "T H W 3"]


@dataclass(frozen=True)
class Case:
    """A held-out clip, its sound for Whisper, and its first frame as the picture."""

    clip: SpeechClip
    sound: Float[Tensor, " n"]
    face: Portrait

    @property
    def opening(self) -> Float[Tensor, " T"]:
        return torch.tensor(self.clip.truth["opening"])

    @property
    def expression(self) -> str:
        return self.clip.truth["spec"]["expression"]


def make_case(number: int, side: int) -> Case:
    """Every fifth shows each expression, from a neutral first frame; sentences begin at once."""
    spec = sample_speech(FIRST_SEED + number, "heldout", 33, side, side)
    spec = replace(spec, expression=NAMES[number % len(NAMES)], first_expression="neutral", start=min(spec.start, 0.3))
    clip = render_speech(spec)
    face = portrait(torch.from_numpy(clip.frames[0]), side)
    uncut = Portrait(torch.from_numpy(clip.frames[0]), face.face, face.found)
    return Case(clip, resample(clip.sound, VOICE_RATE, RATE), uncut)


def best_lag(seen: Float[Tensor, " T"], truth: Float[Tensor, " T"]) -> int:
    """Frames by which the picture follows the truth (above 0: it is late), where both agree best."""
    count = len(truth)

    def agreed(lag: int) -> float:
        early, late = max(-lag, 0), max(lag, 0)
        return correlation(seen[late : count - early], truth[early : count - late])

    return max(LAGS, key=agreed)


@torch.inference_mode()
def embedded(frames: Frames, network: EfficientNetLite0) -> Float[Tensor, " 1280"]:
    """Who it is: the mean over frames of what an ImageNet network sees."""
    pixels = rearrange(frames.float() / 255, "T H W C -> T C H W")
    return network.embed(F.interpolate(pixels, (SEEN, SEEN), mode="bilinear", antialias=True)).mean(0)


def mouths(tracker: FaceTracker, frames: Frames, truth: Float[Tensor, " T"], other: Float[Tensor, " T"]) -> dict[str, float]:
    """How a mouth follows its own sentence and, for comparison, another's."""
    seen = tracker.read(frames).opening
    return {"correlation": correlation(seen, truth), "shuffled": correlation(seen, other), "lag": float(best_lag(seen, truth))}


def shows(tracker: FaceTracker, frames: Frames, expression: str) -> float:
    return float(NAMES[int(tracker.read(frames).expression[-LAST:].mean(0).argmax())] == expression)


def given_back(talking: TalkingFace, frames: Frames) -> Frames:
    """What the autoencoder keeps of a real clip."""
    vae = talking.video.vae
    with talking.video.at_work(vae):
        pixels = from_uint8(frames)[None].to(next(vae.parameters()))
        return to_uint8(vae.to_pixels(vae.to_latents(pixels))[0].float())


def judge(talking: TalkingFace, tracker: FaceTracker, case: Case, other: Case, out: Path, number: int, acting: Acting) -> dict[str, Any]:
    """One row: the avatar's video, the real clip, and what the autoencoder gives back of it."""
    acting = replace(acting, seed=number, expression=case.expression)
    made = torch.cat(list(talking.speak(case.face, case.sound, acting)))
    path = out / "videos" / f"{number:03}-{case.expression}.mp4"
    write_video(path, made, talking.file.avatar.config.fps)
    mux(path, case.sound, RATE)
    real = torch.from_numpy(case.clip.frames)
    row: dict[str, Any] = {"number": number, "text": case.clip.truth["spec"]["text"], "expression": case.expression}
    for kind, frames in (("avatar", made), ("real", real), ("given_back", given_back(talking, real))):
        row |= {f"{kind}_{name}": value for name, value in mouths(tracker, frames, case.opening, other.opening).items()}
        row[f"{kind}_shows"] = shows(tracker, frames, case.expression)
    silent = torch.cat(list(talking.speak(case.face, torch.zeros_like(case.sound), acting)))
    row["silent_opening"] = float(tracker.read(silent).opening[4:].mean())
    return row | {"frames": made, "strip": torch.cat([real[4::4], made[4::4]], 1)}


def identities(cases: list[Case], videos: list[Frames]) -> list[float]:
    """Whether each video is nearest to its own character's picture among all of them."""
    network = EfficientNetLite0.load()
    pictures = F.normalize(torch.stack([embedded(case.face.frame[None], network) for case in cases]), dim=1)
    seen = F.normalize(torch.stack([embedded(video[LAST:], network) for video in videos]), dim=1)
    return (pictures @ seen.T).argmax(0).eq(torch.arange(len(videos))).float().tolist()


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means; correlations and lags over the cases in which something is said."""
    speaking = [row for row in rows if row["text"]]
    found: dict[str, float] = {"cases": float(len(rows)), "speaking": float(len(speaking))}
    for kind in ("avatar", "given_back", "real"):
        found |= {f"{kind}_{name}": float(np.mean([row[f"{kind}_{name}"] for row in speaking])) for name in ("correlation", "shuffled")}
        found[f"{kind}_lag_within_1"] = float(np.mean([abs(row[f"{kind}_lag"]) <= 1 for row in speaking]))
        found[f"{kind}_expression"] = float(np.mean([row[f"{kind}_shows"] for row in rows]))
    found["identity"] = float(np.mean([row["identity"] for row in rows]))
    found["silent_opening"] = float(np.mean([row["silent_opening"] for row in rows]))
    found["silence_closed"] = float(np.mean([row["silent_opening"] <= SHUT for row in rows]))
    return {name: round(value, 3) for name, value in found.items()}


def evaluate_avatar(talking: TalkingFace, out: Path, count: int = 20, acting: Acting | None = None) -> dict[str, float]:
    """Make, judge, and write scores.json, cases.csv, sheet.png (real above, made below) and the videos into `out`.

    Raises WeightsError or MissingExtraError where a judge or the voice is missing.
    """
    tracker, acting = FaceTracker.load(), acting or Acting()
    (out / "videos").mkdir(parents=True, exist_ok=True)
    cases = list(each(lambda number: make_case(number, talking.file.avatar.config.side), count, "held-out clips"))
    rows = list(each(lambda number: judge(talking, tracker, cases[number], cases[number - 1], out, number, acting), count, "avatars"))
    for row, same in zip(rows, identities(cases, [row.pop("frames") for row in rows]), strict=True):
        row["identity"] = same
    sheet = torch.cat([rearrange(row.pop("strip"), "T H W C -> H (T W) C") for row in rows[:10]])
    write_image(out / "sheet.png", sheet)
    scores = summary(rows)
    with whole_file(out / "cases.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with whole_file(out / "scores.json") as draft:
        draft.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    Console().print(table(scores))
    return scores


def each(make: Callable[[int], Any], count: int, title: str) -> Any:
    return (make(number) for number in track(range(count), title, console=Console(stderr=True)))


def table(scores: dict[str, float]) -> Table:
    """Avatar, autoencoder and real clips side by side."""
    shown = Table("", "avatar", "given back by the autoencoder", "real clips", title=f"{scores['cases']:g} held-out faces and sentences")
    for name, words in (
        ("correlation", "mouth against the truth: correlation"),
        ("shuffled", "the same against another's sentence"),
        ("lag_within_1", "best lag within one frame"),
        ("expression", "expression recognised"),
    ):
        shown.add_row(words, *(f"{scores[f'{kind}_{name}']:.2f}" for kind in ("avatar", "given_back", "real")))
    for name, words in (
        ("identity", "nearest to its own picture"),
        ("silent_opening", "opening in silence"),
        ("silence_closed", "closed in silence"),
    ):
        shown.add_row(words, f"{scores[name]:.2f}", "", "")
    return shown
