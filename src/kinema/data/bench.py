"""How fast batches come: samples a second of a loader, and how many times what a training step takes.

python -m kinema.data.bench FOLDER [TOKENS] [SAMPLES_A_SECOND_OF_TRAINING]
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kinema.data.loader import Loader, LoaderConfig


@dataclass(frozen=True)
class Rate:
    """What a loader delivered."""

    samples: float  # a second
    tokens: float  # video tokens a second
    megabytes: float  # a second, of tensors as they are delivered
    processor_ms: float  # a sample, of all threads together: what a busy machine does not change much

    def __str__(self) -> str:
        figures = f"{self.samples:,.0f} samples/s, {self.tokens:,.0f} tokens/s, {self.megabytes:,.0f} MB/s"
        return f"{figures}, {self.processor_ms:.2f} ms of processor a sample"


def measure(config: LoaderConfig, seconds: float = 5.0, warm: int = 20) -> Rate:
    """Take batches as fast as they come, after `warm` of them, for so many seconds."""
    loader = Loader(config, seed=0)
    for _ in range(warm):
        loader.next()
    samples, tokens, size, began, worked = 0, 0, 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        batch = loader.next()
        samples += len(batch.ids)
        tokens += len(batch.ids) * batch.bucket.tokens
        size += sum(tensor.nbytes for tensor in batch.tensors().values())
    taken = time.perf_counter() - began
    loader.close()
    return Rate(samples / taken, tokens / taken, size / taken / 1e6, (time.process_time() - worked) / samples * 1e3)


def main(folder: str, tokens: str = "16384", consumed: str | None = None) -> None:
    for workers in (1, 2):
        for sample in (True, False):
            config = LoaderConfig(folders=(Path(folder),), tokens=int(tokens), workers=workers, sample=sample)
            rate = measure(config)
            times = f", {rate.samples / float(consumed):.0f}x what training takes" if consumed else ""
            print(f"{workers} threads, {'posterior' if sample else 'mean only'}: {rate}{times}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
