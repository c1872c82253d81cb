"""Where a pipeline runs and in which number format: decided once, when it is loaded."""

from dataclasses import dataclass

import torch

from kinema.errors import InputError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Placement:
    """Device and dtypes of the parts of a model."""

    device: torch.device
    dtype: torch.dtype  # of the DiT, and of the others where they have none of their own
    offload: bool = False  # a part is on the device only while it works
    own_vae_dtype: torch.dtype | None = None
    own_text_dtype: torch.dtype | None = None
    tile: bool = True  # a VAE that cannot stream decodes large videos in tiles

    @classmethod
    def choose(
        cls, device: str = "auto", dtype: str = "auto", offload: bool = False, vae_dtype: str | None = None, text_dtype: str | None = None
    ) -> "Placement":
        """auto: the first CUDA device where there is one, and bfloat16 where the processor multiplies it natively.

        vae_dtype, text_dtype: None is as dtype.
        Raises InputError where the device is unknown or absent, or a dtype unknown.
        """
        place = choose_device(device)
        first, vae, text = (choose_dtype(name or dtype, place) for name in (dtype, vae_dtype, text_dtype))
        return cls(place, first, offload, vae, text)

    @property
    def vae_dtype(self) -> torch.dtype:
        return self.own_vae_dtype or self.dtype

    @property
    def text_dtype(self) -> torch.dtype:
        return self.own_text_dtype or self.dtype

    def names(self) -> dict[str, str]:
        """For the recipe."""
        dtypes = {"dtype": self.dtype, "vae_dtype": self.vae_dtype, "text_dtype": self.text_dtype}
        return {"device": self.device.type} | {name: dtype_name(dtype) for name, dtype in dtypes.items()}


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
