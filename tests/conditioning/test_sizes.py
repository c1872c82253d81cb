"""The size that a picture asks for."""

from hypothesis import given
from hypothesis import strategies as st

from kinema.conditioning.sizes import LARGEST_RATIO, buckets, cropped, size_like

sides = st.integers(16, 20_000)


@given(sides, sides, st.sampled_from([128, 480, 720, 960]))
def test_a_size_fits_the_model_and_is_about_as_large_as_it_makes(height: int, width: int, side: int):
    tall, wide = size_like(height, width, side)
    assert tall % 16 == wide % 16 == 0
    assert 0.8 * side**2 < tall * wide <= side**2
    assert max(tall, wide) <= LARGEST_RATIO * min(tall, wide)


@given(sides, sides)
def test_little_is_cut_unless_a_picture_is_very_long(height: int, width: int):
    assert cropped(height, width, size_like(height, width, 960)) < 0.2 or max(height, width) > 3 * min(height, width)


def test_published_sizes_are_among_the_buckets():
    assert {(704, 1280), (1280, 704), (960, 960)} <= set(buckets(960))


def test_nothing_is_cut_where_the_aspect_is_the_same():
    assert cropped(720, 1280, (360, 640)) == 0
    assert cropped(100, 200, (50, 50)) == 0.5
