"""From a spec to geometry: where camera and subjects are in each frame, and the matrix of every plane that is drawn.

A plane's matrix `to_screen` [T 3 3] takes (a, b, 1), a and b in [-1, 1] over the picture on it, to homogeneous screen points;
its inverse says which point of the picture a pixel shows, in the coordinates of F.grid_sample.
"""

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
    project,
    view_matrices,
    wall_to_screen,
)
from kinema.world.motion import Pose, Stage, mirrored, move_subject
from kinema.world.spec import PACES, SHOTS, ClipSpec
from kinema.world.sprites import Subject

AIR_DEPTH = 1.5  # of a subject that does not stand on a ground
PAIR_SHRINK, PAIR_OFFSET = 0.74, 0.24  # two subjects: their size against one alone; how far each stands aside, in frame widths
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
    """Everything about a clip that moves. view: world to screen directions of the camera."""

    spec: ClipSpec
    horizon: float
    camera: CameraPath
    view: Matrices
    actors: tuple[Actor, ...]

    @property
    def frames(self) -> int:
        return len(self.view)

    def part(self, frames: slice) -> "Plan":
        """Some of the frames."""
        actors = [replace(actor, pose=actor.pose.part(frames), start=actor.start + frames.start) for actor in self.actors]
        return replace(self, camera=self.camera.part(frames), view=self.view[frames], actors=tuple(actors))

    def boxes(self) -> Float[np.ndarray, "A T 4"]:
        """Left, top, right, bottom of each subject's picture on the screen, in pixels, beyond the frame too."""
        scale, middle = self.spec.height, (self.spec.width / 2, self.spec.height / 2)
        corners = [project(actor_to_screen(self, actor), CORNERS) * scale + middle for actor in self.actors]
        return np.stack([np.concatenate([track.min(1), track.max(1)], 1) for track in corners])


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


def _placed(x: Series, y: Series, half_width: Series, half_height: Series, turn: Series) -> Matrices:
    """(a, b, 1) in [-1, 1] to plane coordinates: stretched, turned clockwise, moved."""
    cos, sin, nil, one = np.cos(turn), np.sin(turn), np.zeros_like(x), np.ones_like(x)
    rows = [cos * half_width, -sin * half_height, x, sin * half_width, cos * half_height, y, nil, nil, one]
    return np.stack(rows, 1).reshape(-1, 3, 3)


def actor_to_screen(plan: Plan, actor: Actor) -> Matrices:
    """The picture of an actor: upright at its depth, stretched from its feet up, turned about its middle."""
    pose, stage, depth = actor.pose, actor.stage, actor.depth
    half_width, half_height = (side * depth / 2 for side in stage.size)
    feet = GROUND_Y if stage.grounded else (stage.home[1] + stage.size[1] / 2 - plan.horizon) * depth
    y = feet - pose.lift * depth - half_height * np.abs(pose.stretch_y)
    side = -1.0 if actor.mirrored else 1.0
    wide = pose.stretch_x + np.copysign(0.04, pose.stretch_x)  # edge-on it is thin, never nothing
    placed = _placed(actor.x, y, side * half_width * wide, half_height * pose.stretch_y, pose.turn)
    return wall_to_screen(plan.view, plan.camera, actor.depths) @ placed


def shadow_to_screen(plan: Plan, actor: Actor) -> Matrices:
    """The blot on the ground below an actor; wider as it rises."""
    spread = 1 + 0.6 * np.maximum(actor.pose.lift, 0)
    width = 0.56 * actor.stage.size[0] * actor.depth * (0.35 + 0.65 * np.abs(actor.pose.stretch_x)) * spread
    placed = _placed(actor.x, actor.depths, width, 0.22 * actor.stage.size[0] * actor.depth * spread, np.zeros_like(width))
    return ground_to_screen(plan.view, plan.camera) @ placed


def shadow_strength(actor: Actor) -> Series:
    """Opacity of the blot's middle: dark on contact, faint below what flies."""
    return 0.5 / (1 + 5 * np.maximum(actor.pose.lift, 0))


def layer_to_screen(plan: Plan, depth: float, width: float, height: float, center: tuple[float, float]) -> Matrices:
    """A scene's layer, its sizes in frame heights at rest."""
    nil = np.zeros(plan.frames)
    x, y = center[0] * depth, (center[1] - plan.horizon) * depth
    placed = _placed(nil + x, nil + y, nil + width * depth / 2, nil + height * depth / 2, nil)
    return wall_to_screen(plan.view, plan.camera, nil + depth) @ placed
