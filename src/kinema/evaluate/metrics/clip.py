"""One video as metrics see it: decoded once, and each costly thing (flow, what the judges see, features) found once and shared."""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.caption.camera import features, network, probabilities
from kinema.caption.flowfield import measure
from kinema.evaluate.alignment.model import ImageText, seen
from kinema.evaluate.alignment.styles import Styles
from kinema.evaluate.backbones import HEAD
from kinema.evaluate.direction import FLOW_HEIGHT, grey_frames, opencv
from kinema.records import CAMERA_MOVEMENTS
from kinema.vae.perceptual import PerceptualDistance
from kinema.world.asked import Asked, read
from kinema.world.recogniser import Reading, Sight

LOOKS = 9  # frames that the judges see, evenly spread; every other one is one of the image-text model's five
MOST_FRAMES = 129  # of a video; a longer one is thinned out evenly
FEWEST_FRAMES = 3


class Judges:
    """The networks, each loaded when first asked."""

    @cached_property
    def alignment(self) -> ImageText:
        return ImageText.load()

    @cached_property
    def styles(self) -> Styles:
        return Styles.load()

    @cached_property
    def perceptual(self) -> PerceptualDistance:
        return PerceptualDistance("hed")

    @cache  # noqa: B019  # one Judges a process
    def published(self, name: str) -> Any:
        """A name in `published.BACKBONES`."""
        from kinema.evaluate.published import BACKBONES

        return BACKBONES[name].load()

    @cache  # noqa: B019
    def text(self, prompt: str) -> Float[Tensor, " d"]:
        return self.alignment.text([prompt])[0]

    @torch.inference_mode()
    def texts(self, prompts: list[str]) -> Float[Tensor, "n d"]:
        return torch.stack([self.text(prompt) for prompt in prompts])


@dataclass
class Clip:
    """A video, its prompt, and perhaps the video that it should equal and the world's truth about it."""

    frames: UInt8[Tensor, "T H W 3"]
    fps: float
    prompt: str
    judges: Judges
    reference: UInt8[Tensor, "_ _ _ 3"] | None = None
    truth: Float[np.ndarray, "LOOKS 2"] | None = None  # the subject's middle, as `track` has it

    @cached_property
    def asked(self) -> Asked:
        return read(self.prompt)

    @cached_property
    def looked(self) -> UInt8[Tensor, "LOOKS 3 H W"]:
        places = torch.linspace(0, len(self.frames) - 1, LOOKS).round().long()
        return rearrange(self.frames[places], "T H W c -> T c H W")

    @cached_property
    def sight(self) -> Sight:
        return self.judges.alignment.judge.look(self.looked)

    @cached_property
    def reading(self) -> Reading:
        return self.judges.alignment.judge.reading(self.sight)

    @cached_property
    @torch.inference_mode()
    def seen(self) -> Float[Tensor, "LOOKS s"]:
        """What the image-text model's tower takes in of each frame looked at."""
        return seen(self.judges.alignment.judge, self.sight)

    @property
    def pooled(self) -> Float[Tensor, "LOOKS 1280"]:
        """EfficientNet-Lite0's vector of each frame looked at."""
        return self.seen[:, -HEAD:]

    @cached_property
    def vector(self) -> Float[Tensor, " d"]:
        """Of the video-text model."""
        half = Sight(*(part[::2] for part in self.sight))
        return self.judges.alignment.seen_video(self.looked[::2], half)

    @cached_property
    @torch.inference_mode()
    def named(self) -> Float[np.ndarray, "LOOKS PIECES subjects"]:
        """Who each piece shows, as probabilities."""
        return self.judges.alignment.judge.judges.subject.head(self.sight.pieces).softmax(dim=-1).numpy()

    @cached_property
    def grey(self) -> list[UInt8[np.ndarray, "h w"]]:
        """All frames, FLOW_HEIGHT high."""
        return grey_frames(self.frames)

    @cached_property
    def flow(self) -> Float[np.ndarray, "S h w 2"]:
        """Optical flow from each frame to the next, (right, down) in frame heights (DIS; Kroeger et al. 2016)."""
        search = opencv().DISOpticalFlow_create(opencv().DISOPTICAL_FLOW_PRESET_FAST)
        return np.stack([search.calc(before, after, None) for before, after in pairwise(self.grey)]) / FLOW_HEIGHT

    @cached_property
    def camera(self) -> dict[str, float]:
        """The chance of each of the 14 camera movements."""
        chances = probabilities(features(measure(self.frames.numpy(), self.fps)), network())
        return dict(zip(CAMERA_MOVEMENTS, chances.tolist(), strict=True))

    @cached_property
    def track(self) -> Float[np.ndarray, "LOOKS 2"]:
        """Middle (x, y) of the piece that looks most like a subject, in frame heights."""
        boxes = self.sight.boxes[:, 0].numpy()
        return (boxes[:, :2] + boxes[:, 2:]) / 2


def thinned(frames: UInt8[Tensor, "T H W 3"], fps: float) -> tuple[UInt8[Tensor, "t H W 3"], float]:
    """At most MOST_FRAMES, evenly spread, and their rate."""
    if len(frames) <= MOST_FRAMES:
        return frames, fps
    places = torch.linspace(0, len(frames) - 1, MOST_FRAMES).round().long()
    return frames[places], fps * MOST_FRAMES / len(frames)
