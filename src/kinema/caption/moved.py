"""Clips whose camera movement is known, to train and to judge the classifier: the world's, and real footage moved by warps.

A camera that turns or zooms moves its picture by a homography whatever it sees, so that real pictures can be tilted and zoomed exactly;
one that travels (pan, around) needs depth, which only the world has. Noise, blur and brightness are changed at random.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from kinema.caption.flowfield import opencv
from kinema.records import CAMERA_MOVEMENTS
from kinema.world.camera import move_camera, view_matrices
from kinema.world.render import render_frames
from kinema.world.spec import ClipSpec, sample_spec
from kinema.world.sprites import SpritePack

TURNING = ("zoom in", "zoom out", "tilt up", "tilt down", "tilt left", "tilt right", "static", "handheld")
SIZES = ((128, 128), (128, 160), (128, 192))  # of rendered clips
SIZE = (144, 192)  # of warped ones
WINDOW = 0.62  # share of the real picture's height that the moved frame shows
FRAMES, FPS = 33, 12.0


def of_world(seed: int, pack: SpritePack, held_out: bool = False) -> tuple[ClipSpec, UInt8[np.ndarray, "T H W 3"]]:
    """A clip of the world; seeds go through the movements in turn."""
    rng = np.random.default_rng([seed, 1])
    height, width = SIZES[seed // len(CAMERA_MOVEMENTS) % len(SIZES)]
    spec = sample_spec(seed, pack.subjects, FRAMES, height, width, "heldout" if held_out else "train")
    spec = replace(spec, camera=CAMERA_MOVEMENTS[seed % len(CAMERA_MOVEMENTS)], camera_amount=float(rng.uniform(0.6, 1.4)))
    return spec, render_frames(spec, pack).permute(0, 2, 3, 1).numpy()


def warped(pictures: UInt8[np.ndarray, "T H W 3"], movement: str, amount: float, seed: int) -> UInt8[np.ndarray, "T 144 192 3"]:
    """Real pictures as a camera sees them that turns or zooms before them. movement: one of TURNING."""
    cv2 = opencv()
    camera = move_camera(movement, len(pictures), 1.0, amount, seed)
    if movement == "handheld":  # a shift of a camera far away from all things is a turn
        camera = replace(camera, yaw=camera.yaw + camera.x, pitch=camera.pitch - camera.y)
    camera = replace(camera, x=camera.x * 0, y=camera.y * 0)
    views = view_matrices(camera, 0.0)
    height, width = pictures.shape[1:3]
    scale = min(height * WINDOW / SIZE[0], width * WINDOW / SIZE[1])  # pixels of the picture a pixel of the frame, at rest
    screen = np.array([[SIZE[0], 0, SIZE[1] / 2], [0, SIZE[0], SIZE[0] / 2], [0, 0, 1]])  # frame heights to pixels
    source = np.array([[SIZE[0] * scale, 0, width / 2], [0, SIZE[0] * scale, height / 2], [0, 0, 1]])
    back = [source @ np.linalg.inv(view) @ np.linalg.inv(screen) for view in views]
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return np.stack([cv2.warpPerspective(picture, way, SIZE[::-1], **how) for picture, way in zip(pictures, back, strict=True)])


def worn(frames: UInt8[np.ndarray, "T H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "T H W 3"]:
    """Sensor noise and another exposure, half of the time."""
    if rng.random() < 0.5:
        return frames
    noise = rng.normal(0, rng.uniform(1, 6), frames.shape).astype(np.float32)
    return np.clip(frames * rng.uniform(0.6, 1.2) + noise, 0, 255).astype(np.uint8)


def stretches(path: Path, count: int, rng: np.random.Generator, live: bool) -> Iterator[UInt8[np.ndarray, "T H W 3"]]:
    """Pieces of a film as long as a clip. live: as it goes on, for films whose camera stands still; otherwise one frame held."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        length = float(film.duration or 0) / av.time_base
        for _ in range(count):
            film.seek(int(rng.uniform(0.02, 0.9) * length * av.time_base))
            decoded = (frame.to_ndarray(format="rgb24") for frame in film.decode(stream))
            wanted = FRAMES if live else 1
            pictures = list(islice(decoded, wanted))
            if len(pictures) == wanted:
                yield np.stack(pictures * (1 if live else FRAMES))


def of_footage(films: Sequence[tuple[Path, bool]], count: int, seed: int) -> Iterator[tuple[str, UInt8[np.ndarray, "T H W 3"]]]:
    """Movements and clips, `count` of each film. films: path, and whether its own camera stands still."""
    rng = np.random.default_rng([seed, 2])
    for path, live in films:
        for index, pictures in enumerate(stretches(path, count, rng, live)):
            movement = TURNING[index % len(TURNING)]
            yield movement, worn(warped(pictures, movement, float(rng.uniform(0.5, 1.5)), seed * 10_000 + index), rng)
