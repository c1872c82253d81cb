"""Every metric has a law: what is right scores best, and the more it is damaged the worse it scores."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from kinema.evaluate.metrics.clip import LOOKS, Clip, Judges
from kinema.evaluate.metrics.table import METRICS
from kinema.evaluate.published import BACKBONES
from kinema.vae.perceptual import VGG_BLOCKS
from kinema.world.render import plan_clip, render_frames
from kinema.world.spec import ClipSpec
from kinema.world.sprites import SpritePack, default_path, labelled_subjects

JUDGES = Judges()
WITHOUT = {
    "subject_consistency_dino": "its law is tested on a random network in test_metrics",
    "background_consistency_clip": "its law is tested on a random network in test_metrics",
    "clip_similarity": "its law is CLIP's: the wiring is tested",
    "overall_consistency_viclip": "its law is ViCLIP's: the wiring is tested",
    "imaging_quality_musiq": "its law is MUSIQ's: the wiring is tested",
    "laion_aesthetic": "its law is its predictor's",
    "dynamic_degree_raft": "its threshold is tested on flow that is known",
}
Ladder = list[Clip]


def world(subjects: tuple[str, ...], **changes) -> ClipSpec:
    """A clip of the world whose subjects go by these names."""
    ids = {noun.lower(): subject.id for subject in reversed(labelled_subjects()) for noun in (subject.noun, *subject.also)}
    return ClipSpec(**{"seed": 5, "frames": 17, "height": 128, "width": 128, "subjects": tuple(ids[name] for name in subjects), **changes})


@cache
def frames_of(spec: ClipSpec) -> torch.Tensor:
    if not default_path().exists():
        pytest.skip("no sprite pack here: kinema world build")
    return render_frames(spec, SpritePack.open()).permute(0, 2, 3, 1).contiguous()


def clip(frames: torch.Tensor, prompt: str = "", **known) -> Clip:
    return Clip(frames.contiguous(), known.pop("fps", 12.0), prompt, JUDGES, **known)


def faded(frames: torch.Tensor, share: float) -> torch.Tensor:
    """Towards grey."""
    return torch.lerp(frames.float(), torch.tensor(128.0), share).to(torch.uint8)


def colourless(frames: torch.Tensor, share: float) -> torch.Tensor:
    return torch.lerp(frames.float(), frames.float().mean(dim=-1, keepdim=True).expand(frames.shape), share).to(torch.uint8)


def noisy(frames: torch.Tensor, level: float) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0)) * level
    return (frames.float() + noise).clamp(0, 255).to(torch.uint8)


def blurred(frames: torch.Tensor, radius: int) -> torch.Tensor:
    soft = torch.nn.functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 2 * radius + 1, 1, radius, count_include_pad=False)
    return soft.permute(0, 2, 3, 1).to(torch.uint8)


def frozen(frames: torch.Tensor, share: float) -> torch.Tensor:
    """The last share of the frames is the first of them, again and again."""
    moving = round((1 - share) * (len(frames) - 1))
    return frames[torch.arange(len(frames)).clamp(max=moving)]


def turned(frames: torch.Tensor, share: float) -> torch.Tensor:
    """The last share of the way is gone back."""
    last = round((1 - share) * (len(frames) - 1))
    places = torch.arange(len(frames))
    return frames[torch.where(places <= last, places, (2 * last - places).abs().clamp(max=len(frames) - 1))]


def shuffled(frames: torch.Tensor, share: float) -> torch.Tensor:
    order = torch.arange(len(frames))
    some = torch.randperm(len(frames), generator=torch.Generator().manual_seed(1))[: round(share * len(frames))]
    order[some.sort().values] = order[some]
    return frames[order]


CAT = world(("cat",), path="moves right")
PAIR = world(("cat", "dog"), path="stays")
HEART = world(("red heart",), path="bounces", frames=33)
SHARES = (0.0, 0.5, 1.0)


def asked(spec: ClipSpec, prompt: str, damage: Callable = faded, levels: tuple = (0.0, 0.7, 1.0), **known) -> Callable[[], Ladder]:
    return lambda: [clip(damage(frames_of(spec), level), prompt, **known) for level in levels]


def seamed() -> Ladder:
    found = []
    for depth in (0, 4, 12):
        frames = faded(frames_of(CAT), 1.0)
        frames[:, :, 64:] += depth
        found.append(clip(frames))
    return found


def with_truth() -> Ladder:
    boxes = plan_clip(CAT, SpritePack.open())[0].boxes()[0] / CAT.height
    some = boxes[np.linspace(0, len(boxes) - 1, LOOKS).round().astype(int)]
    truth = (some[:, :2] + some[:, 2:]) / 2
    return [clip(frozen(frames_of(CAT), share), truth=truth) for share in SHARES]


def compared(damage: Callable, levels: tuple) -> Callable[[], Ladder]:
    return lambda: [clip(damage(frames_of(CAT), level), reference=frames_of(CAT)) for level in levels]


def slower() -> Ladder:
    return [clip(frames_of(CAT), "a cat goes quickly to the right", fps=rate) for rate in (24.0, 12.0, 4.0)]


def mixed() -> Ladder:
    """Some of the frames looked at come from another video."""
    other, found = frames_of(world(("dog",), place="desert", style="pixel art")), []
    for places in ([], [8], [4, 12], [2, 6, 10, 14]):
        frames = frames_of(CAT).clone()
        frames[places] = other[places]
        found.append(clip(frames))
    return found


def natural(size: int = 256) -> torch.Tensor:
    """A still picture with the spectrum of photographs, for which BRISQUE is made."""
    squares = torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size) ** 2
    squares[0, 0] = 1
    noise = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
    picture = torch.fft.irfft2(torch.fft.rfft2(noise) / squares.sqrt())
    levels = (picture - picture.mean()) / picture.std() * 45 + 120
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).expand(3, -1, -1, -1).contiguous()


NOISE = compared(noisy, (0.0, 8.0, 25.0, 60.0))
LAWS: dict[str, Callable[[], Ladder]] = {
    "subject": asked(CAT, "A cat moves to the right."),
    "several_subjects": asked(PAIR, "A cat and a dog."),
    "color": asked(world(("yellow heart",), path="spins"), "A yellow heart on the grass.", colourless, SHARES),
    "number": asked(PAIR, "A cat and a dog."),
    "place": asked(CAT, "A cat on the grass.", faded, (0.0, 0.85, 1.0)),
    "spatial_relation": asked(PAIR, "A cat to the left of a dog."),
    "action": asked(HEART, "A red heart bounces up and down on the grass.", frozen, SHARES),
    "camera": asked(world(("cat",), path="stays", camera="zoom in", frames=33), "A cat, the camera zooms in.", frozen, SHARES),
    "style": asked(world(("cat",), style="pixel art"), "A cat, pixel art style."),
    "overall_consistency": asked(CAT, "A cat moves to the right on the grass."),
    "dynamic_degree": asked(CAT, "", frozen, SHARES),
    "smoothness": asked(CAT, "", noisy, (0.0, 8.0, 25.0)),
    "temporal_flicker": asked(CAT, "", noisy, (0.0, 8.0, 25.0)),
    "warp_error": asked(CAT, "", noisy, (0.0, 8.0, 25.0)),
    "direction": asked(CAT, "A cat moves to the right.", turned, (0.0, 0.25, 0.5)),
    "speed": slower,
    "path_jerk": asked(CAT, "", shuffled, SHARES),
    "path_error": with_truth,
    "brisque": lambda: [clip(noisy(natural(), level)) for level in (0.0, 10.0, 25.0, 60.0)],
    "colour_contrast": asked(CAT, "", faded, (0.0, 0.4, 0.8)),
    "edge_blur": asked(CAT, "", blurred, (0, 1, 3)),
    "subject_consistency_effnet": mixed,
    "background_consistency_effnet": mixed,
    "seams": seamed,
    "psnr": NOISE,
    "ssim": NOISE,
    "lpips_hed": NOISE,
    "lpips": NOISE,
}
BY_BLUR = {
    "brisque": lambda: [clip(blurred(natural(), radius)) for radius in (0, 1, 2, 4)],
    "psnr": compared(blurred, (0, 1, 2, 4)),
    "ssim": compared(blurred, (0, 1, 2, 4)),
    "lpips_hed": compared(blurred, (0, 1, 4)),
}
SETS = [name for name, metric in METRICS.items() if metric.family == "distribution"]


def worsens(name: str, values: list[float]) -> bool:
    return bool((np.diff(values) * (1 if METRICS[name].higher_is_better else -1) < 0).all())


def test_every_metric_has_a_law_or_says_why_not():
    assert {*LAWS, *SETS, *WITHOUT} == set(METRICS)


@pytest.fixture(scope="module")
def random_vgg(tmp_path_factory):
    """torchvision's names with random weights: 57 MB, written once."""
    torch.manual_seed(0)
    state, place = {}, 0
    for block in VGG_BLOCKS:
        for wide, channels in pairwise(block):
            state[f"features.{place}.weight"] = torch.randn(channels, wide, 3, 3) * (2 / 9 / wide) ** 0.5
            state[f"features.{place}.bias"] = torch.zeros(channels)
            place += 2  # its ReLU
        place += 1  # the pooling
    file = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save(state, file)
    return file


@pytest.fixture
def _random_vgg(random_vgg, monkeypatch):
    monkeypatch.setenv(BACKBONES["vgg16"].variable, str(random_vgg))


@pytest.mark.usefixtures("_random_vgg")
@pytest.mark.parametrize(("name", "ladder"), [*LAWS.items(), *BY_BLUR.items()])
def test_the_more_damage_the_worse(name, ladder):
    if reason := METRICS[name].missing():
        pytest.skip(reason)
    values = [METRICS[name].measure(clip) for clip in ladder()]
    assert worsens(name, values), values
    if METRICS[name].family == "reconstruction":
        assert values[0] == (100 if name == "psnr" else pytest.approx(METRICS[name].best))


@pytest.mark.parametrize("name", SETS)
def test_the_further_a_set_lies_from_the_real_one_the_worse(name):
    rng = np.random.default_rng(0)
    real, ours = rng.normal(size=(300, 16)), rng.normal(size=(300, 16))
    values = [METRICS[name].measure(ours + shift, real) for shift in (0, 0.5, 1, 2)]
    assert worsens(name, values), values
