"""In which of the world's six styles a video is: one linear layer on what the image-text model's tower takes in.

    python -m kinema.evaluate.alignment.styles --clips DIR --out DIR

`--clips` is what `alignment.training` has left its views in.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinema.errors import InputError, WeightsError
from kinema.evaluate.alignment.model import ALIGNMENT, SEEN
from kinema.evaluate.practice import Shard, shard_paths
from kinema.media.files import whole_file
from kinema.world.spec import Split
from kinema.world.style import STYLES

WEIGHTS, SCORES = "styles.safetensors", "styles.json"
BATCH, RATE, DECAY, STEPS = 256, 2e-3, 0.1, 800


class Styles(nn.Module):
    """Mean of a video's frames -> logits in the order of STYLES."""

    mean: Tensor
    spread: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(SEEN))
        self.register_buffer("spread", torch.ones(SEEN))
        self.layer = nn.Linear(SEEN, len(STYLES))

    def forward(self, seen: Float[Tensor, "*n s"]) -> Float[Tensor, "*n styles"]:
        return self.layer((seen - self.mean) / self.spread)

    @classmethod
    def load(cls, folder: Path = ALIGNMENT) -> "Styles":
        """Raises WeightsError where the file is missing or does not fit."""
        net = cls()
        try:
            net.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"no styles in {folder} ({error}): train them with runs/alignment.sh") from error
        return net.eval()


def read_views(folder: Path, split: Split) -> tuple[Float[Tensor, "n s"], Int[Tensor, " n"]]:
    """Every clip's view, mean over frames, and the number of its style. Raises InputError where the views are not there."""
    seen, styles = [], []
    for path in shard_paths(folder, split):
        views = path.with_name(f"views-{path.name}")
        if not views.exists():
            raise InputError(f"{views} is missing: run `python -m kinema.evaluate.alignment.training --clips {folder}` first")
        seen.append(load_file(views)["seen"].float().mean(dim=1))
        styles += [list(STYLES).index(spec.style) for spec in Shard.read(path).specs]
    return torch.cat(seen), torch.tensor(styles)


def fit(seen: Float[Tensor, "n s"], styles: Int[Tensor, " n"]) -> Styles:
    torch.manual_seed(0)
    net = Styles()
    net.mean, net.spread = seen.mean(dim=0), seen.std(dim=0) + 1e-3
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        some = torch.randint(len(seen), (BATCH,))
        optimiser.zero_grad()
        F.cross_entropy(net(seen[some]), styles[some]).backward()
        optimiser.step()
    return net.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the judge of styles.")
    parser.add_argument("--clips", type=Path, required=True, help="where the image-text model was trained from")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    net = fit(*read_views(chosen.clips, "train"))
    seen, styles = read_views(chosen.clips, "heldout")
    with torch.inference_mode():
        right = float((net(seen).argmax(dim=1) == styles).float().mean())
    chosen.out.mkdir(parents=True, exist_ok=True)
    with whole_file(chosen.out / WEIGHTS) as draft:
        save_file({name: value.half().contiguous() for name, value in net.state_dict().items()}, draft)
    scores = {"clips": len(styles), "right": right, "share of the commonest": float(styles.bincount().max() / len(styles))}
    (chosen.out / SCORES).write_text(json.dumps(scores, indent=1) + "\n")
    print(scores)


if __name__ == "__main__":
    main()
