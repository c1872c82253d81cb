"""A model's blocks given another attention, through the handle that they have for it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from kinema.dit.model import DiT
from kinema.kernels.sparse import Sparse

TIME = 1000.0  # of pure noise


def set_attention(dit: DiT, attend: Callable[..., Tensor]) -> None:
    """Let the trunk's blocks attend so; the refiner, whose text is short, stays as it is.

    Call it before the model is spread over ranks. Sparse attention learns the grid and the noise level from each call of the model.
    """
    for name in dit.plan().blocks:
        dit.get_submodule(name).attend = attend  # type: ignore[assignment]
    if isinstance(attend, Sparse):
        dit.register_forward_pre_hook(Scene(attend), with_kwargs=True)


class Scene:
    """Tells sparse attention what the tokens are before every call, and whether noise is still too strong for it."""

    def __init__(self, sparse: Sparse):
        self.sparse = sparse

    def __call__(self, dit: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert isinstance(dit, DiT)
        latents, time = (args[place] if place < len(args) else kwargs[name] for place, name in enumerate(("latents", "time")))
        t, h, w = (size // patch for size, patch in zip(latents.shape[2:], dit.config.patch, strict=True))
        noisy = float(time.max()) > TIME * self.sparse.pattern.dense
        self.sparse.grid = None if noisy else (t, h, w)
