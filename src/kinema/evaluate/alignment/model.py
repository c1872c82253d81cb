"""Two towers into one space: pictures and videos on one side, texts on the other; what belongs together points the same way.

Pictures: EfficientNet-Lite0 (frozen) and what the recogniser sees in them (frozen too). Videos: the mean of five pictures, plus what
moves between them: where the found pieces are, and optical flow on a coarse grid. Texts: MiniLM's token states (frozen), looked at by
learned queries. Trained on the embedded world alone (`training.py`): strong there, weak on anything else.
"""

import hashlib
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinema.errors import InputError, WeightsError
from kinema.evaluate.backbones import HEAD, MiniLM
from kinema.evaluate.direction import FLOW_HEIGHT, grey_frames, opencv
from kinema.evaluate.practice import FRAMES
from kinema.media.files import whole_file
from kinema.world import recogniser
from kinema.world.recogniser import PIECES, PLACE, SUBJECT, Recogniser, Sight, spread

PRETRAINED = Path(__file__).parents[2] / "pretrained"
ALIGNMENT, RECOGNISER = PRETRAINED / "alignment", PRETRAINED / "recogniser"
WEIGHTS = "alignment.safetensors"
STATES = 384  # width of MiniLM
BATCH = 32  # pictures or texts at a time


@dataclass(frozen=True, kw_only=True)
class TowersConfig:
    """Sizes of what is trained."""

    width: int = 256  # d of the common space
    inner: int = 384
    motion: int = 512  # inner width of what sees motion
    queries: int = 4  # of the text tower
    dropout: float = 0.2


class View(NamedTuple):
    """What the frozen networks and the flow say of pictures, as the tower takes it."""

    seen: Float[Tensor, "*n s"]  # by the recogniser's two networks, and the backbone's pooled vector
    moving: Float[Tensor, "*n m"]  # the found pieces: their boxes in frame heights, and how much each looks like a subject; the flow


GRID = 8  # cells along a side in which flow is averaged
SEEN, MOVING = PLACE.width + SUBJECT.width + HEAD, 5 * PIECES + 2 * GRID**2


def view(judge: Recogniser, frames: UInt8[Tensor, "T 3 H W"], sight: Sight) -> View:
    """Of pictures that follow one another. sight: what `judge.look` sees in them."""
    where = torch.cat([sight.boxes, sight.heat[..., None]], dim=-1).flatten(1)
    return View(seen(judge, sight), torch.cat([where, flow_to_next(frames).to(where)], dim=-1))


def seen(judge: Recogniser, sight: Sight) -> Float[Tensor, "T s"]:
    """The frame as the judge of places sees it, its pieces as that of subjects does, the backbone's pooled vector."""
    heat = sight.heat[..., None]
    piece = (sight.pieces * heat).sum(dim=1) / heat.sum(dim=1)
    return torch.cat([sight.wholes, piece, judge.backbone.pooled(sight.last)], dim=-1)


def flow_to_next(frames: UInt8[Tensor, "T 3 H W"]) -> Float[Tensor, "T f"]:
    """Optical flow from each picture to the next, (right, down) in frame heights on a grid; zeros for the last.

    Raises MissingExtraError without OpenCV.
    """
    finder = opencv().DISOpticalFlow_create(opencv().DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = grey_frames(rearrange(frames, "T c H W -> T H W c"))
    flows = [torch.from_numpy(finder.calc(before, after, None)) / FLOW_HEIGHT for before, after in pairwise(grey)]
    whole = torch.stack([*flows, torch.zeros(*grey[0].shape, 2)])
    return F.adaptive_avg_pool2d(rearrange(whole, "T h w two -> T two h w"), GRID).flatten(1)


class Motion(nn.Module):
    """How a video's pieces and its flow change from frame to frame."""

    def __init__(self, config: TowersConfig):
        super().__init__()
        entering = FRAMES * MOVING
        self.norm = nn.BatchNorm1d(entering, affine=False)
        self.rise = nn.Sequential(
            nn.Linear(entering, config.motion),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.motion, config.inner),
            nn.GELU(),
            nn.Linear(config.inner, config.width),
        )

    def forward(self, moving: Float[Tensor, "B T m"]) -> Float[Tensor, "B d"]:
        return self.rise(self.norm(moving.flatten(1)).clamp(-5, 5))


def rising(entering: int, config: TowersConfig) -> nn.Sequential:
    """The last layers of a tower."""
    return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(entering, config.inner), nn.GELU(), nn.Linear(config.inner, config.width))


class Seeing(nn.Module):
    """The tower of pictures and videos."""

    def __init__(self, config: TowersConfig):
        super().__init__()
        self.norm, self.rise, self.motion = nn.LayerNorm(SEEN), rising(SEEN, config), Motion(config)

    def pictures(self, seen: Float[Tensor, "*n s"]) -> Float[Tensor, "*n d"]:
        return self.rise(self.norm(seen))

    def video(self, views: View) -> Float[Tensor, "B d"]:
        return F.normalize(self.pictures(views.seen).mean(dim=1) + self.motion(views.moving), dim=-1)


class Reading(nn.Module):
    """The tower of texts."""

    def __init__(self, config: TowersConfig):
        super().__init__()
        self.attention = nn.Linear(STATES, config.queries)
        self.rise = rising((config.queries + 1) * STATES, config)

    def forward(self, states: Float[Tensor, "n L 384"], seen: Bool[Tensor, "n L"]) -> Float[Tensor, "n d"]:
        """seen: which tokens there are; the others are padding."""
        scores = self.attention(states).masked_fill(~seen[..., None], -torch.inf)
        looked = torch.einsum("n L q, n L s -> n q s", scores.softmax(dim=1), states)
        whole = (states * seen[..., None]).sum(1, keepdim=True) / seen.sum(1)[:, None, None]
        return F.normalize(self.rise(rearrange(torch.cat([looked, whole], 1), "n q s -> n (q s)")), dim=-1)


class Towers(nn.Module):
    """All that is trained."""

    def __init__(self, config: TowersConfig):
        super().__init__()
        self.config = config
        self.seeing, self.reading = Seeing(config), Reading(config)
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # of products, in the loss

    def save(self, path: Path, judge: str) -> None:
        """float16 weights; the sizes, and the SHA-256 of the recogniser's weights, stand in the file's metadata."""
        metadata = {name: str(value) for name, value in asdict(self.config).items()} | {"recogniser": judge}
        state = {name: value.half() if value.is_floating_point() else value for name, value in self.state_dict().items()}
        with whole_file(path) as draft:
            save_file(state, draft, metadata)

    @classmethod
    def load(cls, path: Path) -> tuple["Towers", str]:
        """What `save` wrote, in float32, and the recogniser's SHA-256. Raises WeightsError where it is missing or does not fit."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
            judge = metadata.pop("recogniser")
            sizes: dict[str, Any] = {name: float(value) if name == "dropout" else int(value) for name, value in metadata.items()}
            towers = cls(TowersConfig(**sizes))
            state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
            towers.load_state_dict(state)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"no image-text model in {path} ({error}): train it with runs/alignment.sh") from error
        return towers, judge


def weights_hash(folder: Path) -> str:
    """SHA-256 of a recogniser's weights."""
    return hashlib.sha256((folder / recogniser.WEIGHTS).read_bytes()).hexdigest()


class ImageText:
    """Pictures, videos and texts to unit vectors of one space; their products say how well they fit."""

    def __init__(self, towers: Towers, judge: Recogniser, device: str = "cpu"):
        """Raises MissingExtraError where MiniLM's package is not installed."""
        self.towers, self.judge, self.device = towers.eval().to(device), judge.to(device), device
        self.minilm = MiniLM()

    @classmethod
    def load(cls, folder: Path = ALIGNMENT, judge: Path = RECOGNISER, device: str = "cpu") -> "ImageText":
        """The shipped model, or another one with the recogniser that it was trained on.

        Raises WeightsError where either is missing or they do not belong together.
        """
        (towers, trained_on), eyes = Towers.load(folder / WEIGHTS), Recogniser.load(judge, device)
        if weights_hash(judge) != trained_on:
            raise WeightsError(f"{folder} was trained on another recogniser than that of {judge}: train it again with runs/alignment.sh")
        return cls(towers, eyes, device)

    @torch.inference_mode()
    def image(self, frames: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, "n d"]:
        """Single pictures, in any size."""
        parts = [self.towers.seeing.pictures(seen(self.judge, self.judge.look(some))) for some in frames.split(BATCH)]
        return F.normalize(torch.cat(parts), dim=-1).cpu()

    @torch.inference_mode()
    def video(self, frames: UInt8[Tensor, "T 3 H W"]) -> Float[Tensor, " d"]:
        """A whole video: five of its frames, evenly spread; of fewer, some are seen twice."""
        if not len(frames):
            raise InputError("a video without frames has no vector")
        some = spread(frames, FRAMES)
        some = some[torch.linspace(0, len(some) - 1, FRAMES).round().long()]
        return self.seen_video(some, self.judge.look(some))

    @torch.inference_mode()
    def seen_video(self, frames: UInt8[Tensor, "5 3 H W"], sight: Sight) -> Float[Tensor, " d"]:
        """The same from five frames that the recogniser has looked at."""
        return self.towers.seeing.video(View(*(part[None] for part in view(self.judge, frames, sight))))[0].cpu()

    @torch.inference_mode()
    def text(self, texts: list[str]) -> Float[Tensor, "n d"]:
        """Texts of up to 256 tokens; what is longer is cut."""
        groups = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        parts = [self.towers.reading(*padded(self.minilm.states(group), self.device)).cpu() for group in groups]
        return torch.cat(parts) if parts else torch.zeros(0, self.towers.config.width)


def padded(
    states: list[Float[Tensor, "_ 384"]], device: str | torch.device = "cpu"
) -> tuple[Float[Tensor, "n L 384"], Bool[Tensor, "n L"]]:
    """Token states of several texts in one tensor, and which of them there are."""
    lengths = torch.tensor([len(state) for state in states])
    whole = nn.utils.rnn.pad_sequence([state.float() for state in states], batch_first=True)
    return whole.to(device), (torch.arange(whole.shape[1]) < lengths[:, None]).to(device)
