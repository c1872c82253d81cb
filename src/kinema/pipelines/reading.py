"""Prompts as the model reads them: which texts a request has, who reads them, and what was read."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kinema.conditioning.frames import Given
from kinema.media.image import read_image
from kinema.parallel.mesh import World
from kinema.pipelines.base import ModelConfig, Request
from kinema.pipelines.clock import Clock
from kinema.pipelines.placement import Placement
from kinema.text.encoder import LlavaEncoder, TextConfig, TextEncoder, TextStates, load_seeing_encoder, load_text_encoder
from kinema.text.llm import PUBLISHED_IMAGE, PUBLISHED_VIDEO

LOG = logging.getLogger(__name__)


class Reading(NamedTuple):
    """A text that the model reads, how, and the picture that it sees beside it."""

    text: str
    config: TextConfig
    picture: Given | None = None


class Prompts:
    """Reads the texts of requests; the encoder is loaded when it is first needed."""

    def __init__(self, config: ModelConfig, files: Path | None, placement: Placement, world: World, clock: Clock):
        self.config, self.files, self.placement, self.world, self.clock = config, files, placement, world, clock
        self.encoder: TextEncoder | LlavaEncoder | None = None
        self.known: dict[Reading, TextStates] = {}

    def prepare(self, requests: Sequence[Request]) -> None:
        """Read the prompts of these requests, and forget others; where parts are offloaded, the encoder then makes room."""
        known, wanted = self.known, dict.fromkeys(key for request in requests for key in self.texts_of(request))
        self.known = {key: known.get(key) or self.read(key) for key in wanted}
        if self.placement.offload != "none":
            self.encoder = None

    def states_of(self, request: Request) -> list[TextStates]:
        """What the model reads for a request: its prompt, and with classifier-free guidance the negative one."""
        keys = self.texts_of(request)
        if not self.known.keys() >= set(keys):
            self.prepare([request])
        return [self.known[key] for key in keys]

    def forget(self) -> None:
        self.encoder, self.known = None, {}

    def take(self, other: "Prompts") -> None:
        """The encoder of another of the same kind, and what it has read."""
        self.encoder, self.known = other.encoder, other.known

    def texts_of(self, request: Request) -> list[Reading]:
        """Published models ask otherwise about a picture. Of those that see, the negative prompt sees black."""
        picture = request.frames == 1 and self.config.text.template == PUBLISHED_VIDEO
        config = replace(self.config.text, template=PUBLISHED_IMAGE) if picture else self.config.text
        shown = request.given[0] if config.image_step and request.given else None
        asked = Reading(request.prompt, config, shown)
        return [asked, Reading(request.negative, config)] if request.guidance > 1 else [asked]

    def read(self, reading: Reading) -> TextStates:
        """What the leader reads, on all its peers."""
        return self.world.share(lambda: self.read_here(reading))

    def read_here(self, reading: Reading) -> TextStates:
        text, config, shown = reading
        if self.encoder is None or self.encoder.config != config:
            self.encoder = self.load_encoder(config)
        with self.clock("text"):
            if isinstance(self.encoder, LlavaEncoder):
                states = self.encoder.encode_seeing(text, read_image(shown.path) if shown else None)
            else:
                states = self.encoder.encode([text]).trim()
            states = states.to("cpu", states.states.dtype) if self.world.config.peers > 1 else states  # peers have other devices
        if states.mask.shape[1] == config.text_len:
            LOG.warning("only the first %d tokens of the prompt %r... are read", config.text_len, text[:40])
        return states

    def load_encoder(self, config: TextConfig) -> TextEncoder | LlavaEncoder:
        place = self.placement
        with self.clock("load text"):
            if config.image_step and self.files:
                return load_seeing_encoder(config, self.files, place.device, place.text_dtype)
            return load_text_encoder(config, self.files, place.device, place.text_dtype)
