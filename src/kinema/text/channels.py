"""What each channel of a language model's states is like, measured once: so that the DiT sees channels of mean 0 and variance 1.

A language model's late states are lopsided: in SmolLM2 one channel stands at 470 and moves by 80 while most move by 14 (its "massive
activations", Sun et al. 2024, arXiv 2402.17762). A norm over channels would spend itself on those; so each channel gets its own constants.

To measure anew (after a change of template or model): python -m kinema.text.channels PROMPTS.txt, one prompt a line.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

SHIPPED = Path(__file__).parents[1] / "pretrained" / "text" / "smollm2_channels.safetensors"


@dataclass(frozen=True)
class Channels:
    """Mean and standard deviation of each channel over real tokens."""

    mean: Float[Tensor, " d"]  # float32
    std: Float[Tensor, " d"]  # float32, above 0

    @classmethod
    def read(cls, path: Path, template: str, device: torch.device) -> "Channels":
        with safe_open(path, framework="pt", device=str(device)) as file:
            assert file.metadata()["template"] == template, f"{path} was measured with another template: measure anew"
            return cls(file.get_tensor("mean"), file.get_tensor("std"))

    def standardise(self, states: Float[Tensor, "B L d"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B L d"]:
        """Mean 0, variance 1 a channel, in float32; padding becomes 0."""
        return ((states.float() - self.mean) / self.std).masked_fill(~mask[..., None], 0)


def measure(states: Float[Tensor, "M d"]) -> Channels:
    """Constants over M real tokens."""
    return Channels(states.mean(0), states.std(0))


def main(prompts: Path, out: Path) -> None:
    """Measure SmolLM2 under mini's template over a file of prompts."""
    from kinema.text.encoder import MINI, load_smollm2
    from kinema.text.llm import prompt_states

    tokenize, model = load_smollm2(MINI, None, torch.device("cpu"), torch.float32)
    lines = [line for line in prompts.read_text().splitlines() if line.strip()]
    seen = []
    with torch.inference_mode():
        for start in range(0, len(lines), 16):
            states, mask = prompt_states(model, tokenize(lines[start : start + 16]), MINI.text_len)
            seen.append(states[mask])
    found = measure(torch.cat(seen))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"mean": found.mean, "std": found.std}, out, {"template": MINI.template, "prompts": str(len(lines))})


if __name__ == "__main__":
    main(Path(sys.argv[1]), SHIPPED)
