"""Clips into what the DiT trains on: VAE latents and text states, in shards, with a fingerprint of what made them.

Encoding may run beside rendering and training: it follows the folder of clips, and the trainer follows the folder of latents.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.data.shards import follow, read_shard, write_shard
from kinema.errors import InputError
from kinema.text.encoder import TextEncoder
from kinema.vae.model import CausalVAE


@dataclass(frozen=True, kw_only=True)
class EncodeJob:
    """Which clips to encode, and at which sizes."""

    clips: Path
    out: Path
    scales: tuple[int, ...] = (1,)  # 2: also at half the rendered size, and so on
    text_len: int = 80  # L: longest text, tokens
    consume: bool = False  # delete a shard of clips once it is encoded
    follow_seconds: float = 0.0  # wait this long for further clips before ending
    batch: int = 16


@torch.no_grad()
def encode_clips(model: CausalVAE, frames: UInt8[Tensor, "n T C H W"], scale: int) -> Float[Tensor, "n c t h w"]:
    """Scaled latents of a few clips, shrunk by `scale` (area average) first."""
    device = next(model.parameters()).device
    pixels = rearrange(frames.to(device), "n T C H W -> (n T) C H W").float() / 127.5 - 1
    pixels = rearrange(F.avg_pool2d(pixels, scale), "(n T) C H W -> n C T H W", n=len(frames))
    return model.to_latents(pixels.to(next(model.parameters()).dtype, memory_format=torch.channels_last_3d))


def encode_texts(encoder: TextEncoder, texts: list[str], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """States [n L d] padded or cut to `length`, their lengths [n], and pooled vectors [n p], all bfloat16 but the lengths."""
    encoded = encoder.encode(texts)
    states = encoded.states[:, :length] * encoded.mask[:, :length, None]
    states = F.pad(states, (0, 0, 0, length - states.shape[1]))
    return states.bfloat16(), encoded.mask.sum(1).clamp(max=length), encoded.pooled.bfloat16()


def encode_shard(job: EncodeJob, path: Path, vae: CausalVAE, encoder: TextEncoder) -> None:
    """Encode one shard of clips into `job.out`, under the same name."""
    tensors, rows = read_shard(path)
    parts = tensors["frames"].split(job.batch)
    encoded = {f"latents_{scale}": torch.cat([encode_clips(vae, part, scale).bfloat16().cpu() for part in parts]) for scale in job.scales}
    states, lengths, pooled = encode_texts(encoder, [text for row in rows for text in row["texts"]], job.text_len)
    for name, tensor in {"text": states, "text_lengths": lengths, "pooled": pooled}.items():
        encoded[name] = tensor.unflatten(0, (len(rows), -1)).cpu()
    write_shard(job.out / path.name, encoded, rows)
    if job.consume:
        path.unlink()


def fingerprint(model: torch.nn.Module) -> str:
    """A short hash of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_fingerprint(job: EncodeJob, vae: CausalVAE) -> None:
    """Refuse to mix latents of two VAEs in one folder."""
    card, mine = job.out / "made_by.json", {"vae": fingerprint(vae), "text_len": job.text_len, "scales": list(job.scales)}
    if card.exists() and json.loads(card.read_text()) != mine:
        raise InputError(f"{job.out} holds latents of another VAE or text length ({card.read_text()}): give an empty folder")
    job.out.mkdir(parents=True, exist_ok=True)
    card.write_text(json.dumps(mine))


def encode_folder(job: EncodeJob, vae: CausalVAE, encoder: TextEncoder) -> int:
    """Encode every shard of clips that has no latents yet; returns how many shards that were."""
    check_fingerprint(job, vae)
    null = encode_texts(encoder, [""], job.text_len)
    write_null(job.out, null)
    seen, count, waited = {job.clips / path.name for path in job.out.glob("*.safetensors")}, 0, time.monotonic()
    while True:
        for path in follow(job.clips, seen):
            encode_shard(job, path, vae, encoder)
            count, waited = count + 1, time.monotonic()
        if time.monotonic() - waited >= job.follow_seconds:
            return count
        time.sleep(0.5)


def write_null(folder: Path, null: tuple[Tensor, Tensor, Tensor]) -> None:
    """The states of the empty prompt, which text dropout puts in place of a caption's."""
    (folder / "null").mkdir(parents=True, exist_ok=True)
    names = ("text", "text_lengths", "pooled")
    write_shard(
        folder / "null" / "null.safetensors", {name: tensor.cpu() for name, tensor in zip(names, null, strict=True)}, [{"texts": [""]}]
    )
