"""Who is in a video, and where: three small networks on a frozen backbone, trained apart from every model they judge.

A frame is seen whole: one network finds where subjects are, one names the place. Then the found pieces are seen enlarged, and the
third names who is in them. A video's answer is the mean of its frames' probabilities. They learn from rendered clips and sprites
(`kinema.evaluate.naming`), never from what a model has made.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinema.errors import WeightsError
from kinema.media.files import whole_file
from kinema.media.imagenet import EfficientNetLite0
from kinema.world.looking import ROOM, SEEN, cut, fitted, middles_and_sides
from kinema.world.nets import Finder, Glimpse, GlimpseConfig, best_boxes

WEIGHTS, CONFIG = "recogniser.safetensors", "recogniser.json"
LOOKED_AT = 11  # frames of a video, evenly spread
PIECES = 2  # of a frame that are named
CELL = 16  # pixels of a cell of the finer map
SUBJECT, PLACE = GlimpseConfig(), GlimpseConfig(cell=128, width=256, dropout=0.3)


@dataclass(frozen=True)
class Reading:
    """What a video shows, as log-probabilities."""

    subjects: Float[Tensor, " subjects"]
    places: Float[Tensor, " places"]


class Sight(NamedTuple):
    """What was seen in every frame."""

    wholes: Float[Tensor, "T D"]  # the frame, as the place's network sees it
    pieces: Float[Tensor, "T PIECES E"]  # those that look most like a subject, as the subject's network sees them
    heat: Float[Tensor, "T PIECES"]  # how much they do, in [0, 1]
    boxes: Float[Tensor, "T PIECES 4"]  # left, top, right, bottom in frame heights
    middle: Float[Tensor, "T 112 h16 w16"]  # the backbone's maps
    last: Float[Tensor, "T 320 h32 w32"]


Maps = tuple[Tensor, Tensor]  # the backbone's: finer and coarser


def spread(frames: UInt8[Tensor, "T 3 H W"], count: int) -> UInt8[Tensor, "F 3 H W"]:
    """Up to `count` frames, evenly spread from the first to the last."""
    return frames[torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long()]


class Namer(nn.Module):
    """From the backbone's maps to logits of names."""

    def __init__(self, config: GlimpseConfig, names: int):
        super().__init__()
        self.glimpse, self.head = Glimpse(config), nn.Linear(config.width, names)

    def forward(self, middle: Float[Tensor, "B 112 h16 w16"], last: Float[Tensor, "B 320 h32 w32"]) -> Float[Tensor, "B names"]:
        return self.head(self.glimpse(middle, last))


class Judges(nn.Module):
    """All that is trained."""

    def __init__(self, subjects: int, places: int):
        super().__init__()
        self.finder, self.subject, self.place = Finder(), Namer(SUBJECT, subjects), Namer(PLACE, places)


class Recogniser(nn.Module):
    """The backbone, what was trained on it, and the names of the classes."""

    def __init__(self, subjects: tuple[str, ...], places: tuple[str, ...]):
        """subjects: ids of the animated subjects; places: names. Raises MissingExtraError without the backbone's package."""
        super().__init__()
        self.subjects, self.places = subjects, places
        self.backbone, self.judges = EfficientNetLite0.load(), Judges(len(subjects), len(places))

    @torch.inference_mode()
    def read(self, frames: UInt8[Tensor, "T 3 H W"]) -> Reading:
        """Look at a whole video."""
        return self.reading(self.look(spread(frames, LOOKED_AT)))

    @torch.inference_mode()
    def reading(self, sight: Sight) -> Reading:
        """The same from what was seen in some of its frames."""
        places = self.judges.place.head(sight.wholes).softmax(dim=-1).mean(dim=0)
        named = self.judges.subject.head(sight.pieces).softmax(dim=-1)
        subjects = (named * sight.heat[..., None]).sum(dim=(0, 1)) / sight.heat.sum()
        return Reading(subjects.log().cpu(), places.log().cpu())

    @torch.inference_mode()
    def look(self, frames: UInt8[Tensor, "T 3 H W"], maps: Maps | None = None) -> Sight:
        """Look at every frame. maps: what the backbone says of `fitted(frames)`, where that is known."""
        frames = frames.to(self.judges.place.head.weight.device)
        if frames.shape[-2] > SEEN:  # pieces are cut out by reading single pixels
            frames = (fitted(frames) * 255).round().to(torch.uint8)
        middle, last = maps or self.backbone(fitted(frames))
        boxes, heat = best_boxes(self.judges.finder(middle, last), PIECES, CELL * frames.shape[-2] / SEEN)
        middles, sides = middles_and_sides(boxes.flatten(0, 1))
        pieces = self.backbone(cut(frames.repeat_interleave(PIECES, dim=0), middles, sides * ROOM))
        seen = self.judges.subject.glimpse(*pieces).unflatten(0, heat.shape)
        return Sight(self.judges.place.glimpse(middle, last), seen, heat, boxes / frames.shape[-2], middle, last)

    def save(self, folder: Path) -> None:
        """Write float16 weights (the backbone's are in its package) and the names of the classes into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.half() if value.is_floating_point() else value for name, value in self.judges.state_dict().items()}
        (folder / CONFIG).write_text(json.dumps({"subjects": self.subjects, "places": self.places}))
        with whole_file(folder / WEIGHTS) as draft:
            save_file(state, draft)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Recogniser":
        """Read what `save` wrote, in float32.

        Raises WeightsError where it is missing or does not fit, MissingExtraError without the backbone's package.
        """
        try:
            named = json.loads((folder / CONFIG).read_text())
            state = load_file(folder / WEIGHTS)
            recogniser = cls(tuple(named["subjects"]), tuple(named["places"]))
            recogniser.judges.load_state_dict(
                {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
            )
        except WeightsError:
            raise
        except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            raise WeightsError(f"no recogniser in {folder} ({error}): train it with runs/recogniser.sh") from error
        return recogniser.eval().to(device)
