"""How the camera moves in a clip of one shot: one of 14 movements, or none where it is not clear.

    python -m kinema.caption.camera FILE...

Two classifiers read the same flow field. `by_rules` has no weights: each pair of frames votes by the affine motion that fits it, and the
confidence is the share of votes. `classify` is a small network on statistics of the field, 47 kB; its card, with confusion matrix, is
`pretrained/camera/README.md`. Only what is at least `SURE` is told: HunyuanVideo too adds only what it is confident of.
Pan is taken as the camera travelling, tilt as it turning: the paper names both with four directions and defines neither.
"""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from kinema.caption.flowfield import FlowField, affine, measure, places
from kinema.errors import InputError, WeightsError
from kinema.records import CAMERA_MOVEMENTS

SURE = 0.6
WEIGHTS = Path(__file__).parents[1] / "pretrained" / "camera" / "camera.npz"
STILL = 0.012  # frame heights a second
SHAKES = 0.45  # of the way that the camera goes, the share that gets it anywhere; less is a shake
PARALLAX = 0.22  # what an affine motion leaves over, as a share of it: more, and the camera travels
EDGE = 0.5  # frame heights from the middle, where a zoom's speed is compared with a shift's


@dataclass(frozen=True)
class Movement:
    """name: the likeliest of CAMERA_MOVEMENTS. confidence: 0 to 1; how often it is right at that confidence is in the card."""

    name: str
    confidence: float

    @property
    def told(self) -> str:
        """The movement for a caption: empty where it is not sure."""
        return self.name if self.confidence >= SURE else ""


def movement(frames: UInt8[np.ndarray, "T H W 3"], fps: float) -> Movement:
    """Of a clip of one shot, by the network. Raises InputError for fewer than three frames; MissingExtraError without OpenCV."""
    return classify(measure(frames, fps))


def direction(x: float, y: float, kind: str) -> str:
    """The picture's speed to the camera's name: when it turns left, the picture goes right."""
    if abs(x) >= abs(y):
        return f"{kind} left" if x > 0 else f"{kind} right"
    return f"{kind} up" if y > 0 else f"{kind} down"


def by_rules(field: FlowField) -> Movement:
    """The baseline: geometry alone, nothing trained."""
    fit = affine(field)  # [P 3 2]
    shift, growth = fit[:, 0], (fit[:, 1, 0] + fit[:, 2, 1]) / 2
    way = np.abs(shift).sum(axis=0) + EDGE * np.abs(growth).sum()
    gone = np.abs(shift.sum(axis=0)) + EDGE * np.abs(growth.sum())
    if way.max() / len(shift) < STILL:
        return Movement("static", 1.0)
    if gone.max() < SHAKES * way.max():
        return Movement("handheld", float(1 - gone.max() / way.max()))
    votes = [vote(field, index, fit[index]) for index in range(len(fit))]
    name = max(CAMERA_MOVEMENTS, key=votes.count)
    return Movement(name, votes.count(name) / len(votes))


def vote(field: FlowField, index: int, fit: Float[np.ndarray, "3 2"]) -> str:
    """What one pair of frames says."""
    (x, y), growth = fit[0], (fit[1, 0] + fit[2, 1]) / 2
    speed = float(np.hypot(x, y))
    if max(speed, EDGE * abs(growth)) < STILL:
        return "static"
    if EDGE * abs(growth) > speed:
        return "zoom in" if growth > 0 else "zoom out"
    where = np.concatenate([np.ones((*field.trust.shape[1:], 1)), places(field.aspect)], axis=2)
    left = np.linalg.norm(field.speed[index] - where @ fit, axis=2)
    sheared = EDGE * abs(fit[2, 0])  # the ground passes faster than the horizon
    parallax = (float((left * field.trust[index]).sum() / (field.trust[index].sum() + 1e-9)) + sheared) / speed
    if parallax < PARALLAX:
        return direction(x, y, "tilt")
    middle, rim = field.speed[index, 2:4, 3:5, 0].mean(), field.speed[index, :, [0, -1], 0].mean()
    if abs(x) > abs(y) and abs(middle) < 0.4 * abs(rim):
        return "around left" if rim < 0 else "around right"
    return direction(x, y, "pan")


def features(field: FlowField) -> Float[np.ndarray, " F"]:
    """What the network sees: each cell's mean speed and how it varies, the camera's affine motion, where there is texture."""
    fit, trust = affine(field).reshape(len(field.speed), -1), field.trust[..., None]
    seen = field.speed * np.minimum(1, trust * 2)
    mean, spread = seen.mean(axis=0).ravel(), seen.std(axis=0).ravel()
    steps = np.abs(np.diff(fit, axis=0)).mean(axis=0) if len(fit) > 1 else np.zeros(6)
    size = np.log(np.abs(fit).mean(axis=0) + 1e-3)
    unit = mean / (np.abs(mean).mean() + 0.01)  # the pattern, whatever its speed
    shape = [field.aspect, np.log(np.abs(mean).mean() + 1e-3), np.log(spread.mean() + 1e-3)]
    parts = (
        mean * 10,
        unit,
        spread * 10,
        fit.mean(axis=0) * 10,
        fit.std(axis=0) * 10,
        steps * 10,
        size,
        field.trust.mean(axis=0).ravel(),
        shape,
    )
    return np.clip(np.concatenate(parts), -8, 8).astype(np.float32)


@cache
def network() -> dict[str, np.ndarray]:
    """The shipped weights. Raises WeightsError where they are missing."""
    if not WEIGHTS.is_file():
        raise WeightsError(f"{WEIGHTS} is missing: reinstall Kinema, or train it with python -m kinema.caption.camera_training")
    with np.load(WEIGHTS) as kept:
        return {name: kept[name].astype(np.float32) for name in kept.files}


def classify(field: FlowField) -> Movement:
    """The trained classifier."""
    chances = probabilities(features(field), network())
    best = int(chances.argmax())
    return Movement(CAMERA_MOVEMENTS[best], float(chances[best]))


def probabilities(seen: Float[np.ndarray, "*B F"], net: dict[str, np.ndarray]) -> Float[np.ndarray, "*B 14"]:
    """Three layers, and a temperature fitted on clips held back."""
    hidden = (seen - net["mean"]) / net["scale"]
    for layer in ("1", "2"):
        hidden = np.maximum(hidden @ net[f"w{layer}"] + net[f"b{layer}"], 0)
    logits = (hidden @ net["w3"] + net["b3"]) / net["temperature"]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def main(paths: list[str]) -> int:
    """Print file, movement and confidence, a line each; "unsure" below SURE."""
    from kinema.media.video import read_video

    if not paths:
        print("usage: python -m kinema.caption.camera FILE...", file=sys.stderr)
        return 2
    status = 0
    for path in paths:
        try:
            found = movement(*_arrays(*read_video(path)))
            print(f"{path}\t{found.told or 'unsure'}\t{found.confidence:.2f}", flush=True)
        except InputError as error:
            print(f"kinema: error: {error}", file=sys.stderr)
            status = 2
    return status


def _arrays(frames, fps: float) -> tuple[np.ndarray, float]:
    return frames.numpy(), fps


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
