"""Pictures and videos that are given: files and places -> latent frames that the model keeps as they are.

The VAE packs frames: latent 0 is frame 0 alone, latent k > 0 is frames 4k - 3 ... 4k. So a picture at frame f fixes the whole latent
that f lies in. Frames of that latent for which nothing is given repeat the nearest given frame of the same latent (the earlier of two),
so a single picture stands still for its four frames.

Latents are encoded run by run: neighbouring given latents together, as the clip that they are, from the first frame of the video on; a
run that begins later sees its own first frame repeated in front of it. The VAE is causal, so what is given at one place never depends
on what is given later.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kinema.conditioning.sizes import size_like
from kinema.errors import InputError
from kinema.media.frames import fill, from_uint8
from kinema.media.image import read_image
from kinema.media.video import probe, read_video
from kinema.shapes import TIME_STRIDE, PixelShape
from kinema.vae.model import CausalVAE
from kinema.vae.tiling import encode_tiled

LAST = -1
Places = dict[int, UInt8[Tensor, "H W 3"]]  # frame of the wanted video -> what it shows


@dataclass(frozen=True, kw_only=True)
class Given:
    """A file that a video begins with, ends with, or passes through. Made by `picture` and `footage`."""

    path: str
    sha256: str  # of the file: the same request means the same picture
    height: int  # of the file, pixels
    width: int
    at: int = 0  # frame of the wanted video; below 0 counts from its end, -1 is the last
    kind: Literal["picture", "footage"] = "picture"

    @classmethod
    def picture(cls, path: Path | str, at: int | Literal["last"] = 0) -> "Given":
        """A picture that is frame `at`. Raises InputError where it cannot be read."""
        height, width, _ = read_image(path).shape
        size_like(height, width, 128)  # refuses what is too small for any size
        return cls(path=str(path), sha256=hash_of(path), height=height, width=width, at=LAST if at == "last" else at)

    @classmethod
    def footage(cls, path: Path | str) -> "Given":
        """A video that is continued: its last frames are the first of the wanted one. Raises InputError where it cannot be read."""
        info = probe(path)
        return cls(path=str(path), sha256=hash_of(path), height=info.height, width=info.width, kind="footage")

    def place(self, frames: int) -> int:
        """The frame in a video of so many. Raises InputError where there is none."""
        if not -frames <= self.at < frames:
            raise InputError(f"at={self.at} lies outside a video of {frames} frames: use 0 to {frames - 1}, or -1 for the last")
        return self.at % frames

    def facts(self) -> dict[str, str | int]:
        """For the recipe: what it is, whatever folder it lies in."""
        return {"file": Path(self.path).name, "sha256": self.sha256, "at": self.at, "kind": self.kind}

    def check(self) -> None:
        """Raises InputError where the file is gone or is no longer what the request was made of."""
        if hash_of(self.path) != self.sha256:
            raise InputError(f"{self.path} has changed since it was asked for: make the request again")


@dataclass(frozen=True)
class Known:
    """Latents that are given, scaled as the DiT sees them."""

    latents: Float[Tensor, "1 C t h w"]  # 0 where nothing is given
    given: Bool[Tensor, "1 t"]

    @property
    def mask(self) -> Bool[Tensor, "1 1 t 1 1"]:
        return self.given[:, None, :, None, None]

    @property
    def beside(self) -> list[Tensor]:
        """What 33-channel models see under the noise: the latents, and a mask that is 1 where they are given."""
        return [self.latents, self.mask.expand(1, 1, *self.latents.shape[2:]).float()]

    def to(self, device: torch.device) -> "Known":
        return Known(self.latents.to(device), self.given.to(device))


def hash_of(path: Path | str) -> str:
    """SHA-256 of a file. Raises InputError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def latent_of(frame: int) -> int:
    """The latent that a frame lies in."""
    return -(-frame // TIME_STRIDE)


def frames_of(latent: int) -> range:
    """The frames that a latent holds."""
    return range(max(TIME_STRIDE * (latent - 1) + 1, 0), TIME_STRIDE * latent + 1)


def footage_frames(available: int, latents: int) -> int:
    """How many frames of a video are continued: half of the latents that are made at once, as in training; 1 + a multiple of 4."""
    held = min(max(latents // 2, 1), (available - 1) // TIME_STRIDE + 1)
    return TIME_STRIDE * (held - 1) + 1


def places_of(given: Sequence[Given], shape: PixelShape, fps: int, at_once: int) -> Places:
    """Every frame that is given, cut to the wanted size: resized until it covers it, then its middle.

    A video is thinned to `fps` from its end on; where it is slower than that, it is taken frame by frame.
    at_once: latents that are made together.
    Raises InputError where two files claim one frame, or a file has changed.
    """
    places: Places = {}
    for each in given:
        each.check()
        frames = read_image(each.path)[None] if each.kind == "picture" else tail(each.path, at_once, fps)
        first = each.place(shape.frames)
        for number, frame in enumerate(cut(frames, shape)):
            if first + number in places:
                raise InputError(f"frame {first + number} is given twice, the second time by {each.path}: give it another --image-at")
            places[first + number] = frame
    return places


def tail(path: str, at_once: int, fps: int) -> UInt8[Tensor, "T H W 3"]:
    """The last frames of a video, at most half of those that are made together."""
    frames, rate = read_video(path)
    step = max(round(rate / fps), 1)
    thinned = frames.flip(0)[::step].flip(0)
    return thinned[-footage_frames(len(thinned), at_once) :]


def cut(frames: UInt8[Tensor, "T H W 3"], shape: PixelShape) -> UInt8[Tensor, "T h w 3"]:
    if frames.shape[1:3] == (shape.height, shape.width):
        return frames
    filled = fill(rearrange(frames, "T H W c -> T c H W").float(), shape.height, shape.width)
    return rearrange(filled.round().clamp(0, 255).to(torch.uint8), "T c H W -> T H W c")


def runs(latents: Sequence[int]) -> list[range]:
    """Sorted numbers as ranges of neighbours."""
    found: list[range] = []
    for latent in latents:
        if found and latent == found[-1].stop:
            found[-1] = range(found[-1].start, latent + 1)
        else:
            found.append(range(latent, latent + 1))
    return found


def clip_of(run: range, places: Places) -> UInt8[Tensor, "T H W 3"]:
    """The pixels of a run of latents: gaps repeat the nearest given frame; a run that begins later is led by its first frame."""
    shown = []
    for latent in run:
        own = [frame for frame in frames_of(latent) if frame in places]
        shown += [places[min(own, key=lambda known: (abs(known - frame), known))] for frame in frames_of(latent)]
    return torch.stack(shown if run.start == 0 else [shown[0], *shown])


@torch.inference_mode()
def encode_places(places: Places, shape: PixelShape, vae: CausalVAE) -> Known:
    """Given frames -> float32 latents on the CPU, by the mean of the VAE's posterior."""
    weight, latent = next(vae.parameters()), shape.latent
    latents = torch.zeros(1, vae.config.latent_channels, latent.t, latent.h, latent.w)
    given = torch.zeros(1, latent.t, dtype=torch.bool)
    for run in runs(sorted({latent_of(frame) for frame in places})):
        pixels = from_uint8(clip_of(run, places))[None].to(weight)
        found = encode(vae, pixels) * vae.config.scaling_factor
        latents[:, :, run.start : run.stop] = found[:, :, -len(run) :].float().cpu()
        given[:, run.start : run.stop] = True
    return Known(latents, given)


def encode(vae: CausalVAE, pixels: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B z t h w"]:
    """A VAE whose norms see all frames at once is tiled as the published one is."""
    return (vae.encode(pixels) if vae.config.streams else encode_tiled(vae, pixels)).mode()
