"""What conditions add to one call of the transformer, beside text and given frames."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Cross = Callable[[Float[Tensor, "B L D"]], Float[Tensor, "B L D"]]
"""From the video's tokens after a block to what is added to them."""


class Added(NamedTuple):
    """One field a door; None adds nothing. Each comes from a layer that starts at zero."""

    channels: Float[Tensor, "B L D"] | None = None  # to the video's tokens, where they enter
    modulation: Float[Tensor, "B D"] | None = None  # to the vector of time, pooled text and guidance
    cross: Mapping[int, Cross] = {}  # number of a block (double blocks first) -> what is added after it
