"""What a worker keeps loaded: a model that makes videos, or an avatar that speaks. Each makes the file of one job after the other."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

import kinema
from kinema.conditioning.drive import read_drive
from kinema.conditioning.whisper import load_whisper
from kinema.config import build
from kinema.errors import InputError
from kinema.media.image import read_image
from kinema.pipelines.avatar import Portrait, TalkingFace, portrait
from kinema.pipelines.base import Request
from kinema.pipelines.preview import Colours
from kinema.pipelines.speech import recipe_of, write_speech
from kinema.serve import intake
from kinema.serve.fitting import LORAS, Times, work_of
from kinema.serve.jobs import Job
from kinema.serve.speeches import Speech
from kinema.serve.uploads import MARK, Upload, Uploads

if TYPE_CHECKING:
    from kinema.serve.worker import Watch

FILE = "video"  # the stem of what is made
SHOWN_EVERY = 3  # frames of a speech's preview


class Films:
    """A model, perhaps with an adapter."""

    def __init__(self, folder: Path, device: str, model: str, lora: str | None):
        """lora: file name of an adapter in the folder, with its strength."""
        self.folder = folder
        self.pipeline = kinema.load(model, device=device, loras=[str(folder / LORAS / lora)] if lora else [])
        self.colours = Colours.of(self.pipeline)

    def make(self, job: Job, watch: "Watch") -> Path:
        wanted = {name: value for name, value in job.request.items() if name not in ("model", "lora")}
        given = [self.opened(job.user, each) for each in wanted.get("given", [])]
        if wanted.get("reference"):
            wanted["reference"] = self.opened(job.user, wanted["reference"])
        request = build(Request, wanted | {"given": given})

        def preview(_: int, clean: Tensor) -> None:
            watch.show(lambda: self.colours(clean[0]))

        file = self.pipeline.generate_to(watch.folder, request, stem=FILE, on_step=watch.check_step, on_clean=preview)
        Times(self.folder).add(work_of(self.pipeline.config, request), self.pipeline.clock.seconds)
        return file

    def opened(self, user: str, given: dict[str, Any]) -> dict[str, Any]:
        """A file that was given, after its first reading."""
        upload = kept(self.folder, user, given["sha256"])
        intake.check(upload)
        height, width = intake.measure(upload)
        about = {name: value for name, value in given.items() if name != "file"}
        return about | {"path": str(upload.path), "height": height, "width": width}


class Speeches:
    """The shipped avatar."""

    def __init__(self, folder: Path, device: str, model: str):
        self.folder, self.talking = folder, TalkingFace(kinema.load(model, device=device))
        _ = self.talking.dit, self.talking.video.vae, load_whisper()  # now, so that no job's time counts it

    def make(self, job: Job, watch: "Watch") -> Path:
        asked = build(Speech, job.request)
        files = {name: kept(self.folder, job.user, sha) for name in ("image", "audio", "drive") if (sha := getattr(asked, name))}
        sound, face, acting = intake.hear(files["audio"]), self.seen(files["image"], asked.face), asked.acting
        if asked.drive:
            intake.check(files["drive"])
            driven = read_drive(files["drive"].path)
            acting = replace(acting, face_track=driven.face, pose_track=driven.pose)
        began = time.perf_counter()
        self.talking.video.clock.reset()
        parts: list[UInt8[Tensor, "T H W 3"]] = []
        for frames in self.talking.speak(face, sound, acting, watch.check_step):
            parts.append(frames)
            self.show(watch, frames, asked.fps)
        path = watch.folder / f"{FILE}.mp4"
        recipe = recipe_of(self.talking, acting, {name: upload.path for name, upload in files.items()}, asked.face)
        write_speech(path, torch.cat(parts), asked.fps, sound, recipe)
        self.remember(asked, sum(map(len, parts)), time.perf_counter() - began)
        return path

    def seen(self, upload: Upload, face: int | None) -> Portrait:
        """The picture, cut to its face."""
        intake.check(upload)
        return portrait(read_image(upload.path), self.talking.file.avatar.config.side, face)

    def show(self, watch: "Watch", frames: UInt8[Tensor, "T H W 3"], fps: int) -> None:
        """A window that is done, as the preview."""
        watch.show(lambda: frames[::SHOWN_EVERY], SHOWN_EVERY / fps)

    def remember(self, asked: Speech, frames: int, seconds: float) -> None:
        decode = self.talking.video.clock.seconds.get("decode", 0.0)
        work = replace(asked, frames=frames).work(self.talking.video.config)
        Times(self.folder).add(work, {"denoise": seconds - decode, "decode": decode})


def kept(folder: Path, user: str, sha256: str) -> Upload:
    """A file that was given, by what it holds. Raises InputError where it is not here any more."""
    upload = Uploads(folder).find(user, MARK + sha256)
    if upload is None:
        raise InputError("a file that was given is not here any more: upload it again")
    return upload
