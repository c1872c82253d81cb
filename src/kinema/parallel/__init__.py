"""Large models on several processes, from outside the model.

mesh.py      which process does what; `open_world` joins those that torchrun started
shard.py     weights: FSDP2, copies, tensor parallelism; `gather` puts a state together
sequence.py  one sample's tokens over several ranks: Ulysses; ring.py: the ring
memory.py    recomputing, offloading, compiling, block by block
tiles.py     a video's tiles over several ranks

The model offers three handles and no others: `DiT.plan()`, its trunk, and each block's `attend`.
"""

from kinema.dit.model import DiT
from kinema.parallel.memory import Checkpointing, compile_blocks, save_memory
from kinema.parallel.mesh import World
from kinema.parallel.sequence import split_sequence
from kinema.parallel.shard import average_gradients, shard_weights, split_matrices

__all__ = ["apply", "average_gradients"]


def apply(
    dit: DiT, world: World, *, checkpointing: Checkpointing = "none", compile: bool = False, offload_activations: bool = False
) -> DiT:
    """Spread a model over the ranks of a world; returns the same model, its parameters' names unchanged.

    Call it before optimisers are made, with the same weights on every rank. Losses are means over a rank's own samples; gradients
    come out as the mean over data ranks (data x shard), so give those equal batches, and the ranks of a sequence or tensor group
    the same samples. All ranks must run forward and backward equally often.
    Raises InputError where heads do not divide by `tensor`.
    """
    config = world.config
    if world.weights is not None and config.tensor > 1:
        split_matrices(dit, world.weights["tensor"])
    save_memory(dit, checkpointing, offload_activations)
    if world.mesh is not None and config.sequence > 1:
        split_sequence(dit, world.mesh["sequence"].get_group(), config.method)
    if compile:
        compile_blocks(dit)
    if world.weights is not None and world.size > config.tensor:
        shard_weights(dit, world.weights)
    return dit
