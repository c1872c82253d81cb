"""Which attention a model's blocks use, chosen once by name: `sdpa`, a library's kernel, or a sparse pattern over one of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from kinema.errors import InputError
from kinema.kernels.attend import attend, backend
from kinema.kernels.libraries import LIBRARIES, LibraryAttend
from kinema.kernels.patterns import PATTERNS, Pattern
from kinema.kernels.sparse import Sparse

DEFAULT = "sdpa"
KERNELS = (DEFAULT, "cudnn", *LIBRARIES)
NAMES = (*KERNELS, *PATTERNS)
HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Attention:
    """A choice: a dense kernel, and the pattern in which it works; None: all tokens see each other."""

    kernel: str = DEFAULT
    pattern: Pattern | None = None

    @classmethod
    def parse(cls, text: str) -> "Attention":
        """NAME or NAME:OPTION=VALUE,..., such as sliding-tile:window=3x3x5,dense=0.9 or radial:kernel=flash3.

        Raises InputError for an unknown name, option or value.
        """
        name, _, rest = text.partition(":")
        if name not in NAMES:
            raise InputError(f"attention={name!r} is not known: use one of {', '.join(NAMES)}")
        options = dict(part.partition("=")[::2] for part in rest.split(",") if part)
        if name in KERNELS:
            if options:
                raise InputError(f"attention={text!r}: {name} takes no options; {' and '.join(PATTERNS)} do")
            return cls(name)
        chosen = options.pop("kernel", DEFAULT)
        if chosen not in KERNELS:
            raise InputError(f"attention={text!r}: kernel={chosen!r} is not known: use one of {', '.join(KERNELS)}")
        return cls(chosen, pattern_of(name, options, text))

    def __str__(self) -> str:
        """What `parse` reads."""
        if self.pattern is None:
            return self.kernel
        name = next(name for name, kind in PATTERNS.items() if isinstance(self.pattern, kind))
        options = {"kernel": self.kernel} | vars(self.pattern)
        return f"{name}:{','.join(f'{option}={write(value)}' for option, value in options.items())}"

    def make(self, device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor]:
        """What blocks call. Raises InputError where it cannot work on this device in this dtype, or is not installed."""
        if self.kernel == DEFAULT:
            dense: Callable[..., Tensor] = attend
        elif device.type != "cuda" or dtype not in HALF:
            raise InputError(
                f"attention={self.kernel} works on CUDA in bf16 or fp16, not on {device.type} in {dtype}: use attention={DEFAULT}"
            )
        else:
            dense = LibraryAttend(self.kernel)
        return dense if self.pattern is None else Sparse(self.pattern, dense)

    def says(self, device: torch.device, dtype: torch.dtype) -> str:
        """What works there, for people."""
        dense = backend(device, dtype) if self.kernel == DEFAULT else self.kernel
        return dense if self.pattern is None else f"{self} by {dense}"


PLAIN = Attention()


def pattern_of(name: str, options: dict[str, str], text: str) -> Pattern:
    kind = PATTERNS[name]
    known = {field.name: field.default for field in fields(kind)}
    if unknown := next((option for option in options if option not in known), None):
        raise InputError(f"attention={text!r}: {unknown!r} is no option of {name}: it takes {', '.join(known)} and kernel")
    pattern = kind(**{option: read(value, known[option], text) for option, value in options.items()})
    if not 0 < pattern.dense <= 1:
        raise InputError(f"attention={text!r}: dense={pattern.dense} is a noise level above 0, up to 1 (nowhere dense)")
    return pattern


def read(value: str, example: Any, text: str) -> Any:
    """A number, or three joined by x."""
    try:
        if isinstance(example, tuple):
            t, h, w = (int(part) for part in value.split("x"))
            return t, h, w
        return type(example)(value)
    except ValueError as error:
        wanted = "three numbers such as 3x3x5" if isinstance(example, tuple) else f"a number such as {example}"
        raise InputError(f"attention={text!r}: {value!r} is not {wanted}") from error


def write(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def others() -> str:
    """For `kinema info`: the kernels that may be chosen, and whether they are installed."""
    found = {name: library.source() for name, library in LIBRARIES.items()}
    kernels = [f"{name} ({f'by {source}' if source else 'not installed'})" for name, source in found.items()]
    return ", ".join([DEFAULT, "cudnn (CUDA)", *kernels, *PATTERNS])
