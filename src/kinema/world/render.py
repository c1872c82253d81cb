"""A spec becomes frames: scenery, shadows and subjects from far to near, then light, weather and style.

A subject much larger than its image is shrunk by area first, so that nothing flickers; what a still camera sees of the scene
is painted once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.world.captions import describe
from kinema.world.light import apply_light
from kinema.world.motion import loop_frames
from kinema.world.paint import Floor, Looks, PictureLooks, Window, blot, look_at, look_down, paint, paint_floor, upload
from kinema.world.plan import Plan, actor_quad, clip_rng, layer_quad, make_plan, shadow_quad, shadow_strength
from kinema.world.scenes import PLACES, Layer, draw_scene
from kinema.world.spec import ClipSpec
from kinema.world.sprites import SpritePack, Subject
from kinema.world.style import STYLES
from kinema.world.weather import weather_overlay

SCENE_MARGIN = 1.2  # texels a pixel of the scenes' pictures, so that a zoom stays sharp
KEPT_CUTOUTS = {"cpu": 64, "cuda": 4096}  # subjects whose frames stay on a device, 1 to 5 MB each
# Scenes likewise, 2 to 20 MB each at 128 pixels, 90 at 360: of the 1,152 places and variants few meet again.
KEPT_SETS = {"cpu": 4, "cuda": 1200}
CACHED_PIXELS = 4 * 256 * 256  # painted at a time on a CPU


@dataclass(frozen=True)
class Clip:
    """Frames and the truth about them: spec, caption, boxes of the subjects in pixels, camera poses; all JSON."""

    frames: UInt8[Tensor, "T 3 H W"]
    truth: dict


@dataclass(frozen=True)
class Cutout:
    """A subject's loop, cut to what is ever opaque, and its smaller copies by the factor they are shrunk by."""

    subject: Subject
    frames: UInt8[Tensor, "F 4 h w"]  # premultiplied
    smaller: dict[int, UInt8[Tensor, "F 4 _ _"]] = field(default_factory=dict)

    @property
    def proportion(self) -> float:
        """Width / height."""
        return self.frames.shape[-1] / self.frames.shape[-2]

    def at(self, texels_per_pixel: float) -> UInt8[Tensor, "F 4 a b"]:
        """The copy with about one texel a pixel, shrunk by area."""
        factor = max(1, int(texels_per_pixel + 0.5))
        if factor == 1:
            return self.frames
        if factor not in self.smaller:
            shrunk = F.avg_pool2d(self.frames.float(), factor, ceil_mode=True, count_include_pad=False)
            self.smaller[factor] = shrunk.add_(0.5).to(torch.uint8)
        return self.smaller[factor]


def _cut(pack: SpritePack, subject_id: str, device: torch.device) -> Cutout:
    frames = pack.frames(subject_id)
    opaque = frames[:, 3].amax(0) > 24
    rows, columns = opaque.any(1).nonzero().flatten(), opaque.any(0).nonzero().flatten()
    cut = frames[..., int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    alpha = cut[:, 3:].float() / 255
    return Cutout(pack.subject(subject_id), torch.cat([(cut[:, :3] * alpha).add_(0.5).to(torch.uint8), cut[:, 3:]], 1).to(device))


@lru_cache(maxsize=4)
def _cutouts(pack: SpritePack, device: torch.device) -> Callable[[str], Cutout]:
    return lru_cache(maxsize=KEPT_CUTOUTS[device.type])(lambda subject_id: _cut(pack, subject_id, device))


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

    def window(self, looks: PictureLooks) -> Window:
        (top, bottom, left, right), (height, width), seen = self.runs_on, looks.size, looks.window()
        return Window(0 if top else seen.top, height if bottom else seen.bottom, 0 if left else seen.left, width if right else seen.right)

    def paint(self, canvas: Float[Tensor, "T 3 H W"], looks: PictureLooks) -> None:
        paint(canvas, looks, self.window(looks), self.layer.texture[None], "border")


@dataclass(frozen=True)
class Scenery:
    """A scene on a device, ready to be painted."""

    flats: tuple[Flat, ...]  # far to near
    floor: Floor | None
    horizon: float


def _build(place: str, variant: int, px: int, device: torch.device) -> Scenery:
    scene = draw_scene(place, variant, px)
    flats = [Flat.of(layer) for layer in scene.layers]
    flats = [replace(flat, layer=replace(flat.layer, texture=flat.layer.texture.to(device))) for flat in flats]
    return Scenery(tuple(flats), Floor.of(scene.ground, device) if scene.ground else None, scene.horizon)


@lru_cache(maxsize=4)
def _sceneries(device: torch.device) -> Callable[[str, int, int], Scenery]:
    return lru_cache(maxsize=KEPT_SETS[device.type])(lambda place, variant, px: _build(place, variant, px, device))


@dataclass(frozen=True)
class Shoot:
    """A clip about to be painted: its plan, what is on the set, and where each pixel looks on each thing."""

    plan: Plan
    scenery: Scenery
    cast: Sequence[Cutout]
    on_flats: Sequence[PictureLooks]
    on_shadows: Sequence[PictureLooks]
    on_cast: Sequence[PictureLooks]
    on_floor: Looks | None
    device: torch.device

    @property
    def stand(self) -> float:
        """The depth that parts what is behind the subjects from what is before them."""
        return max(float(actor.depths.mean()) for actor in self.plan.actors)


def _set_up(plan: Plan, scenery: Scenery, cast: Sequence[Cutout], device: torch.device) -> Shoot:
    quads = [layer_quad(plan, flat.layer) for flat in scenery.flats]
    quads += [shadow_quad(plan, actor) for actor in plan.actors]
    quads += [actor_quad(plan, actor) for actor in plan.actors]
    looks, first = look_at(plan, quads, device), len(scenery.flats)
    second = first + len(plan.actors)
    on_floor = look_down(plan, device) if scenery.floor else None
    return Shoot(plan, scenery, cast, looks[:first], looks[first:second], looks[second:], on_floor, device)


def _paint_behind(shoot: Shoot, frames: slice) -> Float[Tensor, "T 3 H W"]:
    """What lies behind the subjects; the ground lies over the backdrop."""
    spec, scenery = shoot.plan.spec, shoot.scenery
    canvas = torch.zeros(len(range(spec.frames)[frames]), 3, spec.height, spec.width, device=shoot.device)
    for place, (flat, looks) in enumerate(zip(scenery.flats, shoot.on_flats, strict=True)):
        if place == 0 or flat.layer.depth >= shoot.stand:
            flat.paint(canvas, looks.part(frames))
        if place == 0 and scenery.floor and shoot.on_floor:
            paint_floor(canvas, shoot.on_floor.part(frames), scenery.floor)
    return canvas


def _paint_shadows(canvas: Float[Tensor, "T 3 H W"], shoot: Shoot, frames: slice) -> None:
    for actor, looks in zip(shoot.plan.actors, shoot.on_shadows, strict=True):
        if actor.stage.grounded:
            look, strength = looks.part(frames), upload(shadow_strength(actor)[frames], shoot.device)
            paint(canvas, look, look.window(), blot(shoot.device) * strength[:, None, None, None], "zeros")


def _paint_cast(canvas: Float[Tensor, "T 3 H W"], shoot: Shoot, frames: slice) -> None:
    for actor, cutout, looks in zip(shoot.plan.actors, shoot.cast, shoot.on_cast, strict=True):
        height = float(np.median(np.hypot(*(looks.bounds[:, 2:] - looks.bounds[:, :2]).T) / np.hypot(1, cutout.proportion)))
        loop = cutout.at(cutout.frames.shape[-2] / max(height, 1.0))
        which = upload(loop_frames(shoot.plan.spec.frames, len(loop), actor.start)[frames], shoot.device)
        look = looks.part(frames)
        paint(canvas, look, look.window(), loop[which].float().mul_(1 / 255), "zeros")


def _finish(frames: Float[Tensor, "T 3 H W"], spec: ClipSpec, overlay: Float[Tensor, "T 4 H W"] | None) -> UInt8[Tensor, "T 3 H W"]:
    """Light, then weather, then style."""
    frames = apply_light(frames, spec.light)
    if overlay is not None:
        frames = torch.addcmul(overlay[:, :3], frames, 1 - overlay[:, 3:])
    return STYLES[spec.style].apply(frames).clamp(0, 1).mul_(255).add_(0.5).to(torch.uint8)


def _film(shoot: Shoot) -> UInt8[Tensor, "T 3 H W"]:
    """Everything far to near, then the grade; on a CPU few frames at a time, which then stay in its cache."""
    spec, still = shoot.plan.spec, slice(0, 1) if shoot.plan.spec.camera == "static" else None
    backdrop = _paint_behind(shoot, still) if still else None
    overlay = weather_overlay(spec.weather, spec.frames, spec.height, spec.width, clip_rng(spec, 2), str(shoot.device))
    step = spec.frames if shoot.device.type != "cpu" else max(1, CACHED_PIXELS // (spec.height * spec.width))
    takes = []
    for start in range(0, spec.frames, step):
        frames = slice(start, min(start + step, spec.frames))
        canvas = _paint_behind(shoot, frames) if backdrop is None else backdrop.repeat(frames.stop - start, 1, 1, 1)
        _paint_shadows(canvas, shoot, frames)
        _paint_cast(canvas, shoot, frames)
        for flat, looks in zip(shoot.scenery.flats[1:], shoot.on_flats[1:], strict=True):
            if flat.layer.depth < shoot.stand:
                flat.paint(canvas, looks.part(still or frames))
        takes.append(_finish(canvas, spec, None if overlay is None else overlay[frames]))
    return torch.cat(takes)


def plan_clip(spec: ClipSpec, pack: SpritePack, device: torch.device | str = "cpu") -> tuple[Plan, Scenery, list[Cutout]]:
    """What a spec asks for: its geometry, its scenery and its cast on a device."""
    device = torch.device(device)
    px = int(np.ceil(spec.height * SCENE_MARGIN / 16)) * 16
    scenery = _sceneries(device)(spec.place, spec.variant, px)
    cast = [_cutouts(pack, device)(subject_id) for subject_id in spec.subjects]
    actors = [(cutout.subject, cutout.proportion) for cutout in cast]
    return make_plan(spec, actors, scenery.horizon, PLACES[spec.place].has_ground), scenery, cast


def render_frames(spec: ClipSpec, pack: SpritePack, device: torch.device | str = "cpu") -> UInt8[Tensor, "T 3 H W"]:
    """The frames alone, left on the device without waiting for it."""
    with torch.inference_mode():
        return _film(_set_up(*plan_clip(spec, pack, device), torch.device(device)))


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
