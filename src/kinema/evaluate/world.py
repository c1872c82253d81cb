"""How well a model makes what it is asked for, on prompts of the embedded world that it has never seen.

Every figure stands beside the same figure for real clips of the same specs, which is what the judges themselves can reach, and for
what the VAE gives back of the first of these: the difference is what no model on that VAE can win.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kinema.evaluate.direction import DIRECTIONS, direction
from kinema.evaluate.scores import Answer, shares, table, write_csv, write_json
from kinema.evaluate.sheet import strip, write_sheets
from kinema.media.video import read_video
from kinema.pipelines.store import PRETRAINED
from kinema.pipelines.video import VideoPipeline
from kinema.vae.model import CausalVAE
from kinema.world.captions import user_prompt
from kinema.world.motion import PATHS
from kinema.world.recogniser import Recogniser
from kinema.world.render import render_frames
from kinema.world.scenes import PLACES
from kinema.world.spec import ClipSpec, sample_spec
from kinema.world.sprites import SpritePack

RECOGNISER = PRETRAINED / "recogniser"
VAE_CLIPS = 64
DIRECTED = 3  # every third prompt
Video = UInt8[Tensor, "T H W 3"]


@dataclass(frozen=True)
class Case:
    """One held-out prompt and the clip that it describes."""

    number: int
    spec: ClipSpec
    prompt: str


def wanted_direction(spec: ClipSpec) -> str:
    """Left, right, up or down; empty where the path has none or the camera moves too."""
    heading = PATHS[spec.path].heading
    return heading if heading in DIRECTIONS and spec.camera == "static" else ""


def cases(pack: SpritePack, count: int, frames: int, height: int, width: int) -> list[Case]:
    """The first `count` held-out clips whose subjects are all animated, with a prompt that names the place.

    Every third is one that goes left, right, up or down under a still camera, so that directions are asked often enough.
    They depend on the arguments alone: every model of one size answers the same prompts.
    """
    found: list[Case] = []
    seed = 0
    while len(found) < count:
        spec = sample_spec(seed, pack.subjects, frames, height, width, split="heldout")
        seed += 1
        wanted = wanted_direction(spec) or len(found) % DIRECTED
        if wanted and all(pack.subject(subject).animated for subject in spec.subjects):
            found.append(Case(len(found), spec, placed_prompt(spec, pack)))
    return found


def placed_prompt(spec: ClipSpec, pack: SpritePack) -> str:
    """A prompt as users write them; one that leaves the place out is drawn again, since its place could not be judged."""
    rng = np.random.Generator(np.random.PCG64([spec.seed, 11]))
    while True:
        prompt = user_prompt(spec, pack.subjects, rng)
        if any(phrase.lower() in prompt.lower() for phrase in PLACES[spec.place].phrases):
            return prompt


def real_video(case: Case, pack: SpritePack) -> Video:
    return rearrange(render_frames(case.spec, pack), "T c H W -> T H W c")


def generated_video(case: Case, pipeline: VideoPipeline, folder: Path, chosen: dict[str, Any]) -> Video:
    """The pipeline's video for a case, made unless `folder` has it already. chosen: fields of Request."""
    size = {"frames": case.spec.frames, "height": case.spec.height, "width": case.spec.width}
    request = pipeline.config.request(case.prompt, seed=case.number, **chosen, **size)
    stem = pipeline.batch_stem(case.number, request)
    path = folder / f"{stem}.mp4"
    if not path.exists():
        pipeline.generate_to(folder, request, stem)
    return read_video(path)[0]


def judge(case: Case, video: Video, recogniser: Recogniser) -> Answer:
    """What the judges see in a video, beside what its prompt asked for (of two subjects: the first)."""
    reading = recogniser.read(rearrange(video, "T H W c -> T c H W"))
    order = reading.subjects.argsort(descending=True).tolist()
    wanted, heading = recogniser.subjects.index(case.spec.subjects[0]), wanted_direction(case.spec)
    return Answer(
        subject_wanted=case.spec.subjects[0],
        subject_seen=recogniser.subjects[order[0]],
        subject_rank=order.index(wanted) + 1,
        place_wanted=case.spec.place,
        place_seen=recogniser.places[int(reading.places.argmax())],
        direction_wanted=heading,
        direction_seen=direction(video) if heading else "",
    )


@torch.inference_mode()
def reconstructed(vae: CausalVAE, video: Video) -> tuple[Video, float]:
    """What the VAE gives back of a clip, and how faithful it is: dB over all its pixels, peak 1."""
    weight = next(vae.parameters())
    pixels = rearrange(video, "T H W c -> 1 c T H W").to(weight) / 127.5 - 1
    back = vae.decode(vae.encode(pixels).mean).clamp(-1, 1)
    error = ((back.float() - pixels.float()) / 2).square().mean()
    frames = ((back[0].float() + 1) * 127.5).round().to(torch.uint8).cpu()
    return rearrange(frames, "c T H W -> T H W c"), float(-10 * error.log10())


def evaluate_world(
    pipeline: VideoPipeline,
    out: Path,
    count: int = 200,
    chosen: dict[str, Any] | None = None,
    recogniser: Path = RECOGNISER,
    pack: Path | None = None,
) -> dict:
    """Generate, judge, and write scores.json, answers.csv, sheet-*.png and the videos into `out`; a broken run goes on where it stopped.

    chosen: fields of Request (steps, guidance, shift ...) other than the model's own. recogniser: folder of its weights.
    pack: the sprite pack; None is the built one.
    Returns what scores.json holds. Raises WeightsError or InputError where recogniser or pack is missing.
    """
    judges, sprites, chosen = Recogniser.load(recogniser), SpritePack.open(pack), chosen or {}
    size = pipeline.config.defaults
    asked = cases(sprites, count, size.frames, size.height, size.width)
    (out / "videos").mkdir(parents=True, exist_ok=True)
    generated, strips = [], []
    for case, video in each(asked, "generated videos", lambda case: generated_video(case, pipeline, out / "videos", chosen)):
        generated.append(judge(case, video, judges))
        strips.append(strip(case.prompt, video))
    real, given_back, psnrs = [], [], []
    for case, video in each(asked, "real clips", lambda case: real_video(case, sprites)):
        real.append(judge(case, video, judges))
        if case.number < VAE_CLIPS:
            back, psnr = reconstructed(pipeline.vae, video)
            given_back.append(judge(case, back, judges))
            psnrs.append(psnr)
    kinds = {"generated": shares(generated), "real": shares(real), "reconstructed": shares(given_back)}
    facts = {"model": pipeline.config.name, "prompts": count, "vae_clips": len(psnrs), "defaults": asdict(size), "chosen": chosen}
    psnr = sum(psnrs) / len(psnrs)
    write_json(out / "scores.json", kinds, psnr, facts)
    write_csv(out / "answers.csv", [case.prompt for case in asked], generated, real)
    write_sheets(out, "sheet", strips)
    Console().print(table(kinds, psnr))
    return json.loads((out / "scores.json").read_text(encoding="utf-8"))


def each(asked: list[Case], title: str, video_of: Callable[[Case], Video]) -> Iterator[tuple[Case, Video]]:
    """Every case with its video, under a progress bar on standard error."""
    for case in track(asked, title, console=Console(stderr=True)):
        yield case, video_of(case)
