"""The critic beside a VAE's training: its own optimiser, its own pace, and its part of the checkpoint."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinema.train.optim import clip_gradients, optimizer_state, optimizers, restore_optimizers
from kinema.vae.discriminator import PatchCritic
from kinema.vae.losses import adversarial_loss, balance, critic_loss


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The critic's size and pace."""

    width: int = 48  # channels of its first level, a multiple of 8
    levels: int = 3
    lr: float = 2e-4
    warmup: int = 200  # batches that it learns from before the autoencoder hears it
    adaptive: bool = True  # scale its gradient to the reconstruction's before it is weighed


class Critic:
    """A PatchCritic, its optimiser, and how many batches it has seen; all of it goes into the checkpoint."""

    def __init__(self, config: CriticConfig, device: str):
        self.config, self.net = config, PatchCritic(config.width, config.levels).to(device)
        self.optimizers = optimizers(self.net, "adamw", config.lr, 0.0, config.lr)
        self.seen = 0

    def judge(self, pixels: Tensor, output: Tensor, reconstruction: Tensor, on: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The adversarial term for the autoencoder, after one step of the critic; zero while it is off or new. NaN is "not measured"."""
        silent = output.new_zeros(())
        if not on:
            return silent, dict.fromkeys(("critic", "adversarial", "balance"), silent + torch.nan)
        told = {"critic": self.learn(pixels, output.detach())}
        self.seen += 1
        self.net.requires_grad_(False)
        heard = adversarial_loss(self.net(output))
        self.net.requires_grad_(True)
        factor = balance(reconstruction, heard, output) if self.config.adaptive else silent + 1
        loud = float(self.seen > self.config.warmup)
        return loud * factor * heard, told | {"adversarial": heard, "balance": factor}

    def learn(self, pixels: Tensor, output: Tensor) -> Tensor:
        """One step on one batch; gradients that are not finite change nothing."""
        loss = critic_loss(self.net(pixels), self.net(output))
        loss.backward()
        if torch.isfinite(clip_gradients(self.net.parameters(), 1.0)):
            for optimizer in self.optimizers:
                optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizers": optimizer_state(self.net, self.optimizers), "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        restore_optimizers(self.net, self.optimizers, state["optimizers"])
        self.seen = state["seen"]
