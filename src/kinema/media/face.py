"""Faces in pictures: where they are, and 468 points on each.

MediaPipe's networks (Apache-2.0) out of its wheel, run by LiteRT; the wheel's own code is not used. Checked by their SHA-256.
Source: Bazarevsky et al. 2019 (arXiv 1907.05047), BlazeFace; Kartynnik et al. 2019 (arXiv 1907.06724), face mesh.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.errors import MissingExtraError
from kinema.media.frames import resize
from kinema.media.packaged import Packed, located

DETECTOR = Packed(
    "mediapipe",
    "mediapipe",
    "modules/face_detection/face_detection_short_range.tflite",
    "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "avatar",
)
MESH = Packed(
    "mediapipe",
    "mediapipe",
    "modules/face_landmark/face_landmark.tflite",
    "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "avatar",
)
DETECTOR_SIDE, MESH_SIDE, POINTS = 128, 192, 468
ANCHORS = ((16, 2), (8, 6))  # cells a side, anchors a cell
SURE = 0.5  # least score of a face, and of its mesh
SAME = 0.3  # overlap from which two boxes are one face
MESH_WIDER = 1.5  # what the mesh sees: times the box


class Box(NamedTuple):
    """In shares of the picture's width and height."""

    x0: float
    y0: float
    x1: float
    y1: float
    score: float = 1.0

    @property
    def area(self) -> float:
        return max(self.x1 - self.x0, 0.0) * max(self.y1 - self.y0, 0.0)

    def overlap(self, other: "Box") -> float:
        """Intersection over union."""
        corners = (*map(max, self[:2], other[:2]), *map(min, self[2:4], other[2:4]))
        common = Box(*corners).area
        return common / max(self.area + other.area - common, 1e-9)


@lru_cache(maxsize=2)
def network(packed: Packed) -> Any:
    """Raises MissingExtraError without the extra `avatar`, WeightsError where the file is another."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "avatar") from error
    net = Interpreter(str(located(packed)), num_threads=1)
    net.allocate_tensors()
    return net


def ask(packed: Packed, pixels: Float[np.ndarray, "1 h w 3"]) -> list[Float[np.ndarray, " ..."]]:
    """All outputs, largest first."""
    net = network(packed)
    net.set_tensor(net.get_input_details()[0]["index"], np.ascontiguousarray(pixels, np.float32))
    net.invoke()
    return sorted((net.get_tensor(output["index"]) for output in net.get_output_details()), key=lambda found: -found.size)


def squared(frame: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "S S 3"]:
    """Padded with black on the right and below."""
    height, width = frame.shape[:2]
    found = frame.new_zeros(max(height, width), max(height, width), 3)
    found[:height, :width] = frame
    return found


@lru_cache(maxsize=1)
def anchors() -> Float[np.ndarray, "896 2"]:
    """The middle of each anchor, x and y in [0, 1]."""
    rows = []
    for cells, each in ANCHORS:
        middles = (np.arange(cells) + 0.5) / cells
        rows.append(np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2).repeat(each, 0))
    return np.concatenate(rows)


def find_faces(frame: UInt8[Tensor, "H W 3"]) -> list[Box]:
    """All faces, from left to right. The picture should be cut to what may hold them: a face of a fifth of its side is found."""
    height, width = frame.shape[:2]
    square = squared(frame)
    small = resize(rearrange(square, "H W C -> 1 C H W").float(), DETECTOR_SIDE, DETECTOR_SIDE)
    regressed, scores = ask(DETECTOR, (rearrange(small, "1 C H W -> 1 H W C") / 127.5 - 1).numpy())
    sure = 1 / (1 + np.exp(-scores.reshape(-1).clip(-80, 80)))
    boxes: list[Box] = []
    side = max(height, width)
    for place in np.flatnonzero(sure >= SURE)[np.argsort(-sure[sure >= SURE])]:
        x, y, wide, tall = regressed[0, place, :4] / DETECTOR_SIDE
        x, y = x + anchors()[place, 0], y + anchors()[place, 1]
        corners = (x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2)
        x0, y0, x1, y1 = (float(c * side / s) for c, s in zip(corners, (width, height) * 2, strict=True))
        box = Box(x0, y0, x1, y1, float(sure[place]))
        if all(box.overlap(known) < SAME for known in boxes):
            boxes.append(box)
    return sorted(boxes, key=lambda box: box.x0 + box.x1)


def landmarks(frame: UInt8[Tensor, "H W 3"], box: Box) -> Float[np.ndarray, "468 3"] | None:
    """Points of the face in a box, x y z in pixels of the picture; None where the network sees none there."""
    height, width = frame.shape[:2]
    middle = np.array([(box.x0 + box.x1) / 2 * width, (box.y0 + box.y1) / 2 * height])
    half = max((box.x1 - box.x0) * width, (box.y1 - box.y0) * height) * MESH_WIDER / 2
    left, top, side = round(middle[0] - half), round(middle[1] - half), max(round(2 * half), 8)
    seen = frame.new_zeros(side, side, 3)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
    if y1 <= y0 or x1 <= x0:
        return None
    seen[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
    small = resize(rearrange(seen, "H W C -> 1 C H W").float(), MESH_SIDE, MESH_SIDE)
    points, presence = ask(MESH, (rearrange(small, "1 C H W -> 1 H W C") / 255).numpy())[:2]
    if 1 / (1 + np.exp(-float(presence.reshape(-1)[0]))) < SURE:
        return None
    return points.reshape(POINTS, 3) * (side / MESH_SIDE) + np.array([left, top, 0])


def track_face(frames: UInt8[Tensor, "T H W 3"]) -> list[Float[np.ndarray, "468 3"] | None]:
    """Points of the largest face of each frame; None where there is none."""
    found: list[Float[np.ndarray, "468 3"] | None] = []
    for frame in frames:
        boxes = find_faces(frame)
        found.append(landmarks(frame, max(boxes, key=lambda box: box.area)) if boxes else None)
    return found
