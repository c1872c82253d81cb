"""A spec becomes frames: every picture of the scene is sampled through its plane's matrix and laid over those behind it.

Premultiplied alpha, far to near. A picture much larger than its image is shrunk by area first, so that nothing flickers;
what a still camera sees of the scene is painted once. Runs alike on CPU and CUDA: all frames of a picture in one call,
geometry in numpy, no waiting for the device before the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.world.camera import Matrices, ground_to_screen, project
from kinema.world.captions import describe
from kinema.world.light import apply_light
from kinema.world.motion import loop_frames
from kinema.world.plan import CORNERS, Actor, Plan, actor_to_screen, clip_rng, layer_to_screen, make_plan, shadow_strength, shadow_to_screen
from kinema.world.scenes import PLACES, Ground, Layer, draw_scene
from kinema.world.spec import ClipSpec
from kinema.world.sprites import SpritePack, Subject, premultiplied
from kinema.world.style import STYLES
from kinema.world.weather import weather_overlay

SCENE_MARGIN = 1.2  # texels a pixel of the scenes' pictures, so that a zoom stays sharp
KEPT_CUTOUTS = {"cpu": 64, "cuda": 4096}  # subjects whose frames stay on a device, up to 3.7 MB each
KEPT_SETS = {"cpu": 24, "cuda": 4096}  # scenes likewise, 1 to 20 MB each
CACHED_PIXELS = 4 * 256 * 256  # painted at a time on a CPU
GROUND_LEVELS = 4  # each for twice the depth of the one before


@dataclass(frozen=True)
class Clip:
    """Frames and the truth about them: spec, caption, boxes of the subjects in pixels, camera poses; all JSON."""

    frames: UInt8[Tensor, "T 3 H W"]
    truth: dict


@dataclass(frozen=True)
class Cutout:
    """A subject's loop, cut to what is ever opaque. proportion: width / height."""

    subject: Subject
    frames: UInt8[Tensor, "F 4 h w"]  # premultiplied

    @property
    def proportion(self) -> float:
        return self.frames.shape[-1] / self.frames.shape[-2]


def _cut(pack: SpritePack, subject_id: str, device: torch.device) -> Cutout:
    frames = pack.frames(subject_id)
    opaque = frames[:, 3].amax(0) > 24
    (top, bottom), (left, right) = (
        (int(i[0]), int(i[-1]) + 1) for i in (opaque.any(1).nonzero().flatten(), opaque.any(0).nonzero().flatten())
    )
    whole = premultiplied(frames, frames.shape[-1])
    return Cutout(pack.subject(subject_id), whole[..., top:bottom, left:right].contiguous().to(device))


@lru_cache(maxsize=4)
def _cutouts(pack: SpritePack, device: torch.device) -> Callable[[str], Cutout]:
    return lru_cache(maxsize=KEPT_CUTOUTS[device.type])(lambda subject_id: _cut(pack, subject_id, device))


@dataclass(frozen=True)
class Window:
    """Rows [top, bottom) and columns [left, right) of the frame."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def empty(self) -> bool:
        return self.top >= self.bottom or self.left >= self.right


def _window(to_screen: Matrices, spec: ClipSpec) -> Window:
    """The part of the frame in which a picture is seen in any frame, a pixel of margin included."""
    corners = project(to_screen, CORNERS).reshape(-1, 2) * spec.height + (spec.width / 2, spec.height / 2)
    (left, top), (right, bottom) = np.floor(corners.min(0)) - 1, np.ceil(corners.max(0)) + 1
    clip = lambda value, limit: int(min(max(value, 0), limit))  # noqa: E731
    return Window(clip(top, spec.height), clip(bottom, spec.height), clip(left, spec.width), clip(right, spec.width))


def _screen_axes(window: Window, spec: ClipSpec, device: torch.device) -> tuple[Float[Tensor, "w"], Float[Tensor, "h 1"]]:
    """u of the window's columns, v of its rows."""
    rows, columns = torch.arange(window.top, window.bottom, device=device), torch.arange(window.left, window.right, device=device)
    return (columns + 0.5 - spec.width / 2) / spec.height, ((rows + 0.5 - spec.height / 2) / spec.height)[:, None]


def _linear(row: Float[np.ndarray, "T 3"], axes: tuple[Tensor, Tensor]) -> Float[Tensor, "T h w"]:
    """a u + b v + c for every frame and pixel; where no frame has an a (or b), one column (or row) stands for all."""
    a, b, c = (torch.from_numpy(part.astype(np.float32)).to(axes[0].device) for part in np.split(row[:, :, None], 3, axis=1))
    total = c
    if np.abs(row[:, 1]).max() > 1e-9:
        total = b * axes[1] + total
    return a * axes[0] + total if np.abs(row[:, 0]).max() > 1e-9 else total


def _points(from_screen: Matrices, axes: tuple[Tensor, Tensor]) -> Float[Tensor, "T h w 2"]:
    """Where on its picture each pixel of a window looks, for F.grid_sample."""
    across, down, share = (_linear(from_screen[:, i] / from_screen[:, 2, 2:], axes) for i in range(3))
    points = torch.empty(len(from_screen), len(axes[1]), len(axes[0]), 2, device=axes[0].device)
    if share.shape[1:] == (1, 1):  # looking straight at it: nothing to divide by
        points[..., 0], points[..., 1] = across, down
    else:
        points[..., 0], points[..., 1] = across / share, down / share
    return points


def _sample(picture: Float[Tensor, "F C h w"], points: Float[Tensor, "T a b 2"], padding: str) -> Float[Tensor, "T C a b"]:
    picture = picture.expand(len(points), -1, -1, -1)
    return F.grid_sample(picture, points, mode="bilinear", padding_mode=padding, align_corners=False)


def _shrunk(picture: Float[Tensor, "F C h w"], texels_per_pixel: float) -> Float[Tensor, "F C a b"]:
    """Shrink by area to about one texel a pixel."""
    factor = int(texels_per_pixel + 0.5)
    return F.avg_pool2d(picture, factor, ceil_mode=True, count_include_pad=False) if factor > 1 else picture


def _sharpness(to_screen: Matrices, spec: ClipSpec, texels: int) -> float:
    """Texels a pixel, up and down, in the middle of the clip's scales."""
    ends = project(to_screen, np.array([[0.0, -1], [0, 1]]))
    return texels / max(float(np.median(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1))) * spec.height, 1.0)


def _lay(canvas: Float[Tensor, "T 3 H W"], window: Window, patch: Float[Tensor, "F 4 h w"]) -> None:
    target = canvas[..., window.slices[0], window.slices[1]]
    target.mul_(1 - patch[:, 3:]).add_(patch[:, :3])


def _spread(window: Window, flat: "Flat", spec: ClipSpec) -> Window:
    top, bottom, left, right = flat.runs_on
    return Window(
        0 if top else window.top,
        spec.height if bottom else window.bottom,
        0 if left else window.left,
        spec.width if right else window.right,
    )


def _paint_layer(canvas: Tensor, plan: Plan, flat: "Flat") -> None:
    layer = flat.layer
    to_screen = layer_to_screen(plan, layer.depth, layer.width, layer.height, layer.center)
    window = _spread(_window(to_screen, plan.spec), flat, plan.spec)
    if not window.empty:
        points = _points(np.linalg.inv(to_screen), _screen_axes(window, plan.spec, canvas.device))
        _lay(canvas, window, _sample(layer.texture[None], points, "border"))


def _paint_actor(canvas: Tensor, plan: Plan, actor: Actor, cutout: Cutout) -> None:
    to_screen = actor_to_screen(plan, actor)
    window = _window(to_screen, plan.spec)
    if window.empty:
        return
    which = loop_frames(plan.frames, len(cutout.frames), actor.start)
    loop = cutout.frames if len(cutout.frames) == 1 else cutout.frames[torch.from_numpy(which).to(canvas.device)]
    picture = _shrunk(loop.float() / 255, _sharpness(to_screen, plan.spec, cutout.frames.shape[-2]))
    points = _points(np.linalg.inv(to_screen), _screen_axes(window, plan.spec, canvas.device))
    _lay(canvas, window, _sample(picture, points, "zeros"))


@lru_cache(maxsize=4)
def _blot(device: torch.device) -> Float[Tensor, "1 4 s s"]:
    """A soft round shadow, black with alpha up to 1."""
    across = torch.linspace(-1, 1, 33)
    alpha = (1 - (across[:, None] ** 2 + across**2)).clamp(0) ** 1.5
    return F.pad(alpha[None, None], (0, 0, 0, 0, 3, 0)).to(device)


def _paint_shadow(canvas: Tensor, plan: Plan, actor: Actor) -> None:
    to_screen = shadow_to_screen(plan, actor)
    window = _window(to_screen, plan.spec)
    if not window.empty:
        points = _points(np.linalg.inv(to_screen), _screen_axes(window, plan.spec, canvas.device))
        strength = torch.from_numpy(shadow_strength(actor).astype(np.float32)).to(canvas.device)
        _lay(canvas, window, _sample(_blot(canvas.device), points, "zeros") * strength[:, None, None, None])


@dataclass(frozen=True)
class Flat:
    """A scene's layer, and at which edges (top, bottom, left, right) its picture runs on: there its last texels are drawn out.

    Those are the edges that lie well outside the frame at rest and do not fade out; at the others a rim of nothing is added.
    """

    layer: Layer
    runs_on: tuple[bool, bool, bool, bool]

    @classmethod
    def of(cls, layer: Layer) -> "Flat":
        alpha, (u, v), (texels_v, texels_u) = layer.texture[3], layer.center, layer.texture.shape[1:]
        beyond = (v - layer.height / 2 < -0.6, v + layer.height / 2 > 0.6, u - layer.width / 2 < -0.95, u + layer.width / 2 > 0.95)
        edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
        top, bottom, left, right = (out and bool(edge.max() > 0.02) for out, edge in zip(beyond, edges, strict=True))
        rim = (int(not left), int(not right), int(not top), int(not bottom))
        per_u, per_v = layer.width / texels_u, layer.height / texels_v
        padded = replace(
            layer,
            texture=F.pad(layer.texture, rim),
            width=layer.width + per_u * (rim[0] + rim[1]),
            height=layer.height + per_v * (rim[2] + rim[3]),
            center=(u + per_u * (rim[1] - rim[0]) / 2, v + per_v * (rim[3] - rim[2]) / 2),
        )
        return cls(padded, (top, bottom, left, right))


@dataclass(frozen=True)
class Floor:
    """A ground ready to be sampled. levels: ever more blurred by distance, each wrapped by one texel on every side."""

    ground: Ground
    levels: tuple[Float[Tensor, "1 3 h w"], ...]

    @classmethod
    def of(cls, ground: Ground, device: torch.device) -> "Floor":
        """Level k is for depth 2^k, where a pixel covers 2^k times the width and 4^k times the length that it covers at depth 1."""
        levels, size = [], ground.texture.shape[1:]
        for k in range(GROUND_LEVELS):
            small = max(1, size[0] // 4**k), max(1, size[1] // 2**k)
            level = F.adaptive_avg_pool2d(ground.texture[None], small)
            levels.append(F.pad(level, (1, 1, 1, 1), mode="circular").to(device))
        return cls(ground, tuple(levels))


@dataclass(frozen=True)
class StageSet:
    """A scene on a device, ready to be painted."""

    flats: tuple[Flat, ...]  # far to near
    floor: Floor | None
    horizon: float


def _build(place: str, variant: int, px: int, device: torch.device) -> StageSet:
    scene = draw_scene(place, variant, px)
    flats = tuple(replace(Flat.of(layer), layer=replace(layer, texture=layer.texture.to(device))) for layer in scene.layers)
    return StageSet(flats, Floor.of(scene.ground, device) if scene.ground else None, scene.horizon)


@lru_cache(maxsize=4)
def _sets(device: torch.device) -> Callable[[str, int, int], StageSet]:
    return lru_cache(maxsize=KEPT_SETS[device.type])(lambda place, variant, px: _build(place, variant, px, device))


def _level_rows(from_screen: Matrices, spec: ClipSpec) -> list[tuple[int, int]]:
    """Rows of the frame in which each level of a floor is seen in any frame; (0, 0) where it is not."""
    v = (np.arange(spec.height) + 0.5 - spec.height / 2) / spec.height
    ends = np.array([-1, 1])[:, None, None] * spec.width / spec.height / 2
    nearness = from_screen[:, 2, 0] * ends + from_screen[:, 2, 1] * v[:, None] + from_screen[:, 2, 2]
    least, most = nearness.min((0, 2)), nearness.max((0, 2))
    found = []
    for k in range(GROUND_LEVELS):
        low = 2.0 ** -(k + 1) if k < GROUND_LEVELS - 1 else -2 / spec.height
        high = 2.0 ** -(k - 1) if k else np.inf
        rows = np.flatnonzero((most >= low) & (least <= high))
        found.append((int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0))
    return found


def _tiled(floor: Floor, k: int, linear: Sequence[Tensor], axes: tuple[Tensor, Tensor]) -> Float[Tensor, "T 3 h w"]:
    """One level of a floor over some rows; linear: the homogeneous x, z and nearness of its pixels."""
    level, share = floor.levels[k], 1 / linear[2].clamp(min=1e-3) / floor.ground.tile
    points = torch.empty(len(share), len(axes[1]), len(axes[0]), 2, device=share.device)
    for axis, texels in enumerate((level.shape[-1], level.shape[-2])):
        periods = points[..., axis].copy_(linear[axis] * share)
        periods.sub_(periods.floor()).mul_(2 - 4 / texels).add_(2 / texels - 1)  # past the texel that wraps around
    return _sample(level, points, "border")


def _rows(values: Tensor, part: slice) -> Tensor:
    """Some rows of [T h w], or the one row that stands for all."""
    return values if values.shape[1] == 1 else values[:, part]


def _paint_floor(canvas: Tensor, plan: Plan, floor: Floor) -> None:
    """The ground, its levels blended by depth, fading to its haze and ending softly at the horizon."""
    spec, device = plan.spec, canvas.device
    from_screen = np.linalg.inv(ground_to_screen(plan.view, plan.camera))
    spans = _level_rows(from_screen, spec)
    top, bottom = min((a for a, b in spans if b), default=0), max(b for _, b in spans)
    if top >= bottom:
        return
    window = Window(top, bottom, 0, spec.width)
    axes = _screen_axes(window, spec, device)
    linear = [_linear(from_screen[:, i], axes) for i in range(3)]
    level = linear[2].clamp(min=1e-3).log2().neg().clamp(0, GROUND_LEVELS - 1)
    patch = torch.zeros(plan.frames, 4, bottom - top, spec.width, device=device)
    for k, (first, last) in enumerate(spans):
        if last:
            part = slice(first - top, last - top)
            weight = (1 - (_rows(level, part) - k).abs()).clamp(0)[:, None]
            patch[:, :3, part] += weight * _tiled(floor, k, [_rows(x, part) for x in linear], (axes[0], axes[1][part]))
    haze = (1 - floor.ground.haze_start * linear[2]).clamp(0, 1)[:, None]
    patch[:, :3] += (torch.tensor(floor.ground.haze, device=device)[:, None, None] - patch[:, :3]) * haze
    patch[:, 3] = (linear[2] * (spec.height / 2) + 0.5).clamp(0, 1)
    patch[:, :3] *= patch[:, 3:]
    _lay(canvas, window, patch)


def _paint_behind(plan: Plan, scenery: StageSet, stand: float, device: torch.device) -> Float[Tensor, "T 3 H W"]:
    """What lies farther than depth `stand`; the ground lies over the backdrop."""
    canvas = torch.zeros(plan.frames, 3, plan.spec.height, plan.spec.width, device=device)
    _paint_layer(canvas, plan, scenery.flats[0])
    if scenery.floor:
        _paint_floor(canvas, plan, scenery.floor)
    for flat in scenery.flats[1:]:
        if flat.layer.depth >= stand:
            _paint_layer(canvas, plan, flat)
    return canvas


def _paint_before(canvas: Tensor, plan: Plan, still: Plan, scenery: StageSet, cast: Sequence[Cutout], stand: float) -> None:
    """The subjects, and what is nearer than they are."""
    for actor in plan.actors:
        if actor.stage.grounded:
            _paint_shadow(canvas, plan, actor)
    for actor, cutout in zip(plan.actors, cast, strict=True):
        _paint_actor(canvas, plan, actor, cutout)
    for flat in scenery.flats[1:]:
        if flat.layer.depth < stand:
            _paint_layer(canvas, still, flat)


def _paint(plan: Plan, scenery: StageSet, cast: Sequence[Cutout], device: torch.device) -> Float[Tensor, "T 3 H W"]:
    """Everything far to near; on a CPU few frames at a time, which then stay in its cache."""
    stand = max(float(actor.depths.mean()) for actor in plan.actors)
    fixed = plan.part(slice(0, 1)) if plan.spec.camera == "static" else None
    backdrop = _paint_behind(fixed, scenery, stand, device) if fixed else None
    step = plan.frames if device.type == "cuda" else max(1, CACHED_PIXELS // (plan.spec.height * plan.spec.width))
    parts = []
    for start in range(0, plan.frames, step):
        part = plan.part(slice(start, start + step))
        canvas = _paint_behind(part, scenery, stand, device) if backdrop is None else backdrop.repeat(part.frames, 1, 1, 1)
        _paint_before(canvas, part, fixed or part, scenery, cast, stand)
        parts.append(canvas)
    return torch.cat(parts)


def _finish(frames: Float[Tensor, "T 3 H W"], spec: ClipSpec, device: torch.device) -> UInt8[Tensor, "T 3 H W"]:
    """Light, then weather, then style."""
    frames = apply_light(frames, spec.light)
    overlay = weather_overlay(spec.weather, spec.frames, spec.height, spec.width, clip_rng(spec, 2), str(device))
    if overlay is not None:
        frames = frames * (1 - overlay[:, 3:]) + overlay[:, :3]
    return STYLES[spec.style].apply(frames).clamp(0, 1).mul(255).add_(0.5).to(torch.uint8)


def plan_clip(spec: ClipSpec, pack: SpritePack, device: torch.device | str = "cpu") -> tuple[Plan, StageSet, list[Cutout]]:
    """What a spec asks for: its geometry, its scenery and its cast on a device."""
    device = torch.device(device)
    px = int(np.ceil(spec.height * SCENE_MARGIN / 16)) * 16
    scenery = _sets(device)(spec.place, spec.variant, px)
    cast = [_cutouts(pack, device)(subject_id) for subject_id in spec.subjects]
    actors = [(cutout.subject, cutout.proportion) for cutout in cast]
    return make_plan(spec, actors, scenery.horizon, PLACES[spec.place].has_ground), scenery, cast


def render_frames(spec: ClipSpec, pack: SpritePack, device: torch.device | str = "cpu") -> UInt8[Tensor, "T 3 H W"]:
    """The frames alone, left on the device without waiting for it."""
    device = torch.device(device)
    plan, scenery, cast = plan_clip(spec, pack, device)
    with torch.inference_mode():
        return _finish(_paint(plan, scenery, cast, device), spec, device)


def render_batch(specs: Sequence[ClipSpec], pack: SpritePack, device: torch.device | str = "cpu") -> UInt8[Tensor, "B T 3 H W"]:
    """Clips of one size, for training loops."""
    return torch.stack([render_frames(spec, pack, device) for spec in specs])


def render(spec: ClipSpec, pack: SpritePack, device: torch.device | str = "cpu") -> Clip:
    """A clip and its truth: the same spec gives the same bits on the same machine."""
    plan, _, _ = plan_clip(spec, pack, device)
    subjects = [actor.subject for actor in plan.actors]
    truth = {
        "spec": spec.to_json(),
        "caption": describe(spec, subjects).to_json(),
        "boxes": plan.boxes().round(2).tolist(),
        "camera": plan.camera.to_json(),
    }
    return Clip(render_frames(spec, pack, device), truth)
