"""Places, lights and weathers of the world."""

import numpy as np
import pytest
import torch

from kinema.errors import InputError
from kinema.world.light import LIGHTS, apply_light
from kinema.world.places.brush import Canvas, Tile, noise_tile, rgb
from kinema.world.scenes import GROUND_Y, PLACES, VARIANTS, Scene, draw_scene
from kinema.world.weather import WEATHERS, weather_overlay

PX = 48
NAMES = list(PLACES)


def same(one: Scene, other: Scene) -> bool:
    layers = len(one.layers) == len(other.layers) and all(
        a.depth == b.depth and a.center == b.center and torch.equal(a.texture, b.texture)
        for a, b in zip(one.layers, other.layers, strict=True)
    )
    return layers and (one.ground is None or (other.ground is not None and torch.equal(one.ground.texture, other.ground.texture)))


@pytest.mark.parametrize("name", NAMES)
def test_a_place_is_an_opaque_backdrop_and_layers_from_far_to_near(name):
    scene = draw_scene(name, 0, PX)
    assert scene.place == name
    backdrop = scene.layers[0]
    assert backdrop.texture[3].min() == 1
    assert backdrop.width >= 3.2
    assert backdrop.height >= 2.2
    depths = [layer.depth for layer in scene.layers]
    assert depths == sorted(depths, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_textures_are_premultiplied_and_as_large_as_they_say(name):
    scene = draw_scene(name, 1, PX)
    for layer in scene.layers:
        assert layer.texture.dtype == torch.float32
        assert layer.texture.min() >= 0
        assert layer.texture[3].max() <= 1 + 1e-5
        assert (layer.texture[:3] <= layer.texture[3:] + 1e-4).all()
        height, width = layer.texture.shape[1:]
        assert width / height == pytest.approx(layer.width / layer.height, rel=1e-6)
    if scene.ground:
        assert scene.ground.texture.min() >= 0
        assert scene.ground.texture.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_before_the_backdrop_is_cut_off_below(name):
    for variant in range(4):
        for layer in draw_scene(name, variant, PX).layers[1:]:
            assert layer.texture[3, -1].max() < 0.01


@pytest.mark.parametrize("name", [name for name in NAMES if draw_scene(name, 0, PX).ground])
def test_a_ground_wraps_without_a_seam(name):
    texture = draw_scene(name, 2, PX).ground.texture
    for axis in (1, 2):
        seam = (texture.select(axis, 0) - texture.select(axis, -1)).abs().mean()
        inside = texture.diff(dim=axis).abs().mean((0, 3 - axis))
        assert seam <= 2 * inside.max() + 1e-3


def test_a_scene_is_a_pure_function_of_its_arguments():
    names = ("forest", "library", "plain red")
    first = [draw_scene(name, 3, PX) for name in names]
    assert all(same(scene, draw_scene(name, 3, PX)) for name, scene in zip(names, first, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_variants_differ(name):
    assert not same(draw_scene(name, 0, PX), draw_scene(name, 1, PX))


@pytest.mark.parametrize("name", ["grass", "street", "space", "kitchen"])
def test_resolution_changes_sharpness_and_not_the_composition(name):
    coarse, fine = draw_scene(name, 4, 40), draw_scene(name, 4, 80)
    for a, b in zip(coarse.layers, fine.layers, strict=True):
        assert a.center == pytest.approx(b.center, abs=0.06)
        assert a.texture.mean((1, 2)) == pytest.approx(b.texture.mean((1, 2)), abs=0.08)


@pytest.mark.parametrize(
    ("name", "variant", "px"), [*((name, 0, px) for name in NAMES for px in (45, 112)), ("city", 7, 144), ("forest", 19, 208)]
)
def test_a_place_can_be_drawn_at_any_height(name, variant, px):
    assert draw_scene(name, variant, px).layers


@pytest.mark.parametrize(("place", "variant", "said"), [("atlantis", 0, "atlantis"), ("grass", VARIANTS, "32"), ("grass", -1, "-1")])
def test_a_scene_that_does_not_exist_is_refused_by_name(place, variant, said):
    with pytest.raises(InputError, match=said):
        draw_scene(place, variant, PX)


def test_the_world_has_every_place_that_subjects_ask_for():
    asked = {"any", "room", "grass", "city", "street", "forest", "sky", "beach", "stage", "night sky", "farm", "mountain", "kitchen", "sea"}
    asked |= {"desert", "sports field", "snow", "underwater", "space"}
    assert asked <= {word for place in PLACES.values() for word in place.places_match}


@pytest.mark.parametrize("name", NAMES)
def test_a_place_has_words_of_its_own_and_lights_and_weathers_that_exist(name):
    place = PLACES[name]
    assert place.name == name
    assert len(place.phrases) >= 3
    assert len(place.background) >= 3
    assert set(place.lights) <= set(LIGHTS)
    assert set(place.weathers) <= set(WEATHERS)
    others = {phrase for other in PLACES.values() if other is not place for phrase in other.phrases}
    assert not others & set(place.phrases)


def test_things_that_stand_do_so_on_the_ground():
    scene = draw_scene("street", 0, 96)
    row = scene.layers[-2]
    assert row.center[1] + row.height / 2 == pytest.approx(GROUND_Y / row.depth + scene.horizon, abs=0.03)


def test_a_shape_is_smooth_at_its_rim_and_keeps_its_area():
    canvas = Canvas(64, 1, 1)
    canvas.disc(0.013, -0.021, 0.2, rgb("#ff0000"))
    alpha = canvas.pixels[3]
    assert alpha.sum() / 64**2 == pytest.approx(np.pi * 0.04, rel=0.01)
    assert ((alpha > 0.05) & (alpha < 0.95)).sum() > 20


def test_a_polygon_lies_where_its_corners_are():
    canvas = Canvas(64, 1, 1)
    canvas.polygon([(-0.3, -0.2), (0.1, -0.2), (0.1, 0.3), (-0.3, 0.3)], rgb("#ff0000"))
    alpha = canvas.pixels[3]
    assert alpha.sum() / 64**2 == pytest.approx(0.2, rel=0.03)
    assert (alpha * canvas.u).sum() / alpha.sum() == pytest.approx(-0.1, abs=0.004)
    assert (alpha * canvas.v[:, None]).sum() / alpha.sum() == pytest.approx(0.05, abs=0.004)


def test_noise_wraps():
    noise = noise_tile(np.random.default_rng(0), 60, 90, (5, 7))
    for axis in (0, 1):
        step = np.abs(np.diff(noise, axis=axis)).max()
        assert np.abs(noise.take(0, axis) - noise.take(-1, axis)).max() <= 1.2 * step


def test_a_spot_over_the_edge_of_a_tile_comes_in_on_the_other_side():
    tile = Tile(32, 2.0, rgb("#000000"))
    tile.spot(0, 0, 0.4, 0.4, rgb("#ffffff"))
    corners = tile.pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.9


@pytest.mark.parametrize("name", list(LIGHTS))
def test_a_light_keeps_shape_and_range_and_leaves_its_input_alone(name):
    frames = torch.rand(3, 3, 20, 30)
    before = frames.clone()
    lit = apply_light(frames, name)
    assert lit.shape == frames.shape
    assert lit.min() >= 0
    assert lit.max() <= 1
    assert torch.equal(frames, before)
    assert torch.equal(lit, frames) == (name == "daylight")


def test_lights_have_the_colour_of_their_names():
    gray = torch.full((1, 3, 16, 16), 0.5)
    red, _, blue = apply_light(gray, "golden sunset").mean((0, 2, 3))
    assert red > blue + 0.1
    red, _, blue = apply_light(gray, "moonlit night").mean((0, 2, 3))
    assert blue > red + 0.1
    assert apply_light(gray, "moonlit night").mean() < 0.4
    spot = apply_light(gray, "spotlight")
    assert spot[..., 8, 8].mean() > 3 * spot[..., 0, 0].mean()


@pytest.mark.parametrize("name", [name for name in WEATHERS if name != "clear"])
def test_weather_is_a_moving_premultiplied_overlay_from_its_seed_alone(name):
    overlay, again = (weather_overlay(name, 5, 32, 48, np.random.default_rng(7)) for _ in range(2))
    assert overlay.shape == (5, 4, 32, 48)
    assert torch.equal(overlay, again)
    assert overlay.min() >= 0
    assert overlay[:, 3].max() <= 1
    assert (overlay[:, :3] <= overlay[:, 3:] + 1e-5).all()
    assert overlay[:, 3].max() > 0.25
    assert not torch.equal(overlay[0], overlay[4])
    other = weather_overlay(name, 5, 32, 48, np.random.default_rng(8))
    assert not torch.equal(overlay, other)


def test_clear_weather_lays_nothing_over():
    assert weather_overlay("clear", 5, 32, 32, np.random.default_rng(0)) is None


def test_rain_falls_and_bubbles_rise():
    def sinking(name: str) -> float:
        """Of all shifts by some pixels, how much better the next frame fits one down than one up."""
        a, b = weather_overlay(name, 2, 64, 64, np.random.default_rng(1))[:, 3]
        fits = lambda way: max(float((torch.roll(a, way * step, 0) * b).sum()) for step in range(1, 12))  # noqa: E731
        return fits(1) - fits(-1)

    assert sinking("rain") > 0
    assert sinking("bubbles") < 0


@pytest.mark.parametrize(
    "call", [lambda: apply_light(torch.rand(1, 3, 8, 8), "disco"), lambda: weather_overlay("hail", 1, 8, 8, np.random.default_rng(0))]
)
def test_an_unknown_light_or_weather_names_those_there_are(call):
    with pytest.raises(InputError, match="use one of"):
        call()
