"""RAFT: optical flow by matching all pixels with all, refined step by step (Teed & Deng 2020, arXiv 2003.12039, the large model).

Written from the paper; modules bear the names that torchvision's checkpoints have, and `renamed` translates the authors' own, so that
both load whole or not at all.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinema.errors import InputError, WeightsError

STEM, WIDTHS, FEATURES = 64, (64, 96, 128), 256  # channels
HIDDEN, CONTEXT, MOTION = 128, 128, 128
LEVELS, RADIUS, STRIDE = 4, 4, 8  # of the correlation pyramid; cells around a place; pixels of a cell
SMALLEST = STRIDE << LEVELS  # pixels: below, the pyramid's top has no extent
STEPS = 20  # as VBench takes


class Match(nn.Sequential):
    """A convolution that keeps the size up to its stride, and what follows it."""

    def __init__(self, channels_in: int, channels: int, kernel: int, *after: nn.Module, stride: int = 1):
        super().__init__(nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2), *after)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; keeps or halves the size."""

    def __init__(self, channels_in: int, channels: int, norm: type[nn.Module], stride: int):
        super().__init__()
        self.convnormrelu1 = Match(channels_in, channels, 3, norm(channels), nn.ReLU(), stride=stride)
        self.convnormrelu2 = Match(channels, channels, 3, norm(channels), nn.ReLU())
        self.downsample = Match(channels_in, channels, 1, norm(channels), stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d _ _"]:
        return F.relu(self.downsample(x) + self.convnormrelu2(self.convnormrelu1(x)))


class Encoder(nn.Module):
    """Pictures in [-1, 1] to FEATURES channels a cell of STRIDE pixels."""

    def __init__(self, norm: type[nn.Module]):
        super().__init__()
        self.convnormrelu = Match(3, STEM, 7, norm(STEM), nn.ReLU(), stride=2)
        self.layer1 = self.stage(STEM, WIDTHS[0], norm, 1)
        self.layer2 = self.stage(WIDTHS[0], WIDTHS[1], norm, 2)
        self.layer3 = self.stage(WIDTHS[1], WIDTHS[2], norm, 2)
        self.conv = nn.Conv2d(WIDTHS[2], FEATURES, 1)

    @staticmethod
    def stage(channels_in: int, channels: int, norm: type[nn.Module], stride: int) -> nn.Sequential:
        return nn.Sequential(Residual(channels_in, channels, norm, stride), Residual(channels, channels, norm, 1))

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B d h w"]:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(pictures)))))


class MotionEncoder(nn.Module):
    """What the correlations around the present flow and that flow say, in MOTION channels, the flow the last two."""

    def __init__(self):
        super().__init__()
        self.convcorr1 = Match(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1, nn.ReLU())
        self.convcorr2 = Match(256, 192, 3, nn.ReLU())
        self.convflow1 = Match(2, 128, 7, nn.ReLU())
        self.convflow2 = Match(128, 64, 3, nn.ReLU())
        self.conv = Match(192 + 64, MOTION - 2, 3, nn.ReLU())

    def forward(self, flow: Float[Tensor, "B 2 h w"], found: Float[Tensor, "B k h w"]) -> Float[Tensor, "B d h w"]:
        both = torch.cat([self.convcorr2(self.convcorr1(found)), self.convflow2(self.convflow1(flow))], dim=1)
        return torch.cat([self.conv(both), flow], dim=1)


class ConvGRU(nn.Module):
    """A gated recurrent unit whose matrices are convolutions along one axis."""

    def __init__(self, kernel: tuple[int, int]):
        super().__init__()
        pad = (kernel[0] // 2, kernel[1] // 2)
        self.convz, self.convr, self.convq = (nn.Conv2d(HIDDEN + CONTEXT + MOTION, HIDDEN, kernel, padding=pad) for _ in range(3))

    def forward(self, state: Float[Tensor, "B d h w"], told: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        both = torch.cat([state, told], dim=1)
        update, reset = self.convz(both).sigmoid(), self.convr(both).sigmoid()
        new = self.convq(torch.cat([reset * state, told], dim=1)).tanh()
        return (1 - update) * state + update * new


class RecurrentBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.convgru1, self.convgru2 = ConvGRU((1, 5)), ConvGRU((5, 1))

    def forward(self, state: Float[Tensor, "B d h w"], told: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        return self.convgru2(self.convgru1(state, told), told)


class FlowHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, state: Float[Tensor, "B d h w"]) -> Float[Tensor, "B 2 h w"]:
        return self.conv2(F.relu(self.conv1(state)))


class UpdateBlock(nn.Module):
    """One step: the state hears of the correlations at the present flow, and corrects it."""

    def __init__(self):
        super().__init__()
        self.motion_encoder, self.recurrent_block, self.flow_head = MotionEncoder(), RecurrentBlock(), FlowHead()

    def forward(
        self,
        state: Float[Tensor, "B d h w"],
        context: Float[Tensor, "B c h w"],
        flow: Float[Tensor, "B 2 h w"],
        found: Float[Tensor, "B k h w"],
    ) -> tuple[Float[Tensor, "B d h w"], Float[Tensor, "B 2 h w"]]:
        state = self.recurrent_block(state, torch.cat([context, self.motion_encoder(flow, found)], dim=1))
        return state, flow + self.flow_head(state)


class MaskPredictor(nn.Module):
    """For each pixel of a cell, logits of the nine cells around it."""

    def __init__(self):
        super().__init__()
        self.convrelu = Match(HIDDEN, 256, 3, nn.ReLU())
        self.conv = nn.Conv2d(256, 9 * STRIDE**2, 1)

    def forward(self, state: Float[Tensor, "B d h w"]) -> Float[Tensor, "B m h w"]:
        return self.conv(self.convrelu(state)) / 4  # the paper's factor, which evens out gradients


class RAFT(nn.Module):
    """Two sets of frames to the flow from one to the other."""

    def __init__(self):
        super().__init__()
        self.feature_encoder, self.context_encoder = Encoder(nn.InstanceNorm2d), Encoder(nn.BatchNorm2d)
        self.update_block, self.mask_predictor = UpdateBlock(), MaskPredictor()

    @classmethod
    def load(cls, path: str) -> "RAFT":
        """From a file of torchvision or of the authors. Raises WeightsError where it is not here, or is another network's."""
        if not Path(path).is_file():
            raise WeightsError(f"{path} is not on this machine")
        net = cls()
        state = renamed(torch.load(path, map_location="cpu", weights_only=True))
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f"{path} is not RAFT's large model: {' '.join(str(error).split())[:300]}") from error
        return net.eval()

    @torch.inference_mode()
    def flow(self, before: UInt8[Tensor, "B 3 H W"], after: UInt8[Tensor, "B 3 H W"], steps: int = STEPS) -> Float[Tensor, "B 2 H W"]:
        """(right, down) in pixels. Raises InputError for frames below 128 pixels."""
        height, width = before.shape[2:]
        if min(height, width) < SMALLEST:
            raise InputError(f"frames of {height}x{width}: RAFT needs {SMALLEST} pixels or more")
        pads = [side for length in (width, height) for side in (-length % STRIDE // 2, -length % STRIDE - -length % STRIDE // 2)]
        first, second = (F.pad(frames.float() / 127.5 - 1, pads, mode="replicate") for frames in (before, after))
        return self(first, second, steps)[..., pads[2] : pads[2] + height, pads[0] : pads[0] + width]

    def forward(self, first: Float[Tensor, "B 3 H W"], second: Float[Tensor, "B 3 H W"], steps: int) -> Float[Tensor, "B 2 H W"]:
        """Pictures in [-1, 1], sides of whole cells."""
        pyramid = correlations(*self.feature_encoder(torch.cat([first, second])).chunk(2))
        state, context = self.context_encoder(first).split([HIDDEN, CONTEXT], dim=1)
        state, context = state.tanh(), context.relu()
        flow = torch.zeros_like(state[:, :2])
        for _ in range(steps):
            state, flow = self.update_block(state, context, flow, around(pyramid, flow))
        return enlarged(flow, self.mask_predictor(state))


def correlations(a: Float[Tensor, "B d h w"], b: Float[Tensor, "B d h w"]) -> list[Float[Tensor, "_ 1 _ _"]]:
    """Products of every cell of the first picture with all of the second, at LEVELS resolutions of the second."""
    whole = torch.einsum("b d h w, b d y x -> b h w y x", a, b) / a.shape[1] ** 0.5
    levels = [rearrange(whole, "b h w y x -> (b h w) 1 y x")]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def around(pyramid: list[Float[Tensor, "_ 1 _ _"]], flow: Float[Tensor, "B 2 h w"]) -> Float[Tensor, "B k h w"]:
    """At each level the correlations in a window around the place to which the flow leads, column by column; 0 outside the picture."""
    batch, _, height, width = flow.shape
    down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = rearrange(flow + torch.stack([right, down]).to(flow), "b c h w -> (b h w) 1 1 c")
    steps = torch.arange(-RADIUS, RADIUS + 1).to(flow)
    window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)  # the first axis goes right: trained weights expect it
    found = [sampled(level, places / 2**depth + window) for depth, level in enumerate(pyramid)]
    return rearrange(torch.cat(found, dim=1), "(b h w) k -> b k h w", b=batch, h=height, w=width).contiguous()


def sampled(maps: Float[Tensor, "n 1 y x"], places: Float[Tensor, "n i j 2"]) -> Float[Tensor, "n ij"]:
    """Maps at places (x, y) counted in cells, between cells linearly."""
    extent = torch.tensor([maps.shape[3] - 1, maps.shape[2] - 1]).to(maps)
    return F.grid_sample(maps, 2 * places / extent - 1, align_corners=True).flatten(1)


def enlarged(flow: Float[Tensor, "B 2 h w"], logits: Float[Tensor, "B m h w"]) -> Float[Tensor, "B 2 H W"]:
    """Each pixel's flow as a mean of the nine cells around it, weighed by the logits; in pixels."""
    weights = rearrange(logits, "b (n p q) h w -> b n p q h w", n=9, p=STRIDE, q=STRIDE).softmax(dim=1)
    near = rearrange(F.unfold(STRIDE * flow, 3, padding=1), "b (c n) (h w) -> b c n h w", c=2, h=flow.shape[2])
    return rearrange(torch.einsum("b n p q h w, b c n h w -> b c h p w q", weights, near), "b c h p w q -> b c (h p) (w q)")


AUTHORS = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"encoder\.conv1\.", "encoder.convnormrelu.0."),
    (r"encoder\.norm1\.", "encoder.convnormrelu.1."),
    (r"(feature|context)_encoder\.conv2\.", r"\1_encoder.conv."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
"""The authors' names -> torchvision's, one after the other."""


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint under torchvision's names, whichever it had. The authors keep a shortcut's norm twice: as `norm3` and `downsample.1`."""
    if not any("fnet." in name for name in state):
        return dict(state)
    found = {}
    for name, value in state.items():
        if ".norm3." not in name:
            for pattern, ours in AUTHORS:
                name = re.sub(pattern, ours, name)
            found[name] = value
    return found
