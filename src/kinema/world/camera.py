"""The camera of the world: 14 movements, and the homographies that put flat things on its screen.

A pinhole looks along +z (x right, y down) with a focal length of one frame height, so that at depth z the frame is z high:
screen (u, v) = (x / z, y / z), v in [-0.5, 0.5] from top to bottom. The horizon lies at screen v = `horizon` at rest; it is moved
there by shifting the lens, as a view camera does, so that upright things stay upright.
Pan translates the camera: near things pass faster than far ones. Tilt turns it: near and far shift alike. Zoom changes the focal
length: everything grows alike. Around orbits the subject and keeps looking at it.
Everything drawn is a plane, so one 3x3 matrix a frame and plane says where each pixel looks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from kinema.records import CAMERA_MOVEMENTS

Series: TypeAlias = Float[np.ndarray, " T"]
Matrices: TypeAlias = Float[np.ndarray, "T 3 3"]
Vectors: TypeAlias = Float[np.ndarray, "... T 3"]

GROUND_Y = 0.5  # how far the ground lies below the camera: at depth 1 it meets the lower edge of the frame
PAN = 0.34  # shift of the subject over a clip, in frame heights
PAN_UP = 0.2  # less than PAN: the camera must neither dive below the ground nor lose the scene
TILT = 0.34  # radians from the first frame to the last; at the middle of the frame this is about frame heights
TILT_UP = 0.26
AROUND = 0.66  # radians
ZOOM = 1.6  # ratio of the last focal length to the first
SHAKE_SHIFT, SHAKE_TURN = 0.018, 0.022  # frame heights at the subject; radians


@dataclass(frozen=True)
class CameraPath:
    """Where the camera is and looks in each frame; all zero with zoom 1 is the rest pose.

    x, y, z: position in world units. yaw: radians, positive looks right; pitch: positive looks up; roll: positive turns clockwise.
    zoom: focal length in frame heights.
    """

    x: Series
    y: Series
    z: Series
    yaw: Series
    pitch: Series
    roll: Series
    zoom: Series

    @classmethod
    def at_rest(cls, frames: int) -> "CameraPath":
        still = np.zeros(frames)
        return cls(still, still, still, still, still, still, np.ones(frames))

    def to_json(self) -> dict[str, list[float]]:
        return {name: [round(float(value), 5) for value in getattr(self, name)] for name in self.__dataclass_fields__}


def ease(progress: Series) -> Series:
    """Start and stop gently: half linear, half smoothstep, so that motion is seen in every frame."""
    return 0.5 * progress + 0.5 * progress * progress * (3 - 2 * progress)


def _pan(dx: float, dy: float) -> Callable[..., CameraPath]:
    def move(swing: Series, rest: CameraPath, depth: float, amount: float) -> CameraPath:
        return replace(rest, x=dx * amount * depth * swing, y=dy * amount * depth * swing)

    return move


def _tilt(yaw: float, pitch: float) -> Callable[..., CameraPath]:
    def move(swing: Series, rest: CameraPath, depth: float, amount: float) -> CameraPath:
        return replace(rest, yaw=yaw * amount * swing, pitch=pitch * amount * swing)

    return move


def _zoom(sign: float) -> Callable[..., CameraPath]:
    def move(swing: Series, rest: CameraPath, depth: float, amount: float) -> CameraPath:
        return replace(rest, zoom=np.exp(sign * amount * np.log(ZOOM) * swing))

    return move


def _around(sign: float) -> Callable[..., CameraPath]:
    def move(swing: Series, rest: CameraPath, depth: float, amount: float) -> CameraPath:
        angle = sign * AROUND * amount * swing  # seen from above, about the point (0, ., depth)
        return replace(rest, x=depth * np.sin(angle), z=depth * (1 - np.cos(angle)), yaw=-angle)

    return move


_MOVES: dict[str, Callable[..., CameraPath]] = {
    "zoom in": _zoom(1.0), "zoom out": _zoom(-1.0),
    "pan up": _pan(0.0, -PAN_UP), "pan down": _pan(0.0, PAN_UP), "pan left": _pan(-PAN, 0.0), "pan right": _pan(PAN, 0.0),
    "tilt up": _tilt(0.0, TILT_UP), "tilt down": _tilt(0.0, -TILT_UP), "tilt left": _tilt(-TILT, 0.0), "tilt right": _tilt(TILT, 0.0),
    "around left": _around(-1.0), "around right": _around(1.0),
}  # fmt: skip


def _shake(progress: Series, rng: np.random.Generator) -> Series:
    """A smooth wander in about [-1, 1]: three slow waves with drawn speeds and phases."""
    turns, phases = rng.uniform((1.2, 2.5, 4.5), (2.2, 4.0, 7.0)), rng.uniform(0, 2 * np.pi, 3)
    weights = np.array((0.5, 0.32, 0.18))
    return np.sin(2 * np.pi * turns * progress[:, None] + phases) @ weights


def _handheld(progress: Series, rest: CameraPath, depth: float, amount: float, rng: np.random.Generator) -> CameraPath:
    shift, turn = SHAKE_SHIFT * depth * amount, SHAKE_TURN * amount
    x, y, yaw, pitch, roll = (_shake(progress, rng) for _ in range(5))
    return replace(rest, x=shift * x, y=shift * y, yaw=turn * yaw, pitch=turn * pitch, roll=turn * roll)


def move_camera(movement: str, frames: int, depth: float, amount: float, seed: int) -> CameraPath:
    """The camera's way through one of the 14 movements, with the rest pose in its middle.

    movement: one of records.CAMERA_MOVEMENTS. depth: of the subject, the pivot of `around` and the yardstick of `pan`.
    amount: 1 is a plain, clearly seen move. seed: of the shake of `handheld`; the others need no chance.
    """
    assert movement in CAMERA_MOVEMENTS, movement
    rest, progress = CameraPath.at_rest(frames), np.linspace(0, 1, frames)
    if movement == "static":
        return rest
    if movement == "handheld":
        return _handheld(progress, rest, depth, amount, np.random.default_rng(np.random.PCG64([seed, 0xCA])))
    return _MOVES[movement](ease(progress) - 0.5, rest, depth, amount)


def _turn(camera: CameraPath) -> Matrices:
    """World directions to camera directions: yaw first, then pitch, then roll."""
    one, nil = np.ones_like(camera.yaw), np.zeros_like(camera.yaw)
    cy, sy, cp, sp, cr, sr = (f(a) for a in (camera.yaw, camera.pitch, camera.roll) for f in (np.cos, np.sin))
    yaw = np.stack([cy, nil, -sy, nil, one, nil, sy, nil, cy], 1).reshape(-1, 3, 3)
    pitch = np.stack([one, nil, nil, nil, cp, sp, nil, -sp, cp], 1).reshape(-1, 3, 3)
    roll = np.stack([cr, sr, nil, -sr, cr, nil, nil, nil, one], 1).reshape(-1, 3, 3)
    return roll @ pitch @ yaw


def _lens(camera: CameraPath, horizon: float) -> Matrices:
    lens = np.zeros((len(camera.zoom), 3, 3))
    lens[:, 0, 0] = lens[:, 1, 1] = camera.zoom
    lens[:, 1, 2] = camera.zoom * horizon
    lens[:, 2, 2] = 1
    return lens


def view_matrices(camera: CameraPath, horizon: float) -> Matrices:
    """World directions from the camera to homogeneous screen points, a frame each; the third coordinate is the depth."""
    return _lens(camera, horizon) @ _turn(camera)


def plane_to_screen(
    view: Matrices,
    camera: CameraPath,
    right: Float[np.ndarray, "... T 3"],
    down: Float[np.ndarray, "... T 3"],
    middle: Float[np.ndarray, "... T 3"],
) -> Float[np.ndarray, "... T 3 3"]:
    """The matrix that takes (a, b, 1) on the plane middle + a right + b down (world vectors) to homogeneous screen points.

    Their third coordinate is the depth: positive before the camera.
    """
    from_camera = middle - np.stack([camera.x, camera.y, camera.z], -1)
    return view @ np.stack(np.broadcast_arrays(right, down, from_camera), -1)


def ground_to_screen(view: Matrices, camera: CameraPath) -> Matrices:
    """World (x, z, 1) on the ground y = GROUND_Y to homogeneous screen points."""
    right, down, middle = (np.broadcast_to(vector, (len(view), 3)) for vector in ((1.0, 0, 0), (0, 0, 1.0), (0, GROUND_Y, 0)))
    return plane_to_screen(view, camera, right, down, middle)


def project(to_screen: Float[np.ndarray, "... 3 3"], points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "... P 2"]:
    """Where points (a, b) of a plane are seen: screen (u, v). Points behind the camera come out mirrored."""
    homogeneous = to_screen @ np.concatenate([points, np.ones((len(points), 1))], 1).T
    return np.swapaxes(homogeneous[..., :2, :] / homogeneous[..., 2:, :], -1, -2)
