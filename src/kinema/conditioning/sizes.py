"""Which size a video has that begins with a picture, where none is asked for: the bucket nearest to the picture's aspect.

Buckets are all sizes of about as many pixels as the model makes by default, no side more than four times the other, in steps of 32
pixels (of 16 where the default is smaller than 256 pixels square). Source: HunyuanVideo-I2V (sides of multiples of 32, ratio at most 4).
"""

import math
from functools import cache

from kinema.errors import InputError

LARGEST_RATIO = 4
LEAST_SIDE = 16  # pixels of a picture that can be enlarged to anything
COARSE, FINE, SMALL = 32, 16, 256


@cache
def buckets(side: int) -> tuple[tuple[int, int], ...]:
    """Heights and widths of about side x side pixels: for every height, the widest that is not more."""
    step = COARSE if side >= SMALL else FINE
    sizes = [(height, side * side // height // step * step) for height in range(step, LARGEST_RATIO * side + 1, step)]
    return tuple(size for size in sizes if min(size) and max(size) <= LARGEST_RATIO * min(size))


def size_like(height: int, width: int, side: int) -> tuple[int, int]:
    """The bucket whose aspect is nearest to a picture's; of two that are equally near, the larger.

    side: root of the pixels that the model makes by default. Raises InputError for a picture too small to begin with.
    """
    if min(height, width) < LEAST_SIDE:
        raise InputError(f"a picture of {width}x{height} pixels is too small to begin with: give one of {LEAST_SIDE} or more a side")
    aspect = math.log(width / height)
    return min(buckets(side), key=lambda size: (round(abs(math.log(size[1] / size[0]) - aspect), 6), -size[0] * size[1]))


def cropped(height: int, width: int, to: tuple[int, int]) -> float:
    """The share of a picture that is cut off when it fills a size."""
    scale = max(to[0] / height, to[1] / width)
    return 1 - to[0] * to[1] / (height * width * scale**2)
