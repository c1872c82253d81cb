"""Axis letters and the arithmetic between pixels, latents and tokens.

`B` batch, `C` channels, `T H W` frames and pixels, `t h w` the latent grid, `L` tokens, `D` width, `N` heads, `K` head width.
The VAE keeps the first frame by itself and then packs four frames into one: T = 1 + 4 (t - 1). Height and width shrink eightfold.
"""

from dataclasses import dataclass

from kinema.errors import InputError

TIME_STRIDE = 4
SPACE_STRIDE = 8
PATCH = 2  # the DiT takes 2x2 latents as one token
SIZE_STEP = SPACE_STRIDE * PATCH


@dataclass(frozen=True)
class PixelShape:
    """Frames, height and width of a video; refuses what the models cannot make.

    Raises InputError unless frames = 1 + a multiple of 4 and height and width are positive multiples of 16.
    """

    frames: int  # T
    height: int  # H
    width: int  # W

    def __post_init__(self):
        if self.frames < 1 or (self.frames - 1) % TIME_STRIDE:
            low = max(self.frames - 1, 0) // TIME_STRIDE * TIME_STRIDE + 1
            raise InputError(
                f"frames={self.frames} does not fit the VAE: use {low} or {low + TIME_STRIDE} (1 + a multiple of {TIME_STRIDE})"
            )
        for name, size in (("height", self.height), ("width", self.width)):
            if size < SIZE_STEP or size % SIZE_STEP:
                low = max(size // SIZE_STEP * SIZE_STEP, SIZE_STEP)
                raise InputError(f"{name}={size} does not fit the model: use {low} or {low + SIZE_STEP} (a multiple of {SIZE_STEP})")

    @property
    def latent(self) -> "LatentShape":
        return LatentShape((self.frames - 1) // TIME_STRIDE + 1, self.height // SPACE_STRIDE, self.width // SPACE_STRIDE)


@dataclass(frozen=True)
class LatentShape:
    """The latent grid of a video."""

    t: int
    h: int
    w: int

    @property
    def pixels(self) -> PixelShape:
        return PixelShape((self.t - 1) * TIME_STRIDE + 1, self.h * SPACE_STRIDE, self.w * SPACE_STRIDE)

    @property
    def tokens(self) -> int:
        """L: how many tokens the DiT sees for it."""
        return self.t * (self.h // PATCH) * (self.w // PATCH)
