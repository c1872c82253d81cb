"""Does the video show what its prompt asks for? Each function answers one question, as a probability in [0, 1]; None: not asked.

The judges know the embedded world (its 734 nouns, 36 places, six styles); how well each answer agrees with the world's truth stands in
docs/evaluation.md. Dimensions after VBench (Huang et al. 2024, arXiv 2311.17982), computed otherwise.
"""

import numpy as np
import torch
from jaxtyping import Float

from kinema.evaluate.metrics.clip import Clip
from kinema.world.asked import COLORS, nouns, other_actions
from kinema.world.style import STYLES

OTHERS = 5  # wrong texts beside the right one


def subject(clip: Clip) -> float | None:
    """Chance that the first subject named is in the video: the recogniser's, over all it may be called."""
    return shown(clip, clip.asked.subjects[0]) if clip.asked.subjects else None


def shown(clip: Clip, noun: str) -> float:
    """Of the frames' pieces, weighed by how much they look like a subject."""
    return float(clip.reading.subjects.exp()[members(clip, noun)].sum())


def members(clip: Clip, noun: str) -> list[int]:
    known = clip.judges.alignment.judge.subjects
    return [known.index(subject) for subject in nouns()[noun]]


def pieces(clip: Clip, noun: str) -> Float[np.ndarray, "LOOKS PIECES"]:
    """Chance that each piece shows it."""
    return clip.named[:, :, members(clip, noun)].sum(axis=-1)


def several_subjects(clip: Clip) -> float | None:
    """Chance that both named subjects are there: of the better assignment of two pieces a frame to two nouns, the mean over frames of
    the lesser chance, each weighed by its piece's heat."""
    if len(clip.asked.subjects) < 2:
        return None
    heat = clip.sight.heat.numpy()
    first, second = (pieces(clip, noun) * heat for noun in clip.asked.subjects)
    straight, crossed = np.minimum(first[:, 0], second[:, 1]), np.minimum(first[:, 1], second[:, 0])
    return float(np.maximum(straight, crossed).mean())


def number(clip: Clip) -> float | None:
    """As many subjects as asked: chance under independent pieces, each there with its heat (the finder sees at most two)."""
    if not clip.asked.number:
        return None
    first, second = clip.sight.heat.numpy().mean(axis=0).clip(0, 1)
    one = first * (1 - second) + second * (1 - first)
    return float(one if clip.asked.number == 1 else first * second)


def place(clip: Clip) -> float | None:
    """Chance of the place named: the recogniser's."""
    return float(clip.reading.places.exp()[clip.judges.alignment.judge.places.index(clip.asked.place)]) if clip.asked.place else None


def spatial_relation(clip: Clip) -> float | None:
    """The first subject stands to the second as asked: share of frames whose best assignment of pieces to nouns has them so, each frame
    weighed by how sure that assignment is, times the mean sureness."""
    if not clip.asked.relation:
        return None
    middles = ((clip.sight.boxes[..., :2] + clip.sight.boxes[..., 2:]) / 2).numpy()
    first, second = (pieces(clip, noun) for noun in clip.asked.subjects)
    straight, crossed = first[:, 0] * second[:, 1], first[:, 1] * second[:, 0]
    apart = (middles[:, 0] - middles[:, 1]) * np.where(straight >= crossed, 1, -1)[:, None]  # of the first from the second
    axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[clip.asked.relation]
    sure = np.sqrt(np.maximum(straight, crossed))
    return float((sure * (apart[:, axis] * sign > 0)).mean())


@torch.inference_mode()
def among(clip: Clip, wrong: list[str]) -> float:
    """Chance of the prompt among texts that differ from it in one thing: softmax over the video-text model's products."""
    products = clip.judges.texts([clip.prompt, *wrong]) @ clip.vector
    scale = clip.judges.alignment.towers.log_scale.exp().clamp(max=100)
    return float((products * scale).softmax(dim=0)[0])


def color(clip: Clip) -> float | None:
    """Chance of the prompt against itself with other colours, by the video-text model."""
    asked = clip.asked.color
    if not asked:
        return None
    return among(clip, [swapped(clip.prompt, asked, other) for other in COLORS if other != asked])


def swapped(text: str, word: str, other: str) -> str:
    """The first `word`, whatever its case, as `other`."""
    start = text.lower().replace("grey", "gray").find(word)
    return text[:start] + other + text[start + len(word) :]


def action(clip: Clip) -> float | None:
    """Chance of the prompt against itself with other actions, by the video-text model."""
    if not clip.asked.phrase:
        return None
    return among(clip, [swapped(clip.prompt, clip.asked.phrase, other) for other in other_actions(clip.asked.phrase, OTHERS)])


def style(clip: Clip) -> float | None:
    """Chance of the style asked for among the world's six: a linear layer's on what the image-text model's tower takes in."""
    if not clip.asked.style:
        return None
    with torch.inference_mode():
        chances = clip.judges.styles(clip.seen.mean(dim=0)).softmax(dim=-1)
    return float(chances[list(STYLES).index(clip.asked.style)])


def camera(clip: Clip) -> float | None:
    """Chance of the camera movement named: the camera classifier's."""
    return clip.camera[clip.asked.camera] if clip.asked.camera else None


def overall_consistency(clip: Clip) -> float:
    """Cosine of video and prompt in the video-text model's space, [-1, 1]."""
    return float(clip.judges.text(clip.prompt) @ clip.vector)


def clip_similarity(clip: Clip) -> float:
    """CLIP's cosine of prompt and frame, mean over 9 frames, [-1, 1] (Radford et al. 2021; CLIPScore without its factor)."""
    return clip.judges.published("clip").similarity(clip.looked, clip.prompt)


def overall_consistency_viclip(clip: Clip) -> float:
    """VBench's overall consistency: ViCLIP's cosine of prompt and video, [-1, 1] (Wang et al. 2023)."""
    return clip.judges.published("viclip").similarity(clip.frames.permute(0, 3, 1, 2), clip.prompt)
