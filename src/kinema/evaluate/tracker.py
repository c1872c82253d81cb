"""Reads a face off its frames: how far the mouth is open, what it shows, how the head is turned. The judge of avatars.

A small network, taught on faces of the world with their truth, as drawn and as the autoencoder gives them back: on clips that avatars
train on, and on many more characters that babble, whose mouths need no voice. Checked on characters and sentences it has never seen
(`tracker.json` beside the weights). Taught by `python -m kinema.evaluate.tracker CLIPS OUT`, in a quarter of an hour of one core.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.conditioning.expression import NAMES
from kinema.errors import WeightsError
from kinema.media.files import whole_file
from kinema.media.frames import from_uint8, resize, to_uint8
from kinema.train.avatar_clips import read_clips
from kinema.vae.model import CausalVAE
from kinema.world.faces import draw_faces
from kinema.world.speech import Split, perform, render_speech, sample_speech, truth_of
from kinema.world.voice import MOUTHS, Phoneme

SIDE = 64
CHANNELS = (24, 48, 96, 96)
TURNS = ("yaw", "pitch", "roll")  # degrees, told in tens
SHIPPED = Path(__file__).parents[1] / "pretrained" / "avatar" / "tracker.safetensors"
CLIPS, BABBLING, HELD = 576, 1200, 60  # clips that are read, babbled, and kept for the check
STEPS, BATCH, RATE = 4000, 64, 2e-3
EVERY = 3  # frames of a clip are much alike: one in three is learned from
FIRST_BABBLING, FIRST_HELD = 2_000_000, 3_000_000  # seeds
SOUND_SECONDS = (0.04, 0.25)  # a babbled sound lasts


@dataclass(frozen=True)
class Reading:
    """What a face does, frame by frame."""

    opening: Float[Tensor, " T"]  # of the mouth, about 0 ... 1
    expression: Float[Tensor, "T 5"]  # shares of NAMES
    turns: Float[Tensor, "T 3"]  # TURNS in degrees


class FaceTracker(nn.Module):
    """Four convolutions and two layers."""

    def __init__(self) -> None:
        super().__init__()
        sides = (3, *CHANNELS)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sides):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(CHANNELS[-1] * (SIDE // 16) ** 2, 128), nn.SiLU())
        self.head = nn.Linear(128, 1 + len(NAMES) + len(TURNS))

    def forward(self, faces: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B o"]:
        """faces: SIDE x SIDE in [-1, 1]."""
        return self.head(self.body(faces))

    @classmethod
    def load(cls, path: Path = SHIPPED) -> "FaceTracker":
        """The shipped one. Raises WeightsError where it is not there."""
        if not path.is_file():
            raise WeightsError(f"no face tracker at {path}: teach one with `python -m kinema.evaluate.tracker CLIPS OUT`")
        tracker = cls()
        tracker.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
        return tracker.eval().requires_grad_(False)

    @torch.inference_mode()
    def read(self, frames: UInt8[Tensor, "T H W 3"]) -> Reading:
        """Frames of one face that fills the picture."""
        told = self(sized(frames)).float()
        opening, expression, turns = told.split((1, len(NAMES), len(TURNS)), 1)
        return Reading(opening[:, 0], expression.softmax(1), turns * 10)


def sized(frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T 3 h w"]:
    pixels = rearrange(from_uint8(frames), "C T H W -> T C H W")
    return pixels if pixels.shape[-2:] == (SIDE, SIDE) else resize(pixels, SIDE, SIDE)


def given_back(drawn: UInt8[Tensor, "T H W 3"], vae: CausalVAE) -> UInt8[Tensor, "T H W 3"]:
    """A clip through the autoencoder."""
    with torch.inference_mode():
        return to_uint8(vae.to_pixels(vae.to_latents(from_uint8(drawn)[None].to(next(vae.parameters()))))[0])


def truth_rows(truth: dict) -> Float[Tensor, "T 9"]:
    """Of a clip: opening, expressions, turns in tens of degrees."""
    turns = np.stack([truth[name] for name in TURNS], 1) / 10
    return torch.from_numpy(np.concatenate([np.array(truth["opening"])[:, None], truth["expression"], turns], 1)).float()


def babble(rng: np.random.Generator, seconds: float) -> tuple[Phoneme, ...]:
    """Sounds one after another, as no language has them; between some of them nothing."""
    said, at, symbols = [], 0.0, [*MOUTHS, " "]
    while at < seconds:
        end = at + float(rng.uniform(*SOUND_SECONDS))
        said.append(Phoneme(str(rng.choice(symbols)), at, end))
        at = end
    return tuple(said)


def babbling(seed: int, vae: CausalVAE) -> tuple[UInt8[Tensor, "T H W 3"], UInt8[Tensor, "T H W 3"], Float[Tensor, "T 9"]]:
    """A training character that babbles: as drawn, as given back, and the truth."""
    spec = sample_speech(seed, "train", 33, SIDE, SIDE)
    phonemes = babble(np.random.default_rng((seed, 79)), spec.seconds) if spec.text else ()
    acted = perform(spec, phonemes)
    drawn = torch.from_numpy(draw_faces(spec.look, acted, SIDE, SIDE))
    return drawn, given_back(drawn, vae), truth_rows(truth_of(spec, acted, phonemes))


def lessons(seeds: range, split: Split, vae: CausalVAE) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each clip that speaks: frames as drawn, as given back, and their truth [T 9]."""
    for seed in seeds:
        clip = render_speech(sample_speech(seed, split, 33, SIDE, SIDE))
        drawn = torch.from_numpy(clip.frames)
        yield drawn, given_back(drawn, vae), truth_rows(clip.truth)


def encoded_lessons(folder: Path, vae: CausalVAE, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips that an avatar trains on, as the autoencoder gives them back, and their truth [T 9]."""
    clips = read_clips(folder, count)
    for latents, shape, face, pose in zip(clips.latents, clips.shape, clips.face, clips.pose, strict=True):
        with torch.inference_mode():
            back = to_uint8(vae.to_pixels(latents[None])[0])
        yield back, torch.cat([shape[:, :1], face[:, : len(NAMES)], pose[:, : len(TURNS)] / 10], 1)


def loss_of(told: Float[Tensor, "B o"], truth: Float[Tensor, "B o"]) -> Tensor:
    shown, shares = told[:, 1 : 1 + len(NAMES)], truth[:, 1 : 1 + len(NAMES)]
    named = F.cross_entropy(shown, shares / shares.sum(1, keepdim=True).clamp(min=1e-6))
    rest = [0, *range(1 + len(NAMES), told.shape[1])]
    error = (told[:, rest] - truth[:, rest]).square().mean(0)
    return 10 * error[0] + error[1:].mean() + 0.3 * named


def varied(faces: Float[Tensor, "B 3 h w"], generator: torch.Generator) -> Float[Tensor, "B 3 h w"]:
    """Shifted by up to 4 pixels, a little brighter or darker, and a third of the batches softer: at half the size, and back."""
    down, right = (int(torch.randint(-4, 5, (), generator=generator)) for _ in range(2))
    light = 1 + 0.2 * (torch.rand(len(faces), 1, 1, 1, generator=generator) - 0.5)
    if torch.rand((), generator=generator) < 1 / 3:
        faces = F.interpolate(F.avg_pool2d(faces, 2), scale_factor=2.0, mode="bilinear")
    return faces.roll((down, right), (2, 3)) * light


def teach(folder: Path, vae: CausalVAE, steps: int = STEPS, babblers: int = BABBLING, seed: int = 0) -> FaceTracker:
    """On training characters, as drawn and as given back. folder: of an avatar's clips."""
    torch.manual_seed(seed)
    pairs = [(back[::EVERY], truth[::EVERY]) for back, truth in encoded_lessons(folder, vae, CLIPS)]
    for number in track(range(babblers), "babbling faces"):
        drawn, back, truth = babbling(FIRST_BABBLING + number, vae)
        kept = slice(number % EVERY, None, EVERY)
        pairs += [(drawn[kept], truth[kept]), (back[kept], truth[kept])]
    frames, truth = torch.cat([frames for frames, _ in pairs]), torch.cat([told for _, told in pairs])
    tracker, generator = FaceTracker(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(tracker.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in track(range(steps), "lessons"):
        chosen = torch.randint(len(frames), (BATCH,), generator=generator)
        loss_of(tracker(varied(sized(frames[chosen]), generator)), truth[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return tracker.eval().requires_grad_(False)


def correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Pearson's; 0 where one does not vary."""
    if a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(torch.corrcoef(torch.stack([a.float(), b.float()]))[0, 1])


def check(tracker: FaceTracker, vae: CausalVAE, clips: int = HELD) -> dict[str, float]:
    """How well it reads held-out characters: means over clips of the correlation of openings, and the share of right last expressions."""
    found: dict[str, list[float]] = {}
    for drawn, back, truth in lessons(range(FIRST_HELD, FIRST_HELD + clips), "heldout", vae):
        for kind, frames in (("drawn", drawn), ("given_back", back)):
            reading = tracker.read(frames)
            if truth[:, 0].std() > 0.02:
                found.setdefault(f"opening_{kind}", []).append(correlation(reading.opening, truth[:, 0]))
            right = int(reading.expression[-6:].mean(0).argmax()) == int(truth[-1, 1 : 1 + len(NAMES)].argmax())
            found.setdefault(f"expression_{kind}", []).append(float(right))
            found.setdefault(f"opening_error_{kind}", []).append(float((reading.opening - truth[:, 0]).abs().mean()))
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def main(clips: Path, folder: Path) -> None:
    """Teach, check, write tracker.safetensors and tracker.json."""
    from kinema.config import read_config
    from kinema.pipelines.base import ModelConfig
    from kinema.pipelines.store import CONFIG_FILE, PRETRAINED
    from kinema.weights import load_vae

    config = read_config(ModelConfig, PRETRAINED / "mini" / CONFIG_FILE)
    vae = load_vae(PRETRAINED / "mini" / "vae.safetensors", config.vae).float().eval()
    tracker = teach(clips, vae)
    scores = check(tracker, vae)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / SHIPPED.name) as draft:
        save_file({name: tensor.half().contiguous() for name, tensor in tracker.state_dict().items()}, draft)
    with whole_file(folder / "tracker.json") as draft:
        draft.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    print(json.dumps(scores))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
