"""Where a pipeline runs and in which number format: decided once, when it is loaded."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from kinema.errors import InputError
from kinema.kernels.choose import DEFAULT, PLAIN, Attention
from kinema.vae.model import VAEConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Offload = Literal["none", "parts", "blocks"]
"""What waits outside the device (of a CPU: outside memory): nothing, the parts that do not work, or the transformer's blocks too."""
Compile = Literal["none", "blocks", "graphs"]
"""Of the transformer: nothing, each block for any number of tokens, or for fixed sizes as CUDA graphs."""


@dataclass(frozen=True)
class Placement:
    """Device and dtypes of the parts of a model."""

    device: torch.device
    dtype: torch.dtype  # of the DiT, and of the others where they have none of their own
    offload: Offload = "none"
    own_vae_dtype: torch.dtype | None = None
    own_text_dtype: torch.dtype | None = None
    tile: bool = True  # a VAE that cannot stream decodes large videos in tiles
    tile_size: int | None = None  # pixels a side of a tile; None: the VAE's own
    attention: Attention = PLAIN  # of the transformer's blocks
    compile: Compile = "none"

    @classmethod
    def choose(
        cls,
        device: str = "auto",
        dtype: str = "auto",
        offload: bool | Offload = "none",
        vae_dtype: str | None = None,
        text_dtype: str | None = None,
    ) -> "Placement":
        """auto: the first CUDA device where there is one, and bfloat16 where the processor multiplies it natively.

        offload: True is "parts". vae_dtype, text_dtype: None is as dtype.
        Raises InputError where the device is unknown or absent, or a dtype or a way to offload unknown.
        """
        way: Offload = offload if isinstance(offload, str) else "parts" if offload else "none"
        if way not in get_args(Offload):
            raise InputError(f"offload={offload!r} is not known: use {', '.join(get_args(Offload))}")
        place = choose_device(device)
        first, vae, text = (choose_dtype(name or dtype, place) for name in (dtype, vae_dtype, text_dtype))
        return cls(place, first, way, vae, text)

    @property
    def vae_dtype(self) -> torch.dtype:
        return self.own_vae_dtype or self.dtype

    @property
    def text_dtype(self) -> torch.dtype:
        return self.own_text_dtype or self.dtype

    def tiles_of(self, config: VAEConfig) -> VAEConfig:
        """The VAE with the tiles that are asked for here."""
        return config if self.tile_size is None else replace(config, tile_size=self.tile_size)

    def names(self) -> dict[str, str]:
        """For the recipe."""
        dtypes = {"dtype": self.dtype, "vae_dtype": self.vae_dtype, "text_dtype": self.text_dtype}
        chosen = {} if self.attention == PLAIN else {"attention": str(self.attention)}
        chosen |= {} if self.compile == "none" else {"compile": self.compile}
        return {"device": self.device.type} | {name: dtype_name(dtype) for name, dtype in dtypes.items()} | chosen


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise InputError(f"dtype={name!r} is not known: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    return next(name for name, each in DTYPES.items() if each == dtype)


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name!r} cannot be used here ({str(error).splitlines()[0]}): use auto or cpu") from error
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is a gain there: elsewhere the CPU emulates it, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def planned(device: str, dtype: str, offload: Offload, tile_size: int | None, attention: str = DEFAULT) -> Placement:
    """A placement to plan for: its device need not be here. Without one, auto is bfloat16 on CUDA."""
    if device == "cuda" and not torch.cuda.is_available():
        place = Placement(torch.device("cuda"), DTYPES["bf16" if dtype == "auto" else dtype], offload)
    else:
        place = Placement.choose(device, dtype, offload)
    return replace(place, tile_size=tile_size, attention=Attention.parse(attention))
