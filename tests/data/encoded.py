"""Small stores and folders of clips for the tests of this folder."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from kinema.data.buckets import Bucket
from kinema.data.encode import Encoder
from kinema.data.store import MadeBy, Sample, StoreWriter
from kinema.media.image import write_image
from kinema.media.video import write_video
from kinema.text.encoder import TextConfig, TextStates
from kinema.vae.model import CausalVAE, VAEConfig

MADE_BY = MadeBy(vae="vae", text_encoder="words", template="{}", text_len=16)
VIDEO, SQUARE, PICTURE = Bucket(5, 32, 48), Bucket(5, 32, 32), Bucket(1, 32, 32)
WIDTH = 6
TINY_VAE = VAEConfig(
    channels=(8, 8, 8), encoder_layers=(1, 1, 1), decoder_layers=(1, 1, 1), patch=4, norm="frame", mid_attention="none", shortcuts=True,
    border="zeros", scaling_factor=0.5,
)  # fmt: skip


class Words:
    """A text encoder: every word has its own random vector, and a text's pooled vector is their mean."""

    config = TextConfig(kind="smollm2", width=WIDTH, pooled_width=WIDTH, text_len=16, template="{}")

    def encode(self, prompts: list[str]) -> TextStates:
        words = [["<begin>", *prompt.split()][: self.config.text_len] for prompt in prompts]
        states = torch.zeros(len(prompts), max(map(len, words)), WIDTH)
        for states_of_one, each in zip(states, words, strict=True):
            states_of_one[: len(each)] = torch.stack([vector(word) for word in each])
        mask = torch.arange(states.shape[1]) < torch.tensor([len(each) for each in words])[:, None]
        return TextStates(states, mask, states.sum(1) / mask.sum(1, keepdim=True))


def vector(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:7])
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


def tiny_encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(CausalVAE(TINY_VAE).eval(), Words())


def sample(name: str, bucket: Bucket = VIDEO, texts: tuple[int, ...] = (3, 5), seed: int = 0) -> Sample:
    """An encoded clip with texts of so many tokens; everything in it follows from its name."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{name}{seed}".encode()).digest()[:7]))
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    latent = (4, bucket.latent.t, bucket.latent.h, bucket.latent.w)
    states = [draw(length, WIDTH) for length in texts]
    facts = {"texts": ["words"] * len(texts)}
    return Sample(
        id=name, bucket=bucket, mean=draw(*latent), logvar=draw(*latent) - 3, text=states, pooled=draw(len(texts), WIDTH), facts=facts
    )


def write_store(folder: Path, counts: dict[Bucket, int], made_by: MadeBy = MADE_BY, per_shard: int = 4, name: str = "") -> Path:
    """A store with so many clips of each bucket; text lengths vary."""
    rng = np.random.default_rng(len(counts))
    with StoreWriter(folder, made_by, per_shard) as writer:
        writer.write_null(torch.zeros(1, 2, WIDTH), torch.zeros(WIDTH))
        for bucket, count in counts.items():
            for number in range(count):
                texts = tuple(int(each) for each in rng.integers(1, 6, rng.integers(1, 4)))
                writer.add(sample(f"{name}{bucket}/{number}", bucket, texts))
    return folder


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """A smooth pattern that moves."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([(4 * t + 2 * y) % 256, (x * 2) % 256, (x + y) % 256], -1).astype(np.uint8)


def write_clips(folder: Path) -> Path:
    """Videos of two aspects, a picture, one broken video, one without a caption, and one that a table names but is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in (("wide", (9, 36, 64)), ("square", (6, 48, 48))):
        write_video(folder / f"{name}.mp4", moving(*shape), fps=8)
    (folder / "wide.txt").write_text("a wide pattern moves")
    (folder / "square.json").write_text('{"dense": "a square pattern that moves down", "short": "a pattern"}')
    write_image(folder / "still.png", moving(1, 40, 40)[0])
    (folder / "broken.mp4").write_bytes(b"not a video at all")
    write_video(folder / "silent.mp4", moving(5, 32, 32), fps=8)
    rows = (
        '{"file_name": "still.png", "text": "a still pattern"}',
        '{"file_name": "broken.mp4", "text": "broken"}',
        '{"file_name": "gone.mp4", "text": "gone"}',
    )
    (folder / "captions.jsonl").write_text("\n".join(rows))
    return folder
