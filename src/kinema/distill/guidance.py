"""Guidance distillation: a student that is told the guidance scale makes in one call what its teacher makes in two.

The teacher is an undistilled DiT with classifier-free guidance at a scale drawn anew for each sample; the student is the same DiT
with an embedder of the scale, which starts at zero, so that a student begins as its teacher without guidance, to the bit.
Sources: Meng et al. 2023 (arXiv 2210.03142); HunyuanVideo (arXiv 2412.03603), section 4.6: scales 1 to 8.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.flow.guidance import embedded_guidance
from kinema.flow.path import interpolate
from kinema.train.objective import Draws

Latents = Float[Tensor, "B C t h w"]
SCALE_BINS = (2.0, 4.0, 6.0, float("inf"))


@dataclass(frozen=True, kw_only=True)
class GuidanceTask:
    """Which scales the student learns."""

    low: float = 1.0
    high: float = 8.0

    def __post_init__(self):
        if not 1 <= self.low <= self.high:
            raise InputError(f"low={self.low}, high={self.high}: scales run from 1 (no guidance) upwards; 1 to 8 is usual")

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
        """Uniform between the two."""
        share = torch.rand(count, generator=generator, device=generator.device)
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Texts:
    """What a batch is to show, and the empty prompt, which classifier-free guidance leads away from."""

    states: Float[Tensor, "B L d"]
    mask: Bool[Tensor, "B L"] | None
    pooled: Float[Tensor, "B p"]
    null_states: Float[Tensor, "1 M d"]  # real tokens only
    null_pooled: Float[Tensor, "1 p"]


@dataclass(frozen=True)
class Scene:
    """All that a model is asked about beside the noisy latents and their noise level."""

    texts: Texts
    scale: Float[Tensor, " B"]
    given: Bool[Tensor, "B t"]  # latent frames that stay clean
    reference: Float[Tensor, "B C r h w"] | None = None  # what the subject looks like; None for models that take none

    @property
    def empty(self) -> "Scene":
        """What classifier-free guidance leads away from: no text, and no picture of the subject."""
        count, texts = len(self.given), self.texts
        states, pooled = (null.expand(count, *null.shape[1:]) for null in (texts.null_states, texts.null_pooled))
        nothing = None if self.reference is None else torch.zeros_like(self.reference)
        return replace(self, texts=replace(texts, states=states, mask=None, pooled=pooled), reference=nothing)


def scene_of(texts: Texts, scale: Float[Tensor, " B"], draws: Draws, reference: Float[Tensor, "B C r h w"] | None) -> Scene:
    """As a batch and its draws say: some samples do not see their reference."""
    if reference is not None and draws.unseen is not None:
        reference = reference.masked_fill(draws.unseen[:, None, None, None, None], 0)
    return Scene(texts, scale, draws.given, reference)


@dataclass(frozen=True)
class Guided:
    """A DiT as a velocity at any guidance scale: by one call where it has learned the scale, else by two."""

    dit: Callable[..., Tensor]  # a DiT, or one compiled
    embedded: bool  # does it take the scale

    def __call__(self, x: Latents, sigma: Float[Tensor, " B"], scene: Scene) -> Latents:
        """The velocity in float32; the model computes in bfloat16."""
        if self.embedded:
            return self.call(x, sigma, scene, embedded_guidance(scene.scale, torch.float32))
        return mixed(*self.halves(x, sigma, scene), scene.scale)

    def halves(self, x: Latents, sigma: Float[Tensor, " B"], scene: Scene) -> tuple[Latents, Latents]:
        """The velocities with the text and with the empty one."""
        return self.call(x, sigma, scene), self.call(x, sigma, scene.empty)

    def call(self, x: Latents, sigma: Float[Tensor, " B"], scene: Scene, told: Float[Tensor, " B"] | None = None) -> Latents:
        texts = scene.texts
        shown = {} if scene.reference is None else {"reference": scene.reference}
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.dit(x, 1000 * sigma, texts.states, texts.mask, texts.pooled, told, scene.given, **shown).float()


def mixed(conditional: Latents, base: Latents, scale: Float[Tensor, " B"]) -> Latents:
    """Classifier-free guidance, each sample at its own scale."""
    return base + rearrange(scale, "B -> B 1 1 1 1") * (conditional - base)


def student_of(teacher: DiT) -> DiT:
    """A DiT with its teacher's weights that takes a guidance scale and does not heed it yet.

    A teacher that takes one already gives an exact copy.
    """
    student = DiT(replace(teacher.config, guidance=True)).to(next(teacher.parameters()).device)
    state = teacher.state_dict()
    if not teacher.config.guidance:
        state |= {f"guidance_in.{name}": tensor for name, tensor in fresh_embedder(student).items()}
    student.load_state_dict(state)
    return student


def fresh_embedder(student: DiT) -> dict[str, Tensor]:
    """An embedder's weights that give zero for every scale: the first layer is random, the last one zero."""
    assert student.guidance_in is not None
    found = {name: torch.zeros_like(tensor) for name, tensor in student.guidance_in.state_dict().items()}
    nn.init.normal_(found["mlp.0.weight"], std=0.02)
    return found


def noised(data: Latents, noise: Latents, sigma: Float[Tensor, " B"], given: Bool[Tensor, "B t"]) -> Latents:
    """Each sample at its noise level, but for the frames that are given."""
    return torch.where(given[:, None, :, None, None], data, interpolate(data, noise, sigma))


def squared_error(found: Latents, wanted: Latents, given: Bool[Tensor, "B t"]) -> Float[Tensor, " B"]:
    """Mean over the frames that are not given, sample by sample."""
    error = (found - wanted).square().mean((1, 3, 4))
    return (error * ~given).sum(1) / (~given).sum(1)


def guidance_loss(
    student: Guided, teacher: Guided, data: Latents, draws: Draws, scene: Scene
) -> tuple[Float[Tensor, " B"], dict[str, Tensor]]:
    """Squared error of the student's velocity against the guided teacher's, sample by sample.

    Of the figures, `left_*` is the error as a share of what no guidance at all would leave, by scale: 1 at the start, 0 is perfect.
    """
    given = scene.given
    noisy = noised(data, draws.noise, draws.sigma, given)
    with torch.no_grad():
        conditional, base = teacher.halves(noisy, draws.sigma, scene)
        wanted = mixed(conditional, base, scene.scale)
    error = squared_error(student(noisy, draws.sigma, scene), wanted, given)
    return error, left(error.detach(), squared_error(conditional, wanted, given), scene.scale)


def left(error: Float[Tensor, " B"], at_start: Float[Tensor, " B"], scale: Float[Tensor, " B"]) -> dict[str, Tensor]:
    """Shares of the first error, for all scales and for three ranges of them; NaN where a batch has none."""
    figures = {"left": error.sum() / at_start.sum()}
    for number, (low, high) in enumerate(pairwise(SCALE_BINS)):
        chosen = (scale >= low) & (scale < high)
        figures[f"left_{number}"] = (error * chosen).sum() / (at_start * chosen).sum()
    return figures
