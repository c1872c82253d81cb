"""How things move. Smoothness, flicker and warp error are best for a picture that stands still: read them beside the dynamic degree."""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.evaluate.direction import FLOW_HEIGHT, MOVING, border, opencv
from kinema.evaluate.metrics.clip import Clip

FAST_SHARE, FAST = 0.05, 6 / 256  # the quickest pixels, and from which speed they count: frame heights between frames 1/8 s apart
CONSISTENT = 1.5 / FLOW_HEIGHT  # frame heights: forward and backward flow this near to each other are believed
TYPICAL_SPEED = 0.22  # frame heights a second: median over 90 of the world's training clips at no stated pace
BRISK = 0.9  # quantile of a clip's frames: how fast its subject is when it goes, whatever its rests
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
HURRY = 0.35  # logarithms of speed within which a pace is half met
STEADY = 0.03  # frame heights of sideways way that count as none


def dynamic_degree(clip: Clip) -> float:
    """Share of neighbouring frames between which much moves: the quickest 5 % of pixels go faster than 6/256 of the frame's height in
    1/8 s. VBench's rule with DIS for RAFT, as a share instead of a verdict; [0, 1], more is more motion, not better motion."""
    speed = np.linalg.norm(clip.flow, axis=-1).reshape(len(clip.flow), -1) * clip.fps / 8
    count = max(1, round(FAST_SHARE * speed.shape[1]))
    quickest = np.partition(speed, -count, axis=1)[:, -count:].mean(axis=1)
    return float((quickest > FAST).mean())


def dynamic_degree_raft(clip: Clip) -> float:
    """VBench's dynamic degree: 1 where, with RAFT's flow over frames about 1/8 s apart, the quickest 5 % of pixels go farther than 6 pixels
    of a frame whose shorter side has 256, in a quarter of the frames or more; else 0. A model's mean is its share of dynamic videos."""
    frames = clip.frames.permute(0, 3, 1, 2)[:: max(1, round(clip.fps / 8))]
    net = clip.judges.published("raft")
    speeds = [quickest(net.flow(before[None], after[None])[0]) for before, after in pairwise(frames)]
    farther = sum(speed > 6 * min(frames.shape[2:]) / 256 for speed in speeds)
    return float(farther >= round(len(frames) / 4))


def quickest(flow: Float[Tensor, "2 H W"]) -> float:
    """Mean speed of the quickest 5 % of pixels, in pixels a step."""
    speed = flow.norm(dim=0).flatten()
    return float(speed.topk(max(1, int(FAST_SHARE * len(speed)))).values.mean())


def smoothness(clip: Clip) -> float:
    """Each frame against the middle of its two neighbours, both carried there along their mean flow, as if all moved evenly; 1 minus the
    mean absolute error over all frames but the ends, [0, 1]. VBench's question (a frame can be rebuilt from its neighbours), with DIS
    flow and a warp for its interpolation network."""
    grey = np.stack(clip.grey).astype(np.float32) / 255
    errors = []
    for index in range(1, len(grey) - 1):
        even = (clip.flow[index - 1] + clip.flow[index]) / 2
        rebuilt = (warped(grey[index - 1], -even) + warped(grey[index + 1], even)) / 2
        errors.append(np.abs(rebuilt - grey[index]).mean())
    return float(1 - np.mean(errors))


def warped(picture: Float[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w"]:
    """What lies at each pixel's place plus its flow (in frame heights)."""
    height, width = picture.shape
    down, right = np.mgrid[:height, :width].astype(np.float32)
    way = flow.astype(np.float32) * height
    cv2 = opencv()
    return cv2.remap(picture, right + way[..., 0], down + way[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def temporal_flicker(clip: Clip) -> float:
    """1 minus the mean absolute difference of neighbouring frames, [0, 1]: VBench's arithmetic, which is meant for prompts that ask for
    stillness; motion lowers it."""
    frames = clip.frames.numpy()
    steps = [np.abs(after.astype(np.int16) - before).mean() for before, after in pairwise(frames)]
    return float(1 - np.mean(steps) / 255)


def warp_error(clip: Clip) -> float:
    """Mean absolute difference, in levels of 255, of each frame and the next one carried back along the flow, where the flow is smooth
    enough to be believed (Lai et al. 2018, arXiv 1808.00449, with DIS flow). Flicker and melting raise it, plain motion does not."""
    errors = []
    for before, after, flow in zip(clip.grey[:-1], clip.grey[1:], clip.flow, strict=True):
        sure = believed(flow)
        if sure.any():
            errors.append(np.abs(warped(after.astype(np.float32), flow) - before)[sure].mean())
    return float(np.mean(errors)) if errors else 0.0


def believed(flow: Float[np.ndarray, "h w 2"]) -> Bool[np.ndarray, "h w"]:
    """Where a pixel's flow is its neighbourhood's."""
    smooth = opencv().blur(flow.astype(np.float32), (5, 5))
    return np.linalg.norm(flow - smooth, axis=-1) < CONSISTENT


def subject_flow(clip: Clip) -> Float[np.ndarray, "S 2"]:
    """The subject's velocity, (right, down) in frame heights a second against the background: of the pixels that move apart from the
    frame's border, the mean."""
    out = np.zeros((len(clip.flow), 2))
    edge = border(*clip.flow.shape[1:3])
    for index, flow in enumerate(clip.flow):
        apart = flow - np.median(flow[edge], axis=0)
        moving = np.linalg.norm(apart, axis=-1) > MOVING
        if moving.any():
            out[index] = apart[moving].mean(axis=0)
    return out * clip.fps


def direction(clip: Clip) -> float | None:
    """Does the subject go left, right, up or down as asked: its way in that direction against its way in all, as (1 + share) / 2.
    0.5: it goes nowhere, or across."""
    if not clip.asked.direction:
        return None
    way = subject_flow(clip).sum(axis=0) / clip.fps
    along = float(np.dot(way, WAYS[clip.asked.direction]))
    return 0.5 + 0.5 * along / (float(np.abs(way).sum()) + STEADY)


def speed(clip: Clip) -> float | None:
    """Is it as quick or slow as asked: the subject's speed, which it surpasses in a tenth of the frames, against TYPICAL_SPEED, through a
    logistic curve; 0.5 at the typical."""
    if not clip.asked.pace:
        return None
    brisk = float(np.quantile(np.linalg.norm(subject_flow(clip), axis=1), BRISK))
    return float(1 / (1 + np.exp(-clip.asked.pace * np.log((brisk + 1e-3) / TYPICAL_SPEED) / HURRY)))


def path_jerk(clip: Clip) -> float:
    """How unsteadily the subject goes: root mean square of the change of its velocity from frame to frame, frame heights a second.
    Jumps in time and objects that teleport raise it."""
    return float(np.sqrt((np.diff(subject_flow(clip), axis=0) ** 2).sum(axis=1).mean()))


def path_error(clip: Clip) -> float | None:
    """How far the subject's way is from the one that the world's physics gives for this prompt: root mean square distance of the found
    middle from the true one, both from where they start, in frame heights. Only where the prompt carries the truth."""
    if clip.truth is None:
        return None
    off = (clip.track - clip.track[:1]) - (clip.truth - clip.truth[:1])
    return float(np.sqrt((off**2).sum(axis=1).mean()))
