"""Who is in a video, and where: a small network trained apart from every model it judges.

The subject's network learns from clean sprites over random backgrounds (`practice.py`), the place's from rendered clips of the
training split. A video's answer is the mean of its frames' probabilities.

    python -m kinema.evaluate.recogniser --out DIR [--pack PATH] [--seconds 120] [--device cuda]
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kinema.errors import WeightsError
from kinema.evaluate.nets import FrameNet, place_net, subject_net
from kinema.evaluate.practice import Sprites, practice_batch
from kinema.evaluate.rendering import Rendered, start_rendering
from kinema.world.scenes import PLACES
from kinema.world.sprites import SpritePack

WEIGHTS, CONFIG, LOG = "recogniser.safetensors", "recogniser.json", "recogniser.jsonl"
PLACE_SHARE = 0.25  # of the seconds; the clips for it are rendered by other processes meanwhile
PEAK_RATE, WARM_UP, DECAY = 2e-3, 0.05, 0.05  # AdamW; the rate rises for a twentieth of the time, then falls as a cosine to 0
SMOOTHING = 0.1
LOG_EVERY = 25  # steps


@dataclass(frozen=True)
class Reading:
    """What a video shows, as log-probabilities."""

    subjects: Float[Tensor, "subjects"]
    places: Float[Tensor, "places"]


def fitted(frames: UInt8[Tensor, "T 3 H W"], size: int) -> Float[Tensor, "T 3 size w"]:
    """Frames in [0, 1], `size` pixels high, the width a multiple of 8 that keeps the aspect."""
    height, width = frames.shape[-2:]
    wide = max(8, round(width / height * size / 8) * 8)
    return F.interpolate(frames.float() / 255, size=(size, wide), mode="bilinear", antialias=True, align_corners=False)


class Recogniser(nn.Module):
    """Two networks and the names of their classes."""

    def __init__(self, subjects: tuple[str, ...], places: tuple[str, ...]):
        """subjects: ids of the animated subjects; places: names."""
        super().__init__()
        self.subjects, self.places = subjects, places
        self.subject_net = FrameNet(subject_net(len(subjects)))
        self.place_net = FrameNet(place_net(len(places)))

    @torch.inference_mode()
    def read(self, frames: UInt8[Tensor, "T 3 H W"]) -> Reading:
        """Look at a whole video. A mean of probabilities: frames that the subject has left spread theirs and so say little."""
        frames = frames.to(self.subject_net.head.weight.device)
        nets = (self.subject_net, self.place_net)
        return Reading(*(net(fitted(frames, net.config.size)).softmax(dim=-1).mean(dim=0).log().cpu() for net in nets))

    def save(self, folder: Path) -> None:
        """Write float16 weights and the names of the classes into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        halves = {name: value.half() if value.is_floating_point() else value for name, value in self.state_dict().items()}
        (folder / CONFIG).write_text(json.dumps({"subjects": self.subjects, "places": self.places}))
        (folder / WEIGHTS).write_bytes(save({name: value.contiguous() for name, value in halves.items()}))

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Recogniser":
        """Read what `save` wrote, in float32. Raises WeightsError where it is missing or does not fit."""
        try:
            names = json.loads((folder / CONFIG).read_text())
            state = load_file(folder / WEIGHTS)
            recogniser = cls(tuple(names["subjects"]), tuple(names["places"]))
            recogniser.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
        except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            raise WeightsError(f"no recogniser in {folder} ({error}): train it with runs/recogniser.sh") from error
        return recogniser.eval().to(device)


Batches = Iterator[tuple[Float[Tensor, "B 3 h w"], Int[Tensor, "B"]]]


def rate_at(progress: float) -> float:
    """The learning rate's share of its peak after a share of the time."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return float(torch.cos(torch.tensor(min(progress, 1.0) * torch.pi / 2)) ** 2)


def accuracies(logits: Float[Tensor, "B n"], wanted: Int[Tensor, "B"]) -> tuple[float, float]:
    """Shares of pictures whose class is the first, and among the first five."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == wanted[:, None]
    return float(best[:, 0].float().mean()), float(best.any(dim=1).float().mean())


def fit(net: FrameNet, batches: Batches, seconds: float, log: Path) -> None:
    """Train one network for `seconds`, appending a line to `log` now and then."""
    device = net.head.weight.device
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=DECAY, fused=device.type == "cuda")
    start = time.monotonic()
    for step, (pictures, wanted) in enumerate(batches):
        passed = time.monotonic() - start
        if passed > seconds:
            break
        optimizer.param_groups[0]["lr"] = PEAK_RATE * rate_at(passed / seconds)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):  # on CPUs its convolution gradients crawl
            logits = net(pictures.contiguous(memory_format=torch.channels_last)).float()
        loss = F.cross_entropy(logits, wanted, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % LOG_EVERY == 0:
            first, five = accuracies(logits.detach(), wanted)
            row = {
                "classes": net.config.classes,
                "step": step,
                "seconds": passed,
                "loss": float(loss.detach()),
                "top1": first,
                "top5": five,
            }
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    net.eval()


def subject_batches(sprites: Sprites, count: int, size: int) -> Batches:
    while True:
        yield practice_batch(sprites, count, size)


def place_batches(clips: Rendered, count: int) -> Batches:
    while True:
        yield clips.batch(count)


def train(pack: SpritePack, out: Path, seconds: float, device: str, batch: int) -> Recogniser:
    """Train both networks for `seconds` in all (the sprites' decoding apart) and write them into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    recogniser = Recogniser(tuple(subject.id for subject in pack.animated), tuple(PLACES)).to(device)
    size, log = recogniser.subject_net.config.size, out / LOG
    with start_rendering(pack.path, recogniser.place_net.config.size) as rendering:
        fit(recogniser.subject_net, subject_batches(Sprites.of(pack, device), batch, size), (1 - PLACE_SHARE) * seconds, log)
        clips = rendering.finish(recogniser.places, device)
    fit(recogniser.place_net, place_batches(clips, batch), PLACE_SHARE * seconds, log)
    recogniser.save(out)
    return recogniser


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the recogniser that scores the world's videos.")
    parser.add_argument("--pack", type=Path, help="sprite pack; default: where `kinema world build` puts it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=768)
    chosen = parser.parse_args()
    train(SpritePack.open(chosen.pack), chosen.out, chosen.seconds, chosen.device, chosen.batch)


if __name__ == "__main__":
    main()
