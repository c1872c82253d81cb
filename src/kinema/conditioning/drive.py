"""A driving video: 468 points of its face -> expression, blinks and head pose, frame by frame, at the avatar's rate.

Everything is measured against the driving face itself: its calmest frames are taken for neutral, so that another face's build is not
carried over. Frames without a face take over from their neighbours.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinema.conditioning.expression import NAMES, VALUES
from kinema.errors import InputError
from kinema.media.face import track_face
from kinema.media.video import read_video

LOG = logging.getLogger(__name__)
FPS = 12
LEAST = 0.5  # share of frames that must show a face
# MediaPipe's numbers of points
EYES = ((33, 133, 159, 145), (362, 263, 386, 374))  # outer and inner corner, upper and lower lid
BROWS = ((105, 107), (334, 336))  # middle and inner end
MOUTH_CORNERS, LIPS, NOSE, CHIN, FOREHEAD = (61, 291), (13, 14), 1, 152, 10
PITCH_DEGREES, YAW_DEGREES = 90.0, 90.0  # for a nose that moves by the distance between the eyes


@dataclass(frozen=True)
class Driven:
    """What a driving face does at FPS frames a second."""

    face: Float[Tensor, "T 6"]
    pose: Float[Tensor, "T 5"]


def read_drive(path: Path | str) -> Driven:
    """Raises InputError where the video cannot be read, or shows a face in less than half of its frames."""
    frames, rate = read_video(path)
    seconds = len(frames) / rate
    chosen = (np.arange(max(round(seconds * FPS), 1)) / FPS * rate).astype(int).clip(0, len(frames) - 1)
    points = track_face(frames[torch.from_numpy(chosen)])
    seen, faces = [], []
    for number, found in enumerate(points):
        if found is not None:
            seen.append(number)
            faces.append(found)
    if len(seen) < LEAST * len(points):
        raise InputError(f"{path}: a face is seen in {len(seen)} of {len(points)} frames; a driving video must show one in half of them")
    if len(seen) < len(points):
        LOG.warning("%s: no face in %d of %d frames, which take over from their neighbours", path, len(points) - len(seen), len(points))
    filled = filled_in(np.stack(faces), np.array(seen), len(points))
    return Driven(torch.from_numpy(shown(filled)).float(), torch.from_numpy(posed(filled, frames.shape[1], frames.shape[2])).float())


def filled_in(points: Float[np.ndarray, "s 468 3"], seen: np.ndarray, count: int) -> Float[np.ndarray, "T 468 3"]:
    """Straight lines between the frames that show a face; the first and the last go on at the ends."""
    flat = points.reshape(len(points), -1)
    return np.stack([np.interp(np.arange(count), seen, column) for column in flat.T], 1).reshape(count, *points.shape[1:])


def eye_distance(points: Float[np.ndarray, "T 468 3"]) -> Float[np.ndarray, " T"]:
    middles = [points[:, eye[:2]].mean(1) for eye in EYES]
    return np.linalg.norm(middles[1] - middles[0], axis=1)


def posed(points: Float[np.ndarray, "T 468 3"], height: int, width: int) -> Float[np.ndarray, "T 5"]:
    """Yaw, pitch, roll in degrees and the head's place in half-heights."""
    size = eye_distance(points)
    left, right = (points[:, eye[:2]].mean(1) for eye in EYES)
    across = right - left
    roll = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    turn = np.radians(roll)
    middle = (points[:, FOREHEAD] + points[:, CHIN]) / 2
    offset = points[:, NOSE] - (left + right) / 2
    x = np.cos(turn) * offset[:, 0] + np.sin(turn) * offset[:, 1]
    y = np.cos(turn) * offset[:, 1] - np.sin(turn) * offset[:, 0]
    yaw, pitch = x / size * YAW_DEGREES, (y - np.median(y)) / size * PITCH_DEGREES
    place = (middle[:, :2] - np.array([width, height]) / 2) / (height / 2)
    return np.stack([yaw.clip(-60, 60), pitch.clip(-60, 60), roll.clip(-60, 60), *place.T.clip(-2, 2)], 1)


def shown(points: Float[np.ndarray, "T 468 3"]) -> Float[np.ndarray, "T 6"]:
    """Strengths of the expressions and the blink, from how far corners, brows and lids leave their median."""
    size = eye_distance(points)
    lids = np.mean([np.linalg.norm(points[:, eye[2]] - points[:, eye[3]], axis=1) / size for eye in EYES], 0)
    eyes = np.mean([points[:, eye[:2]].mean(1)[:, 1] for eye in EYES], 0)
    brows, inner = ((eyes - np.mean([points[:, brow[part], 1] for brow in BROWS], 0)) / size for part in (0, 1))
    corners = (points[:, LIPS].mean(1)[:, 1] - points[:, MOUTH_CORNERS].mean(1)[:, 1]) / size
    smile, raised, tilt = (values - np.median(values) for values in (corners, brows, inner - brows))
    blink = (1 - lids / max(float(np.quantile(lids, 0.8)), 1e-6)).clip(0, 1)
    parts = {
        "happy": smile / 0.12,
        "sad": np.minimum(-smile / 0.08, 1) + tilt / 0.1,
        "angry": -tilt / 0.08 - raised / 0.15,
        "surprised": raised / 0.12 - np.abs(smile) / 0.2,
    }
    found = np.zeros((len(points), VALUES))
    for name, values in parts.items():
        found[:, NAMES.index(name)] = values.clip(0, 1)
    found[:, NAMES.index("neutral")] = (1 - found.sum(1)).clip(0, 1)
    found[:, -1] = np.where(blink > 0.4, blink, 0)
    return found
