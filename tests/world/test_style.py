"""Styles of the world."""

import pytest
import torch

from kinema.world.style import STYLES


def picture(height: int = 64, width: int = 96) -> torch.Tensor:
    """Two frames of soft coloured discs on a gradient."""
    v, u = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1.5, 1.5, width), indexing="ij")
    disc = ((0.5 - (u**2 + v**2).sqrt()) * 12).clamp(0, 1)
    sky = torch.stack([0.3 + 0 * u, 0.55 + 0.2 * v, 0.9 - 0.2 * v])
    frame = sky * (1 - disc) + torch.tensor([0.95, 0.55, 0.15])[:, None, None] * disc
    return torch.stack([frame, frame.roll(5, -1)])


@pytest.mark.parametrize("name", list(STYLES))
@pytest.mark.parametrize("size", [(64, 64), (128, 128), (72, 128), (50, 34)])
def test_a_style_keeps_shape_and_range_and_leaves_its_input_alone(name, size):
    frames = torch.rand(2, 3, *size)
    before = frames.clone()
    styled = STYLES[name].apply(frames)
    assert styled.shape == frames.shape
    assert styled.min() >= 0
    assert styled.max() <= 1
    assert torch.equal(frames, before)


@pytest.mark.parametrize("name", list(STYLES))
def test_only_the_plain_render_changes_nothing(name):
    frames = picture()
    change = (STYLES[name].apply(frames) - frames).abs().mean()
    assert (change == 0) if name == "3D render" else (change > 0.02)


@pytest.mark.parametrize("name", list(STYLES))
def test_a_frame_looks_the_same_whatever_its_neighbours(name):
    frames = picture()
    torch.testing.assert_close(STYLES[name].apply(frames)[1:], STYLES[name].apply(frames[1:]))


def test_black_and_white_has_no_colour():
    styled = STYLES["black and white"].apply(picture())
    assert torch.equal(styled[:, 0], styled[:, 1])
    assert torch.equal(styled[:, 0], styled[:, 2])


def test_pixel_art_is_made_of_blocks_in_few_colours():
    styled = STYLES["pixel art"].apply(picture(126, 126))
    blocks = styled.unfold(2, 3, 3).unfold(3, 3, 3)
    assert (blocks - blocks[..., :1, :1]).abs().max() == 0
    assert len(styled.unique()) <= 7


def test_a_sketch_is_dark_lines_on_light_paper():
    styled = STYLES["sketch"].apply(picture())
    assert styled.median() > 0.75
    assert styled.min() < 0.45
    assert (styled.amax(1) - styled.amin(1)).max() < 0.06


def test_watercolour_fades_into_paper_at_its_borders():
    styled = STYLES["watercolour"].apply(picture())
    assert styled[..., 0, :].min() > 0.9
    assert styled[..., 20:40, 40:60].min() < 0.7


def test_cinematic_has_black_bars_and_warmer_lights_than_shadows():
    frames = torch.rand(1, 1, 64, 64).expand(-1, 3, -1, -1).contiguous()
    styled = STYLES["cinematic"].apply(frames)
    assert styled[..., :7, :].max() == 0
    assert styled[..., -7:, :].max() == 0
    middle = (slice(None), slice(None), slice(24, 40), slice(24, 40))
    warmth = (styled[:, :1] - styled[:, 2:])[middle]
    bright = frames[middle][:, :1] > 0.7
    dark = frames[middle][:, :1] < 0.3
    assert warmth[bright].mean() > 0.02
    assert warmth[dark].mean() < -0.02


def test_every_style_has_several_wordings():
    for style in STYLES.values():
        assert len(style.phrases) >= 3
        assert len(style.sentences) >= 2
