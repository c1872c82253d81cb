"""From a spec to geometry: where camera and subjects are in each frame, and the matrix of every plane that is drawn.

A plane's matrix takes (a, b, 1), a and b in [-1, 1] over the picture on it, to homogeneous screen points; its inverse says
which point of the picture a pixel shows, in the coordinates of F.grid_sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from kinema.world.camera import (
    GROUND_Y,
    CameraPath,
    Matrices,
    Series,
    ground_to_screen,
    move_camera,
    plane_to_screen,
    project,
    view_matrices,
)
from kinema.world.motion import Pose, Stage, mirrored, move_subject
from kinema.world.scenes import Layer
from kinema.world.spec import PACES, SHOTS, ClipSpec
from kinema.world.sprites import Subject

AIR_DEPTH = 1.5  # of a subject that does not stand on a ground
PAIR_SHRINK, PAIR_OFFSET = 0.78, 0.24  # two subjects: their size against one alone; how far each stands aside, in frame widths
HOVER = 0.15  # frame heights above the ground, of what flies
CORNERS = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


@dataclass(frozen=True)
class Actor:
    """A subject on its way. depth: at rest; start: the frame of its own loop that it begins with."""

    subject: Subject
    stage: Stage
    pose: Pose
    depth: float
    mirrored: bool
    start: int

    @property
    def depths(self) -> Series:
        return self.depth / self.pose.near

    @property
    def x(self) -> Series:
        return (self.stage.home[0] + self.pose.x) * self.depth


@dataclass(frozen=True)
class Plan:
    """Everything about a clip that moves. view: world directions to the screen."""

    spec: ClipSpec
    horizon: float
    camera: CameraPath
    view: Matrices
    actors: tuple[Actor, ...]

    def to_screen(self, quads: Sequence["Quad"]) -> Float[np.ndarray, "N T 3 3"]:
        """The matrices of some planes."""
        right, down, middle = (np.stack([getattr(quad, name) for quad in quads]) for name in ("right", "down", "middle"))
        return plane_to_screen(self.view, self.camera, right, down, middle)

    def ground(self) -> Matrices:
        """The matrix of the ground, whose points are (x, z)."""
        return ground_to_screen(self.view, self.camera)

    def in_pixels(self, to_screen: Float[np.ndarray, "N T 3 3"]) -> Float[np.ndarray, "N T 4 2"]:
        """Where the corners of pictures are seen, beyond the frame too: upper left, upper right, lower right, lower left."""
        return project(to_screen, CORNERS) * self.spec.height + (self.spec.width / 2, self.spec.height / 2)

    def boxes(self) -> Float[np.ndarray, "N T 4"]:
        """Left, top, right, bottom of each subject's picture in pixels, beyond the frame too."""
        corners = self.in_pixels(self.to_screen([actor_quad(self, actor) for actor in self.actors]))
        return np.concatenate([corners.min(2), corners.max(2)], 2)


def clip_rng(spec: ClipSpec, purpose: int) -> np.random.Generator:
    """Chance for one purpose of a clip, independent of the other purposes."""
    return np.random.Generator(np.random.PCG64([spec.seed, purpose]))


def _subject_size(spec: ClipSpec, proportion: float) -> tuple[float, float]:
    """Width and height in frame heights; proportion = width / height of its picture."""
    height = SHOTS[spec.shot].size * (PAIR_SHRINK if len(spec.subjects) > 1 else 1)
    widest = min(1.2 * height, 0.85 * spec.width / spec.height)
    height = min(height, widest / proportion)
    return height * proportion, height


def _stage(spec: ClipSpec, place: int, subject: Subject, proportion: float, grounded: bool, rng: np.random.Generator) -> Stage:
    aspect, size = spec.width / spec.height, _subject_size(spec, proportion)
    aside = (2 * place - 1) * PAIR_OFFSET if len(spec.subjects) > 1 else rng.uniform(-0.05, 0.05)
    y = SHOTS[spec.shot].feet - size[1] / 2 if grounded else rng.uniform(-0.04, 0.06)
    stage = Stage(
        width=aspect, size=size, home=(aside * aspect, y), seconds=spec.frames / spec.fps, pace=PACES[spec.pace], grounded=grounded
    )
    flies = grounded and (subject.travel == "fly" or subject.kind in ("sky", "weather"))
    return replace(stage, hover=min(HOVER, 0.6 * stage.headroom)) if flies else stage


def make_plan(spec: ClipSpec, cast: list[tuple[Subject, float]], horizon: float, grounded: bool) -> Plan:
    """Put the cast on its marks and move it.

    cast: each subject with the proportion width / height of its picture, in the order of the spec. horizon: of the scene (screen v).
    """
    rng = clip_rng(spec, 1)
    depth = GROUND_Y / (SHOTS[spec.shot].feet - horizon) if grounded else AIR_DEPTH
    actors = []
    for place, (subject, proportion) in enumerate(cast):
        stage = _stage(spec, place, subject, proportion, grounded, rng)
        pose = move_subject(spec.path, subject.travel, spec.frames, stage)
        flip = mirrored(spec.path, subject.facing, spec.mirror)
        actors.append(Actor(subject, stage, pose, depth, flip, int(rng.integers(0, 36))))
    camera = move_camera(spec.camera, spec.frames, depth, spec.camera_amount, spec.seed)
    return Plan(spec, horizon, camera, view_matrices(camera, horizon), tuple(actors))


@dataclass(frozen=True)
class Quad:
    """Where a picture hangs in the world in each frame: middle + a right + b down for a and b in [-1, 1]."""

    right: Float[np.ndarray, "T 3"]
    down: Float[np.ndarray, "T 3"]
    middle: Float[np.ndarray, "T 3"]


def _vectors(x: Series | float | int, y: Series | float | int, z: Series | float | int, frames: int) -> Float[np.ndarray, "T 3"]:
    vectors = np.empty((frames, 3))
    vectors[:, 0], vectors[:, 1], vectors[:, 2] = x, y, z
    return vectors


def actor_quad(plan: Plan, actor: Actor) -> Quad:
    """The picture of an actor: upright at its depth, stretched from its feet up, turned about its middle."""
    pose, stage, depth, frames = actor.pose, actor.stage, actor.depth, plan.spec.frames
    half_height = stage.size[1] * depth / 2
    feet = GROUND_Y if stage.grounded else (stage.home[1] - plan.horizon) * actor.depths + half_height  # in the air it comes straight at us
    thin = np.copysign(0.04, pose.stretch_x)  # edge-on it is thin, never nothing
    half_width = (-1 if actor.mirrored else 1) * stage.size[0] * depth / 2 * (pose.stretch_x + thin)
    y = feet - pose.lift * depth - half_height * pose.stretch_y
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    right = _vectors(cos * half_width, sin * half_width, 0, frames)
    down = _vectors(-sin * half_height * pose.stretch_y, cos * half_height * pose.stretch_y, 0, frames)
    return Quad(right, down, _vectors(actor.x, y, actor.depths, frames))


def shadow_quad(plan: Plan, actor: Actor) -> Quad:
    """The blot on the ground below an actor; wider as it rises."""
    size, frames = actor.stage.size[0] * actor.depth, plan.spec.frames
    spread = 1 + 0.6 * np.maximum(actor.pose.lift, 0)
    right = _vectors(0.56 * size * (0.35 + 0.65 * np.abs(actor.pose.stretch_x)) * spread, 0, 0, frames)
    return Quad(right, _vectors(0, 0, 0.22 * size * spread, frames), _vectors(actor.x, GROUND_Y, actor.depths, frames))


def shadow_strength(actor: Actor) -> Series:
    """Opacity of the blot's middle: dark on contact, faint below what flies."""
    return 0.5 / (1 + 5 * np.maximum(actor.pose.lift, 0))


def layer_quad(plan: Plan, layer: Layer) -> Quad:
    """A scene's layer: upright, its sizes in frame heights at rest."""
    z, (u, v), frames = layer.depth, layer.center, plan.spec.frames
    middle = _vectors(u * z, (v - plan.horizon) * z, z, frames)
    return Quad(_vectors(layer.width * z / 2, 0, 0, frames), _vectors(0, layer.height * z / 2, 0, frames), middle)
