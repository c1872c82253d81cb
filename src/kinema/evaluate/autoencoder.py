"""The paper's protocol for autoencoders (HunyuanVideo, arXiv 2412.03603, table 1): real videos through the VAE and back.

The paper reports PSNR on MCL-JCV at 33 x 360 x 640 and on ImageNet at 256 x 256; the data sets are not ours to ship, any folder will do.
Frames are resized to cover the size and cut from the middle; the posterior's mean is decoded.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from kinema.errors import InputError
from kinema.evaluate.measure import judges
from kinema.evaluate.metrics.clip import Clip
from kinema.evaluate.metrics.table import METRICS
from kinema.evaluate.summary import summarise
from kinema.media.files import whole_file
from kinema.media.frames import fill, from_uint8, to_uint8
from kinema.media.image import read_image
from kinema.media.video import read_video
from kinema.vae.model import CausalVAE
from kinema.vae.tiling import decode_tiled, encode_tiled

VIDEOS, PICTURES = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif"), (".png", ".jpg", ".jpeg", ".webp")
OnStep = Callable[[str, int, int], None]


def prepared(path: Path, shape: tuple[int, int, int]) -> UInt8[Tensor, "T H W 3"]:
    """The first frames of a video, or a picture, at the size. Raises InputError where it is too short or cannot be read."""
    frames = read_image(path)[None] if path.suffix.lower() in PICTURES else read_video(path)[0]
    if len(frames) < shape[0]:
        raise InputError(f"{path.name} has {len(frames)} frames: {shape[0]} are needed")
    sized = fill(rearrange(frames[: shape[0]], "T H W c -> T c H W").float(), *shape[1:])
    return rearrange(sized.round().clamp(0, 255).to(torch.uint8), "T c H W -> T H W c")


@torch.inference_mode()
def given_back(vae: CausalVAE, frames: UInt8[Tensor, "T H W 3"]) -> UInt8[Tensor, "T H W 3"]:
    """What is left of frames after encoding and decoding, in tiles where they are large."""
    pixels = from_uint8(frames)[None].to(next(vae.parameters()))
    return to_uint8(decode_tiled(vae, encode_tiled(vae, pixels).mean)[0].clamp(-1, 1)).cpu()


def evaluate_vae(vae: CausalVAE, folder: Path, shape: tuple[int, int, int], out: Path, on_step: OnStep) -> dict[str, str]:
    """PSNR, SSIM and perceptual distance, a line a file in vae.csv, means with intervals in vae.json; returns them as text.

    shape: T, H, W. A file that cannot be measured is a line with a reason.
    Raises InputError for a folder with nothing in it, or where nothing could be measured.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS + PICTURES)
    if not paths:
        raise InputError(f"videos={folder} holds no videos or pictures")
    names = [name for name, metric in METRICS.items() if metric.family == "reconstruction" and not metric.missing()]
    lines: list[list[str | float]] = []
    for number, path in enumerate(paths):
        on_step("reconstruct", number, len(paths))
        try:
            real = prepared(path, shape)
            clip = Clip(given_back(vae, real), 1.0, "", judges(), real)
            lines.append([path.name, *(METRICS[name].measure(clip) for name in names), ""])
        except InputError as error:
            lines.append([path.name, *[float("nan")] * len(names), str(error)])
    return write(out, names, lines, shape)


def write(out: Path, names: list[str], lines: list[list[str | float]], shape: tuple[int, int, int]) -> dict[str, str]:
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "vae.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", *names, "error"], *lines])
    values = np.array([line[1:-1] for line in lines], float)
    if np.isnan(values).all():
        raise InputError(f"none of {len(lines)} files could be measured: {lines[0][-1]}")
    cells = {name: summarise(values[:, [place]].T, METRICS[name].higher_is_better)[0] for place, name in enumerate(names)}
    scores = {name: {"mean": cell.mean, "low": cell.low, "high": cell.high} for name, cell in cells.items()}
    with whole_file(out / "vae.json") as draft:
        draft.write_text(json.dumps({"files": len(lines), "shape": shape, "scores": scores}, indent=1) + "\n", encoding="utf-8")
    return {name: f"{cell.mean:.3f} ({cell.low:.3f} to {cell.high:.3f}, {cell.count} files)" for name, cell in cells.items()}
