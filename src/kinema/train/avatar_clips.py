"""What an avatar trains on: talking clips of the world with their voices, encoded once, so that a step is the transformer alone.

A shard holds SHARD clips: latents, the voice as Whisper's states, the truth of every frame, and where face and mouth lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinema.conditioning.expression import NAMES, prompt_for
from kinema.conditioning.whisper import load_whisper
from kinema.media.audio import RATE, resample
from kinema.media.files import whole_file
from kinema.media.frames import from_uint8
from kinema.vae.model import CausalVAE
from kinema.world.speech import SpeechClip, Split, render_speech, sample_speech
from kinema.world.voice import RATE as VOICE_RATE

SHARD = 16
PROMPTS = tuple(prompt_for(name) for name in NAMES)


@dataclass(frozen=True)
class AvatarClips:
    """Clips in memory."""

    latents: Float[Tensor, "n C t h w"]
    heard: Float[Tensor, "n S 5 384"]  # Whisper's states, half precision
    shape: Float[Tensor, "n T 2"]  # opening and width of the mouth
    face: Float[Tensor, "n T 6"]  # five expressions and the blink
    pose: Float[Tensor, "n T 5"]  # yaw, pitch, roll, x, y
    face_box: Float[Tensor, "n T 4"]  # x0, y0, x1, y1, in [0, 1]
    mouth_box: Float[Tensor, "n T 4"]
    prompt: Int[Tensor, " n"]  # of PROMPTS


@lru_cache(maxsize=1)
def silence(samples: int) -> Float[Tensor, "S 5 384"]:
    """What Whisper hears where nothing sounds: the same for every such clip."""
    return load_whisper().hear(torch.zeros(samples))


def encode_clip(clip: SpeechClip, vae: CausalVAE) -> dict[str, Tensor]:
    """One clip as tensors."""
    truth, spec = clip.truth, clip.truth["spec"]
    pixels = from_uint8(torch.from_numpy(clip.frames))[None].to(next(vae.parameters()))
    with torch.inference_mode():
        latents = vae.to_latents(pixels)[0]
        sound = resample(clip.sound, VOICE_RATE, RATE)
        heard = load_whisper().hear(sound) if sound.any() else silence(len(sound))
    size = np.array([spec["width"], spec["height"]] * 2)
    columns = {
        "latents": latents,
        "heard": heard,
        "shape": np.stack([truth["opening"], truth["width"]], 1),
        "face": np.concatenate([truth["expression"], np.array(truth["blink"])[:, None]], 1),
        "pose": np.stack([truth[name] for name in ("yaw", "pitch", "roll", "x", "y")], 1),
        "face_box": np.array(truth["face"]) / size,
        "mouth_box": np.array(truth["mouth"]) / size,
    }
    found = {name: torch.as_tensor(values).to(torch.float16) for name, values in columns.items()}
    return found | {"prompt": torch.tensor(NAMES.index(spec["expression"]))}


def prepare(
    folder: Path, count: int, size: tuple[int, int, int], vae: CausalVAE, split: Split, first_seed: int = 0, silent: bool = False
) -> None:
    """Render and encode what is not there yet, shard by shard. size: frames, height, width. silent: nobody speaks."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(-(-count // SHARD)), f"clips for {folder.name}"):
        path = folder / f"{first_seed + number * SHARD:07}.safetensors"
        if path.exists():
            continue
        seeds = range(first_seed + number * SHARD, first_seed + (number + 1) * SHARD)
        specs = [sample_speech(seed, split, *size) for seed in seeds]
        rows = [encode_clip(render_speech(replace(spec, text="") if silent else spec), vae) for spec in specs]
        with whole_file(path) as draft:
            save_file({name: torch.stack([row[name] for row in rows]).contiguous() for name in rows[0]}, draft)


def read_clips(folder: Path, count: int) -> AvatarClips:
    """The first `count` clips of a prepared folder."""
    shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))[: -(-count // SHARD)]]
    found = {name: torch.cat([shard[name] for shard in shards])[:count] for name in shards[0]}
    return AvatarClips(**{name: tensor if name in ("heard", "prompt") else tensor.float() for name, tensor in found.items()})


def joined(parts: Sequence[AvatarClips]) -> AvatarClips:
    """The clips of all parts."""
    return AvatarClips(**{each.name: torch.cat([getattr(part, each.name) for part in parts]) for each in fields(AvatarClips)})


def boxes_on_grid(boxes: Float[Tensor, "B T 4"], latents: int, height: int, width: int, wider: float = 1.0) -> Float[Tensor, "B t h w"]:
    """1 in the cells that a box touches in any frame of the latent, 0 elsewhere. wider: times the box's sides."""
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2 * wider
    low, high = middle - half, middle + half
    columns, rows = torch.arange(width) / width, torch.arange(height) / height
    inside_x = (columns + 1 / width > low[..., :1]) & (columns < high[..., :1])
    inside_y = (rows + 1 / height > low[..., 1:]) & (rows < high[..., 1:])
    inside = (inside_y[..., :, None] & inside_x[..., None, :]).float()  # B T h w
    grouped = torch.cat([inside[:, :1].expand(-1, 4, -1, -1), inside[:, 1:]], 1)
    return rearrange(grouped, "B (t four) h w -> B t four h w", t=latents).amax(2)
