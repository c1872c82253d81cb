"""How subjects move: PATHS, each a function of progress, and the gait, verb and facing that suit a subject on it.

Positions are measured in frame heights at the subject's resting depth, so a path looks the same for near and far subjects.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from kinema.world.camera import Series, ease

SPRITE_RATE = 12  # frames per second of the sprites' own loops


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a path has to fit into.

    width: of the frame, in frame heights. size: (width, height) of the subject at rest, likewise. home: where it rests (x, y of its middle
    on the screen). seconds: the clip's length. pace: 0.7 slow, 1 plain, 1.45 quick. grounded: it stands rather than floats.
    hover: how high above the ground it keeps itself.
    """

    width: float
    size: tuple[float, float]
    home: tuple[float, float]
    seconds: float
    pace: float
    grounded: bool
    hover: float = 0.0

    @property
    def headroom(self) -> float:
        """Free height above the subject at rest."""
        return max(0.0, 0.5 + self.home[1] - self.size[1] / 2)

    def turns(self, rate: float, least: float = 1.0) -> float:
        """How often something with a natural rate (1/s) happens in the clip, at least `least` times."""
        return max(least, rate * self.pace * self.seconds)

    @property
    def crossing(self) -> float:
        """How far a subject goes on its way across the frame, at least 0.45 of its width."""
        return self.width * min(0.95, 0.66 * self.pace)

    def outside(self, side: int) -> float:
        """The x, from home, at which a subject is just out of the frame on a side (-1 left, 1 right)."""
        return side * (self.width / 2 + 0.55 * self.size[0]) - self.home[0]


@dataclass(frozen=True)
class Pose:
    """A subject in each frame, against its rest.

    x: to the right, lift: upwards, in frame heights at the resting depth. near: 2 is half as deep, so twice
    as big. turn: radians clockwise. stretch_x, stretch_y: of its width (negative: seen from behind, mirrored) and its height.
    """

    x: Series
    lift: Series
    near: Series
    turn: Series
    stretch_x: Series
    stretch_y: Series

    @classmethod
    def at_rest(cls, frames: int) -> "Pose":
        nil, one = np.zeros(frames), np.ones(frames)
        return cls(nil, nil, one, nil, one, one)


PathFn = Callable[[Series, Stage, Pose], Pose]


@dataclass(frozen=True, kw_only=True)
class Path:
    """A way to move.

    move: progress in [0, 1], stage and rest pose -> pose. heading: where the subject goes on the screen ("left", "right", "up", "down",
    "near", "far"), None where it comes back. says: ways to say it, each a verb ("~": the subject's natural one) and the words after it.
    weight: how often it is drawn. front: it looks odd on pictures seen from the side. gait: it steps (hops, flaps) on its way.
    paced: slow and quick differ. travels: ways of getting about that it suits; empty: any.
    """

    move: PathFn
    says: tuple[tuple[str, str], ...]
    heading: str | None = None
    weight: float = 1.0
    front: bool = False
    gait: bool = False
    paced: bool = True
    travels: frozenset[str] = frozenset()


def _across(side: int) -> PathFn:
    def move(p: Series, stage: Stage, rest: Pose) -> Pose:
        return replace(rest, x=side * stage.crossing * (p - 0.5))

    return move


def _enter(side: int) -> PathFn:
    """From outside on one side to home, arriving before the end."""

    def move(p: Series, stage: Stage, rest: Pose) -> Pose:
        arrival = min(1.0, 0.95 / stage.pace**0.5)
        way = np.sin(np.pi / 2 * np.minimum(p / arrival, 1))
        return replace(rest, x=stage.outside(side) * (1 - way))

    return move


def _leave(side: int) -> PathFn:
    def move(p: Series, stage: Stage, rest: Pose) -> Pose:
        lasts = min(0.95, 0.88 / stage.pace**0.7)
        return replace(rest, x=stage.outside(side) * 1.05 * np.clip((p - 0.05) / lasts, 0, 1))

    return move


def _approach(p: Series, stage: Stage, rest: Pose) -> Pose:
    nearest = min(1.25, 0.85 / stage.size[1])
    return replace(rest, near=nearest * np.exp(-np.log(2.6) * stage.pace**0.8 * (1 - p)))


def _recede(p: Series, stage: Stage, rest: Pose) -> Pose:
    return _approach(1 - p, stage, rest)


def _grow(p: Series, stage: Stage, rest: Pose) -> Pose:
    scale = np.exp(np.log(1.3) - np.log(3.0) * stage.pace**0.8 * (1 - ease(p)))
    return replace(rest, stretch_x=scale, stretch_y=scale)


def _shrink(p: Series, stage: Stage, rest: Pose) -> Pose:
    return _grow(1 - p, stage, rest)


def _rise(p: Series, stage: Stage, rest: Pose) -> Pose:
    """Upwards through the frame; what stands takes off from the ground."""
    bottom = 0.0 if stage.grounded else -0.32
    return replace(rest, lift=bottom + (0.62 - bottom) * min(1.0, 0.9 * stage.pace**0.5) * ease(p))


def _fall(p: Series, stage: Stage, rest: Pose) -> Pose:
    """From above the frame; what has ground below lands on it, bounces once and squashes, the rest falls through."""
    top = 0.5 + stage.home[1] + 0.3 * stage.size[1]
    if not stage.grounded:
        return replace(rest, lift=top + (-0.5 + stage.home[1] - 0.4 * stage.size[1] - top) * (0.6 * p + 0.4 * p**2))
    landing, hop = 0.62, 0.16
    falling = top * (1 - 0.35 * (p / landing) - 0.65 * (p / landing) ** 2)
    after = np.clip((p - landing) / (0.9 - landing), 0, 1)
    lift = np.where(p < landing, falling, 4 * hop * after * (1 - after))
    return _squashed(replace(rest, lift=lift), 0.25 * np.exp(-(((p - landing) / 0.05) ** 2)))


def _squashed(pose: Pose, squash: Series) -> Pose:
    """Flatter by a share and as much wider."""
    return replace(pose, stretch_x=pose.stretch_x * (1 + 0.6 * squash), stretch_y=pose.stretch_y * (1 - squash))


def _hops(p: Series, turns: float, height: float, rest: Pose) -> Pose:
    """Parabolic hops with a squash where they meet the ground."""
    phase = (turns * p) % 1
    landing = np.maximum(0, 1 - np.minimum(phase, 1 - phase) / 0.14)
    return _squashed(replace(rest, lift=4 * height * phase * (1 - phase)), 0.22 * landing)


def _bounce(side: int) -> PathFn:
    def move(p: Series, stage: Stage, rest: Pose) -> Pose:
        pose = _hops(p, max(2.0, float(round(stage.turns(1.15)))), 0.22, rest)
        return replace(pose, x=side * stage.crossing * (p - 0.5))

    return move


def _jump(p: Series, stage: Stage, rest: Pose) -> Pose:
    """One or two high jumps, each gathered first by crouching."""
    turns = max(1.0, round(stage.turns(0.55)))
    phase = (turns * p) % 1
    crouch, air = 0.3, np.clip((phase - 0.3) / 0.55, 0, 1)
    height = min(0.36, max(0.2, stage.headroom))
    squash = 0.3 * np.sin(np.pi * np.clip(phase / crouch, 0, 1)) + 0.2 * np.sin(np.pi * np.clip((phase - 0.85) / 0.15, 0, 1))
    return _squashed(replace(rest, lift=4 * height * air * (1 - air)), squash)


def _spin(p: Series, stage: Stage, rest: Pose) -> Pose:
    return replace(rest, turn=2 * np.pi * max(1, round(stage.turns(0.55))) * p)


def _twirl(p: Series, stage: Stage, rest: Pose) -> Pose:
    """About its upright axis, as a dancer; it is flat, so its back mirrors its front."""
    return replace(rest, stretch_x=np.cos(2 * np.pi * max(1, round(stage.turns(0.6))) * p))


def _roll(side: int) -> PathFn:
    def move(p: Series, stage: Stage, rest: Pose) -> Pose:
        distance = side * stage.crossing * (p - 0.5)
        return replace(rest, x=distance, turn=distance / (0.5 * max(stage.size)))

    return move


def _circle(p: Series, stage: Stage, rest: Pose) -> Pose:
    """On the ground around a spot, nearer and farther; in the air around a point."""
    angle = 2 * np.pi * max(1, round(stage.turns(0.4))) * p
    radius = 0.24 * stage.width**0.5
    if stage.grounded:
        return replace(rest, x=radius * 1.15 * np.sin(angle), near=1 / (1.12 + 0.34 * np.cos(angle)))
    return replace(rest, x=radius * np.sin(angle), lift=radius * np.cos(angle))


def _sway(p: Series, stage: Stage, rest: Pose) -> Pose:
    swing = np.sin(2 * np.pi * max(1.5, stage.turns(0.7)) * p)
    return replace(rest, x=0.15 * swing, turn=0.24 * swing)


def _shake(p: Series, stage: Stage, rest: Pose) -> Pose:
    angle = 2 * np.pi * stage.turns(2.7, 3.0) * p
    return replace(rest, x=0.025 * np.sin(angle), turn=0.09 * np.sin(angle + 0.6))


def _float(p: Series, stage: Stage, rest: Pose) -> Pose:
    wave = 2 * np.pi * max(1.0, stage.turns(0.5)) * p
    base = min(0.2, max(0.14, stage.headroom)) if stage.grounded else 0.0
    return replace(rest, lift=base + 0.13 * np.sin(wave), turn=0.06 * np.sin(wave + 1.2))


def _zigzag(side: int) -> PathFn:
    """Across the frame in three straight strokes: in depth on the ground, in height in the air."""

    def move(p: Series, stage: Stage, rest: Pose) -> Pose:
        wave = 1 - 4 * np.abs((1.5 * p + 0.25) % 1 - 0.5)
        across = replace(rest, x=side * stage.crossing * (p - 0.5))
        return replace(across, near=1 / (1.2 + 0.32 * wave)) if stage.grounded else replace(across, lift=0.22 * wave)

    return move


def _stay(p: Series, stage: Stage, rest: Pose) -> Pose:
    return rest


_ROUND = frozenset({"roll", "float"})

PATHS: dict[str, Path] = {
    "stays": Path(move=_stay, says=(("stay", "in place"), ("remain", "where it is")), weight=3.2, paced=False),
    "moves left": Path(
        move=_across(-1), heading="left", weight=3.6, gait=True,
        says=(("~", "to the left"), ("~", "left"), ("~", "from right to left"), ("move", "to the left"), ("~", "")),
    ),
    "moves right": Path(
        move=_across(1), heading="right", weight=3.6, gait=True,
        says=(("~", "to the right"), ("~", "right"), ("~", "from left to right"), ("move", "to the right"), ("~", "")),
    ),
    "enters left": Path(
        move=_enter(-1), heading="right", weight=1.1, gait=True,
        says=(("~", "in from the left"), ("enter", "from the left"), ("come", "in from the left")),
    ),
    "enters right": Path(
        move=_enter(1), heading="left", weight=1.1, gait=True,
        says=(("~", "in from the right"), ("enter", "from the right"), ("come", "in from the right")),
    ),
    "leaves left": Path(
        move=_leave(-1), heading="left", weight=0.8, gait=True,
        says=(("~", "out of the picture to the left"), ("leave", "to the left"), ("~", "away to the left"), ("exit", "on the left")),
    ),
    "leaves right": Path(
        move=_leave(1), heading="right", weight=0.8, gait=True,
        says=(("~", "out of the picture to the right"), ("leave", "to the right"), ("~", "away to the right"), ("exit", "on the right")),
    ),
    "approaches": Path(
        move=_approach, heading="near", weight=1.7, front=True, gait=True,
        says=(("~", "towards the camera"), ("come", "closer"), ("~", "closer to the viewer"), ("approach", "the camera")),
    ),
    "recedes": Path(
        move=_recede, heading="far", weight=1.3, front=True, gait=True,
        says=(("~", "away from the camera"), ("move", "off into the distance"), ("~", "farther and farther away")),
    ),
    "grows": Path(move=_grow, says=(("grow", "bigger and bigger"), ("grow", "larger"), ("become", "bigger")), weight=0.7),
    "shrinks": Path(move=_shrink, says=(("shrink", ""), ("get", "smaller and smaller"), ("become", "smaller")), weight=0.7),
    "rises": Path(move=_rise, heading="up", says=(("rise", "up into the air"), ("fly", "up"), ("go", "upwards"), ("rise", "")), weight=1.2),
    "falls": Path(
        move=_fall, heading="down", weight=1.2, paced=False,
        says=(("fall", "down from above"), ("drop", "down from the top"), ("fall", "from the sky"), ("drop", "down")),
    ),
    "bounces": Path(move=_bounce(0), says=(("bounce", "up and down"), ("hop", "up and down"), ("bounce", "on the spot")), weight=1.4),
    "bounces left": Path(move=_bounce(-1), heading="left", says=(("bounce", "to the left"), ("hop", "to the left")), weight=0.8),
    "bounces right": Path(move=_bounce(1), heading="right", says=(("bounce", "to the right"), ("hop", "to the right")), weight=0.8),
    "jumps": Path(move=_jump, says=(("jump", "high into the air"), ("jump", "up"), ("leap", "into the air"), ("jump", "")), weight=1.3),
    "spins": Path(
        move=_spin, weight=1.2, says=(("spin", "around"), ("spin", "like a wheel"), ("rotate", "clockwise"), ("turn", "over and over"))
    ),
    "twirls": Path(move=_twirl, says=(("twirl", "around"), ("twirl", "on the spot"), ("pirouette", "")), weight=0.9),
    "rolls left": Path(
        move=_roll(-1), heading="left", says=(("roll", "to the left"), ("roll", "over and over to the left")), weight=1.2, travels=_ROUND
    ),
    "rolls right": Path(
        move=_roll(1), heading="right", says=(("roll", "to the right"), ("roll", "over and over to the right")), weight=1.2, travels=_ROUND
    ),
    "circles": Path(move=_circle, says=(("~", "around in a circle"), ("~", "in circles"), ("move", "in a circle")), weight=1.1, gait=True),
    "sways": Path(move=_sway, says=(("sway", "from side to side"), ("swing", "left and right"), ("rock", "from side to side"))),
    "shakes": Path(move=_shake, says=(("shake", ""), ("tremble", ""), ("shiver", "")), weight=0.8),
    "floats": Path(move=_float, says=(("float", "up and down"), ("hover", "in the air"), ("float", "in the air")), weight=1.1),
    "zigzags left": Path(
        move=_zigzag(-1), heading="left", weight=0.6, gait=True, says=(("zigzag", "to the left"), ("~", "to the left in a zigzag"))
    ),
    "zigzags right": Path(
        move=_zigzag(1), heading="right", weight=0.6, gait=True, says=(("zigzag", "to the right"), ("~", "to the right in a zigzag"))
    ),
}  # fmt: skip


def allowed_paths(travel: str, facing: str) -> tuple[str, ...]:
    """The paths that suit a subject: side views do not come nearer, and only what is round rolls."""
    from_side = facing in ("left", "right")
    suits = lambda path: not (path.front and from_side) and (not path.travels or travel in path.travels)  # noqa: E731
    return tuple(name for name, path in PATHS.items() if suits(path))


_GAITS: dict[str, tuple[float, float, float]] = {  # rate (1/s), lift (frame heights), turn (radians)
    "walk": (1.9, 0.022, 0.035),
    "run": (2.6, 0.035, 0.05),
    "hop": (1.9, 0.11, 0.0),
    "crawl": (1.6, 0.008, 0.03),
    "drive": (3.0, 0.006, 0.008),
    "roll": (2.2, 0.006, 0.01),
    "fly": (0.9, 0.04, 0.05),
    "swim": (0.9, 0.03, 0.06),
    "sail": (0.7, 0.02, 0.06),
    "float": (0.8, 0.04, 0.05),
    "slither": (1.6, 0.012, 0.06),
    "slide": (0.5, 0.0, 0.02),
    "spin": (0.9, 0.03, 0.08),
    "none": (0.5, 0.0, 0.0),
}
_STEPPING = frozenset({"walk", "run", "hop", "crawl", "drive"})


def _with_gait(pose: Pose, p: Series, stage: Stage, travel: str) -> Pose:
    """The small rise and fall of a step, a hop or a wingbeat; a turn as if on feet or on the waves."""
    rate, lift, turn = _GAITS[travel]
    wave = np.pi * rate * stage.pace * stage.seconds * p
    bob = np.abs(np.sin(wave)) if travel in _STEPPING else np.sin(wave)
    size = stage.size[1] / 0.5
    return replace(pose, lift=pose.lift + lift * size * bob, turn=pose.turn + turn * np.sin(wave + 0.8))


def move_subject(path: str, travel: str, frames: int, stage: Stage) -> Pose:
    """The pose of a subject in each frame of a clip.

    path: a name in PATHS. travel: the subject's natural way of getting about, which gives its gait.
    """
    progress, chosen = np.linspace(0, 1, frames), PATHS[path]
    pose = chosen.move(progress, stage, Pose.at_rest(frames))
    pose = replace(pose, lift=pose.lift + stage.hover)
    return _with_gait(pose, progress, stage, travel) if chosen.gait else pose


def mirrored(path: str, facing: str, prefer: bool) -> bool:
    """Whether the subject's picture must be mirrored to look where it goes; where the path has no side, as preferred.

    facing: of the picture. Only pictures seen from the side are ever mirrored.
    """
    if facing not in ("left", "right"):
        return False
    heading = PATHS[path].heading
    return facing != heading if heading in ("left", "right") else prefer


def loop_frames(frames: int, length: int, start: int) -> Int[np.ndarray, " T"]:
    """Which frame of its own loop (12 fps, `length` frames) a sprite shows in each frame of the clip."""
    return (start + np.arange(frames)) % length


_AIR = {"walk": "drift", "run": "drift", "drive": "float", "roll": "tumble", "hop": "drift", "crawl": "drift", "slither": "drift",
        "slide": "drift", "sail": "float", "swim": "drift", "none": "drift", "spin": "whirl", "float": "float", "fly": "fly"}  # fmt: skip
_WATER = {"fly": "glide", "sail": "sail", "drive": "float", "none": "drift", "slide": "glide", "float": "float", "spin": "whirl",
          "roll": "tumble"}  # fmt: skip
_LAND = {"none": "slide", "float": "float", "swim": "slide", "sail": "slide", "spin": "whirl"}


def natural_verb(travel: str, medium: str) -> str:
    """The verb (third person without its s) for how a subject gets about: "walk", "fly", "drive".

    medium: "land", "water" or "air", where it happens.
    """
    if medium == "land":
        return _LAND.get(travel, travel)
    return _AIR[travel] if medium == "air" else _WATER.get(travel, "swim")
