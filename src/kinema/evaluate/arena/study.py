"""What a study compares. A study is a folder: study.json, media/ with the videos under random names, votes.sqlite."""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kinema.errors import InputError
from kinema.evaluate.videos import match_videos
from kinema.media.files import whole_file
from kinema.media.video import copy_stream, probe, read_video, write_video

AXES = {
    "text": "Which follows the text better?",
    "motion": "Which moves better: smoothly, plausibly, as much as asked?",
    "visual": "Which looks better, frame by frame?",
    "overall": "Which is better, all in all?",
}
"""The axes of HunyuanVideo's study (arXiv 2412.03603, §5.6), as questions about a pair."""

APPROVALS = {
    "text": "Does it show what the text says?",
    "motion": "Is the motion right?",
    "visual": "Does it look good, frame by frame?",
    "overall": "Would you accept it, all in all?",
}
"""The same as questions about one video."""

Kind = Literal["pair", "single"]
CHECKS = 12  # planted pairs, at most: a video beside its own ruin, whose right answer is known
CHECK = "check"  # the ruined copy's name among the models of one prompt


@dataclass(frozen=True)
class Study:
    """One study, as study.json holds it."""

    title: str
    kind: Kind
    prompts: list[str]
    models: list[str]
    media: list[dict[str, str]]  # for each prompt: model -> file name under media/; CHECK -> the ruined copy of `checked`
    checked: dict[str, str]  # number of a prompt with a planted pair -> the model whose video was ruined
    seed: int = 0

    @property
    def questions(self) -> dict[str, str]:
        return AXES if self.kind == "pair" else APPROVALS

    def complete(self, number: int) -> list[str]:
        """The models that have a video for this prompt."""
        return [model for model in self.models if model in self.media[number]]

    @classmethod
    def open(cls, folder: Path) -> "Study":
        """Raises InputError where there is no study."""
        try:
            return cls(**json.loads((folder / "study.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{folder} holds no study ({error}): make one with `kinema arena build`") from error


def build_study(
    folder: Path, prompts: list[str], videos: dict[str, Path], kind: Kind = "pair", title: str = "Which video?", seed: int = 0
) -> Study:
    """Copy the models' videos under random names and plant the checks.

    videos: model -> folder with its videos, one a prompt (see `match_videos`).
    Raises InputError for fewer than two models in a study of pairs, or a folder that already holds a study.
    """
    if (folder / "study.json").exists():
        raise InputError(f"{folder} holds a study already: choose another folder, its votes are worth keeping")
    if len(videos) < (2 if kind == "pair" else 1):
        raise InputError(f"models={list(videos)}: a study of pairs needs two models or more")
    matched = {model: match_videos(source, prompts) for model, source in videos.items()}
    (folder / "media").mkdir(parents=True, exist_ok=True)
    media = [{model: copy(files[n], folder) for model, files in matched.items() if n in files} for n in range(len(prompts))]
    checked = plant_checks(folder, media, seed) if kind == "pair" else {}
    study = Study(title, kind, prompts, list(videos), media, checked, seed)
    with whole_file(folder / "study.json") as draft:
        draft.write_text(json.dumps(asdict(study), ensure_ascii=False, indent=1), encoding="utf-8")
    return study


def copy(source: Path, folder: Path) -> str:
    """A copy that browsers play, under a name that tells nothing, without the metadata that would."""
    name = secrets.token_hex(12) + ".mp4"
    if probe(source).codec == "h264":
        copy_stream(source, folder / "media" / name)
    else:
        write_video(folder / "media" / name, *read_video(source))
    return name


def plant_checks(folder: Path, media: list[dict[str, str]], seed: int) -> dict[str, str]:
    """Beside some videos, a ruined copy: coarse blocks in a shuffled order. Adds it to `media`; returns prompt -> model."""
    rng = np.random.default_rng(seed)
    rich = [number for number, files in enumerate(media) if files]
    chosen = rng.permutation(rich)[: min(CHECKS, max(1, len(rich) // 4))].tolist()
    checked = {}
    for number in sorted(chosen):
        model = str(rng.choice(sorted(media[number])))
        frames, rate = read_video(folder / "media" / media[number][model])
        name = secrets.token_hex(12) + ".mp4"
        write_video(folder / "media" / name, ruined(frames.numpy(), rng), rate)
        media[number][CHECK], checked[str(number)] = name, model
    return checked


def ruined(frames: np.ndarray, rng: np.random.Generator, blocks: int = 6) -> np.ndarray:
    """Each frame as a few grey-tinted blocks, in random order: nobody who looks prefers it."""
    side = max(2, min(frames.shape[1:3]) // blocks)
    coarse = frames[:, ::side, ::side].repeat(side, 1).repeat(side, 2)[:, : frames.shape[1], : frames.shape[2]]
    return (coarse // 2 + 64)[rng.permutation(len(frames))]
