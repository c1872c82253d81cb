"""What a clip shows, field by field, seen offline: frozen networks, and a small trained judge that says how sure it is.

EfficientNet-Lite0 sees frames; the world's recogniser says who and where in the world's clips; ImageNet's classes, gathered into plain
words (`everyday.tsv`), say what elsewhere. The judge (`pretrained/captioner`) reads style, light, weather and framing from pooled features
and colours, and whether a clip is one of the world at all. A field below its threshold stays empty: nothing is invented.
"""

import csv
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from kinema.errors import WeightsError
from kinema.media.imagenet import class_logits
from kinema.world.light import LIGHTS
from kinema.world.recogniser import PIECES, Maps, Recogniser, Sight, spread
from kinema.world.spec import SHOTS
from kinema.world.sprites import labelled_subjects
from kinema.world.style import STYLES
from kinema.world.weather import WEATHERS

PRETRAINED = Path(__file__).parents[1] / "pretrained"
WEIGHTS, SURE = PRETRAINED / "captioner" / "captioner.safetensors", PRETRAINED / "captioner" / "thresholds.json"
TABLE = Path(__file__).with_name("everyday.tsv")
FILMED = ("3D animation", "live action")  # styles of clips that are not the world's
CHOICES: dict[str, tuple[str, ...]] = {
    "style": (*STYLES, *FILMED), "light": tuple(LIGHTS), "weather": tuple(WEATHERS), "shot": tuple(SHOTS),
}  # fmt: skip
FRAMES, GRID, HIDDEN = 5, 3, 96
WIDTH = 320 + 2 * 112 + 3 * GRID**2 + 3 + 5 + 2 + 3 * PIECES
DIM, BRIGHT = 60.0, 95.0  # mean luma; between them nothing is said of a filmed clip's light

Frames = UInt8[Tensor, "T 3 H W"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Names out of the tables; "" where not sure. is_world: whether the words are the world's. light of a filmed clip: bright or dim."""

    is_world: bool
    subject: str = ""  # a noun
    place: str = ""  # a name in PLACES, or of a filmed clip words such as "by a lake"
    style: str = ""
    light: str = ""
    weather: str = ""
    shot: str = ""


@dataclass(frozen=True)
class Chances:
    """Probabilities before anything is left out; of each field its best names and how likely they are."""

    best: dict[str, tuple[str, float]]
    world: float  # that the clip is one of the world
    luma: float  # mean, 0 to 255


class Judge(nn.Module):
    """From features to logits of every choice; 0.1 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.enter = nn.BatchNorm1d(WIDTH, affine=False), nn.Linear(WIDTH, HIDDEN)
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, len(names)) for name, names in CHOICES.items()})

    def forward(self, features: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        inside = F.dropout(F.gelu(self.enter(F.dropout(self.scale(features).clamp(-6, 6), 0.3, self.training))), 0.3, self.training)
        return {name: head(inside) for name, head in self.heads.items()}


def colours(frames: Frames) -> Float[Tensor, "T d"]:
    """Mean colour in nine fields, deviations, levels of luma, saturation; in [0, 1]."""
    small = F.interpolate(frames.float() / 255, size=(48, 48), mode="area")
    luma, saturation = small.mean(dim=1).flatten(1), (small.amax(dim=1) - small.amin(dim=1)).flatten(1)
    levels = torch.quantile(luma, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]), dim=1).T
    fields = F.adaptive_avg_pool2d(small, GRID).flatten(1)
    return torch.cat([fields, small.flatten(2).std(dim=2), levels, saturation.mean(1, keepdim=True), saturation.std(1, keepdim=True)], 1)


def features(
    frames: Frames,
    middle: Float[Tensor, "T 112 h w"],
    last: Float[Tensor, "T 320 _ _"],
    boxes: Float[Tensor, "T k 4"],
    heat: Float[Tensor, "T k"],
) -> Float[Tensor, " d"]:
    """One vector a clip. middle, last: the backbone's maps; boxes: of what looks like a subject, in frame heights, and how much it does."""
    sizes = (boxes[..., 2:] - boxes[..., :2]).flatten(1)
    parts = [last.mean(dim=(2, 3)), middle.mean(dim=(2, 3)), middle.flatten(2).std(dim=2), colours(frames), sizes, heat]
    return torch.cat(parts, dim=1).mean(dim=0)


@cache
def everyday() -> list[tuple[str, str, str, list[int]]]:
    """Rows of the table: kind, word, the wider word, and ImageNet's classes."""
    with TABLE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [(row["kind"], row["word"], row["above"] or "", classes(row["classes"])) for row in rows]


def classes(text: str) -> list[int]:
    """ "3-5 9" -> 3, 4, 5, 9"""
    ends = [list(map(int, part.split("-"))) for part in text.split()]
    return [number for end in ends for number in range(end[0], end[-1] + 1)]


def everyday_best(chances: Float[Tensor, " 1000"]) -> dict[str, tuple[str, float]]:
    """The likeliest word of each kind, and the likeliest wider word ("wider")."""
    sums: dict[str, dict[str, float]] = {"subject": {}, "place": {}, "wider": {}}
    for kind, word, above, numbers in everyday():
        share = float(chances[numbers].sum())
        sums[kind][word] = share
        if above:
            sums["wider"][above] = sums["wider"].get(above, 0.0) + share
    return {kind: max(found.items(), key=lambda pair: pair[1]) for kind, found in sums.items()}


class Eyes:
    """The networks, loaded once. Raises WeightsError or MissingExtraError where one is missing."""

    @cached_property
    def recogniser(self) -> Recogniser:
        return Recogniser.load(PRETRAINED / "recogniser")

    @cached_property
    def judge(self) -> Judge:
        judge = Judge()
        try:
            judge.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"no judge at {WEIGHTS} ({error}): reinstall kinema, or train it with runs/captioner.sh") from error
        return judge.eval()

    @cached_property
    def thresholds(self) -> dict[str, float]:
        return json.loads(SURE.read_text())

    @torch.inference_mode()
    def chances(self, frames: Frames, maps: Maps | None = None) -> Chances:
        """frames: of one clip, at least one; five are looked at. maps: the backbone's of just these, where they are known."""
        some = spread(frames, FRAMES)
        sight = self.recogniser.look(some, maps)
        vector = features(some, sight.middle, sight.last, sight.boxes, sight.heat)
        found = {name: logits[0].softmax(-1) for name, logits in self.judge(vector[None]).items()}
        best = {name: (CHOICES[name][int(row.argmax())], float(row.max())) for name, row in found.items()}
        world = 1 - float(found["style"][-len(FILMED) :].sum())
        return Chances(best | self.who_and_where(sight, world > 0.5), world, float(some.float().mean()))

    def who_and_where(self, sight: Sight, is_world: bool) -> dict[str, tuple[str, float]]:
        if not is_world:
            return everyday_best(class_logits(self.recogniser.backbone.pooled(sight.last)).softmax(-1).mean(dim=0))
        read, nouns = self.recogniser.reading(sight), dict[str, float]()
        for chance, subject in zip(read.subjects.exp().tolist(), self.recogniser.subjects, strict=True):
            nouns[names()[subject]] = nouns.get(names()[subject], 0.0) + chance
        place = int(read.places.argmax())
        best_noun = max(nouns.items(), key=lambda pair: pair[1])
        return {"subject": best_noun, "place": (self.recogniser.places[place], float(read.places[place].exp()))}

    def see(self, frames: Frames) -> Seen:
        """Every field that is sure enough."""
        return sure(self.chances(frames), self.thresholds)


@cache
def names() -> dict[str, str]:
    """The nouns of the world's subjects by id."""
    return {subject.id: subject.noun for subject in labelled_subjects()}


def sure(found: Chances, limits: dict[str, float]) -> Seen:
    """What reaches its threshold. limits: of the world's fields by name, of a filmed clip's as "filmed.NAME"."""
    if found.world >= limits["world"]:
        told = {name: found.best[name][0] for name in ("subject", "place", *CHOICES) if found.best[name][1] >= limits[name]}
        return Seen(is_world=True, **told)
    if 1 - found.world < limits["filmed"] or "wider" not in found.best:
        return Seen(is_world=False)
    told = {name: found.best[name][0] for name in ("subject", "place", "style") if found.best[name][1] >= limits[f"filmed.{name}"]}
    if "subject" not in told and found.best["wider"][1] >= limits["filmed.subject"]:
        told["subject"] = found.best["wider"][0]
    light = "dim" if found.luma < DIM else "bright" if found.luma > BRIGHT else ""
    return Seen(is_world=False, light=light, **told)
