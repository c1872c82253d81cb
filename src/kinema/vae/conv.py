"""Causal convolution along a clip that passes in pieces.

A clip is handed on as a list of successive pieces, and whoever reads a piece takes it out, so that a layer's input shrinks while
its output grows. While training there is one piece, the whole clip. What a layer must remember from one call to the next, it
keeps in `Past`; without one, the list given is the whole clip.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Stride = tuple[int, int, int]  # along t, h, w
Border = Literal["replicate", "zeros"]
Clip = list[Float[Tensor, "_ _ _ _ _"]]  # each [B C T H W], alike but for T
Past = dict[nn.Module, Tensor]
"""What each layer keeps of the calls before: its last frames, or an empty tensor for "there was one"."""

PIECE = {"cpu": 2**23}  # numbers in one piece: small enough to be allocated cheaply, large enough that threads seldom wait for each other
LARGE_PIECE = 2**28  # on an accelerator


def drain(clip: Clip) -> Iterator[Tensor]:
    """The pieces in order; the list no longer holds what was handed out."""
    while clip:
        yield clip.pop(0)


def budget(frames: Tensor) -> int:
    """Numbers in one piece on the device of `frames`."""
    return PIECE.get(frames.device.type, LARGE_PIECE)


def pieces(clip: Clip, growth: int | float = 1) -> Iterator[Tensor]:
    """Cut along time so that what a layer makes of a piece, `growth` times as large, stays cheap to allocate."""
    for frames in drain(clip):
        if torch.is_grad_enabled():
            yield frames
            continue
        yield from frames.split(max(1, int(budget(frames) / growth / frames[:, :, :1].numel())), 2)


def merge(clip: Clip) -> Clip:
    """Join neighbours that together are still one piece."""
    joined: Clip = []
    for frames in drain(clip):
        if joined and joined[-1].numel() + frames.numel() <= budget(frames):
            frames = torch.cat([joined.pop(), frames], 2)
        joined.append(frames)
    return joined


def beside(clip: Clip, way: Callable[[Tensor], Tensor], kept: Clip) -> Iterator[Tensor]:
    """Hand the pieces on and keep what `way` makes of each."""
    for frames in drain(clip):
        kept.append(way(frames))
        yield frames


def add(kept: Tensor, fresh: Tensor) -> Tensor:
    """Their sum, in the memory of `fresh` where no gradient needs it."""
    if torch.is_grad_enabled() or kept.dtype != fresh.dtype:
        return kept + fresh
    return fresh.add_(kept)


def opens(layer: nn.Module, past: Past | None) -> bool:
    """Whether this is the layer's first call for a clip; it remembers that there was one."""
    if past is None:
        return True
    first = layer not in past
    past[layer] = torch.empty(0)
    return first


Ready = Callable[[Tensor, Tensor | None], Tensor]
"""What happens to frames just before a convolution: returned, or written to the second argument where nobody needs a gradient."""


def as_they_are(frames: Tensor, out: Tensor | None) -> Tensor:
    return frames if out is None else out.copy_(frames)


def convolve(frames: Tensor, weight: Tensor, bias: Tensor | None, stride: Stride, padding: Stride) -> Tensor:
    """`F.conv3d` by the fastest way: a product where the kernel is one position, and always oneDNN's kernels on a CPU.

    PyTorch leaves oneDNN for what it takes for small 3D convolutions; its own kernel is many times slower.
    """
    if weight.shape[2:] == (1, 1, 1):
        product = F.linear(rearrange(frames, "B C T H W -> B T H W C"), weight.flatten(1), bias)
        return rearrange(product, "B T H W C -> B C T H W")
    if needs_sending_to_onednn(frames):
        return torch.ops.aten.mkldnn_convolution(frames, weight, bias, padding, stride, (1, 1, 1), 1)
    return F.conv3d(frames, weight, bias, stride, padding)


def needs_sending_to_onednn(frames: Tensor) -> bool:
    """Not 16-bit frames, which PyTorch sends there anyway, nor where gradients or a compiler come in."""
    plain = type(frames) is Tensor and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    return plain and frames.device.type == "cpu" and frames.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class CausalConv3d(nn.Module):
    """A 3D convolution whose output frame sees its own and earlier frames only.

    Before the first frame stand copies of it. Beyond the picture's border stand copies of the border ("replicate", as
    HunyuanVideo has it) or zeros, which costs no copy.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int = 3, stride: Stride = (1, 1, 1), border: Border = "replicate"):
        super().__init__()
        side = kernel // 2
        self.margin = side if border == "replicate" else 0
        self.stride = stride
        self.memory = kernel - 1  # frames put before the first one
        self.overlap = max(kernel - stride[0], 0)  # frames that the next piece's first output still sees
        self.padding = (0, 0, 0) if border == "replicate" else (0, side, side)
        self.conv = nn.Conv3d(width_in, width_out, kernel, stride, self.padding)

    def forward(self, frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D t h w"]:
        """A whole clip at once."""
        (out,) = self.sweep([frames])
        return out

    def sweep(self, clip: Iterable[Tensor], past: Past | None = None, ready: Ready = as_they_are) -> Iterator[Float[Tensor, "B D _ h w"]]:
        """The outputs of successive pieces, each as soon as it is asked for. Nothing is changed in place that a gradient needs."""
        window = Window(self.memory, self.overlap, self.margin, None if past is None else past.get(self))
        for frames in clip:
            yield convolve(window.slide(frames, ready), self.conv.weight, self.conv.bias, self.stride, self.padding)
        if past is not None:
            past[self] = window.tail().clone()


class Window:
    """The surrounded input of a convolution: a piece, the frames before it, and the border; one buffer, moved along the clip.

    memory: frames that stand before a clip's first one, all of them copies of it.
    overlap: frames of one piece that the next still needs.
    margin: copies of the picture's border on each side.
    before: the frames remembered from an earlier call.
    """

    def __init__(self, memory: int, overlap: int, margin: int, before: Float[Tensor, "B C _ Y X"] | None):
        self.memory, self.overlap, self.margin = memory, overlap, margin
        self.content = before

    def tail(self) -> Tensor:
        """The last frames covered, as far as the next piece needs them."""
        assert self.content is not None
        return self.content[:, :, self.content.shape[2] - self.overlap :]

    def slide(self, frames: Float[Tensor, "B C T H W"], ready: Ready) -> Float[Tensor, "B C _ Y X"]:
        if torch.is_grad_enabled():
            self.content = self.surround(ready(frames, None))
        elif self.memory or self.margin:
            self.content = self.refill(frames, ready)
        else:
            self.content = ready(frames, None)
        return self.content

    def surround(self, frames: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C _ Y X"]:
        """By copies, as gradients need it."""
        if self.margin:
            frames = F.pad(frames, (self.margin,) * 4 + (0, 0), mode="replicate")
        before = [frames[:, :, :1]] * self.memory if self.content is None else [self.tail()]
        return torch.cat([*before, frames], 2) if self.memory else frames

    def refill(self, frames: Float[Tensor, "B C T H W"], ready: Ready) -> Float[Tensor, "B C _ Y X"]:
        """In the buffer itself where the last piece was as long: what is remembered moves to the front, `ready` writes behind it."""
        before = self.memory if self.content is None else self.overlap
        buffer = self.buffer_for(frames, before)
        remembered = [] if self.content is None else self.tail().unbind(2)
        for place, frame in enumerate(remembered):  # one by one: the two ranges may share frames
            buffer[:, :, place].copy_(frame)
        inner = buffer[:, :, before:]
        if self.margin:
            inner = inner[..., self.margin : -self.margin, self.margin : -self.margin]
        ready(frames, inner)
        self.fill_border(buffer[:, :, before:])
        for place in range(before - len(remembered)):
            buffer[:, :, place].copy_(buffer[:, :, before])
        return buffer

    def buffer_for(self, frames: Float[Tensor, "B C T H W"], before: int) -> Float[Tensor, "B C _ Y X"]:
        B, C, T, H, W = frames.shape
        shape = (B, C, before + T, H + 2 * self.margin, W + 2 * self.margin)
        if self.content is not None and self.content.shape == shape:
            return self.content
        return torch.empty(shape, dtype=frames.dtype, device=frames.device, memory_format=torch.channels_last_3d)

    def fill_border(self, surrounded: Float[Tensor, "B C T Y X"]) -> None:
        for axis in (3, 4):
            last = surrounded.shape[axis] - 1
            for i in range(self.margin):
                surrounded.select(axis, i).copy_(surrounded.select(axis, self.margin))
                surrounded.select(axis, last - i).copy_(surrounded.select(axis, last - self.margin))


def start_at_zero(layer: CausalConv3d) -> None:
    """Let a residual branch begin by adding nothing."""
    nn.init.zeros_(layer.conv.weight)
    assert layer.conv.bias is not None
    nn.init.zeros_(layer.conv.bias)
