"""A chat model behind any OpenAI-compatible address: vLLM, SGLang, llama.cpp's server, or a hosted one.

The openai client brings retries with growing pauses (429, 5xx, lost connections) and timeouts; the rate limit is kept here.
"""

import base64
import io
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kinema.errors import InputError, KinemaError, MissingExtraError

KEY_VARIABLE = "OPENAI_API_KEY"
JPEG_QUALITY = 90


class EndpointError(KinemaError, RuntimeError):
    """An endpoint did not answer, or refused."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where the model is, and how hard it may be asked. The key is read from OPENAI_API_KEY; local servers need none."""

    url: str  # such as http://localhost:8000/v1
    model: str
    timeout_s: float = 120.0  # of one answer
    retries: int = 4
    per_minute: float = 0.0  # most requests; 0 sets no limit
    at_once: int = 4  # requests under way at the same time
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"url={self.url!r} must begin with http:// or https://, such as http://localhost:8000/v1")
        if not self.model:
            raise InputError(f"model={self.model!r}: name the model that {self.url} serves")
        if self.timeout_s <= 0 or self.retries < 0 or self.per_minute < 0 or self.at_once < 1 or self.max_tokens < 1:
            raise InputError(f"{self} has a limit that is out of range: times and counts are above 0, retries and per_minute 0 or more")


class Pace:
    """Lets requests pass at a steady rate."""

    def __init__(self, per_minute: float):
        self.gap = 60 / per_minute if per_minute else 0.0
        self.lock, self.next = threading.Lock(), 0.0

    def wait(self) -> None:
        with self.lock:
            now = time.monotonic()
            turn = max(now, self.next)
            self.next = turn + self.gap
        time.sleep(turn - now)


class Endpoint:
    """One chat model; safe to use from many threads."""

    def __init__(self, config: EndpointConfig):
        self.config, self.pace = config, Pace(config.per_minute)

    @cached_property
    def client(self) -> Any:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise MissingExtraError("openai", "caption") from error
        key = os.environ.get(KEY_VARIABLE) or "none"
        return OpenAI(base_url=self.config.url, api_key=key, timeout=self.config.timeout_s, max_retries=self.config.retries)

    def chat(self, messages: Sequence[Mapping[str, Any]], schema: dict[str, Any] | None = None) -> str:
        """The answer's text. schema: of the JSON that is asked for.

        Raises EndpointError, naming address and reason, once all retries are spent or the request is refused.
        """
        import openai

        shape = {"type": "json_schema", "json_schema": {"name": "caption", "schema": schema, "strict": True}} if schema else None
        more = {"response_format": shape} if shape else {}
        self.pace.wait()
        try:
            answer = self.client.chat.completions.create(
                model=self.config.model, messages=list(messages), max_tokens=self.config.max_tokens, temperature=0.0, **more
            )
        except openai.OpenAIError as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise EndpointError(f"{self.config.url} did not answer ({self.config.model}): {reason}") from error
        if not answer.choices:
            raise EndpointError(f"{self.config.url} gave an answer without choices")
        return answer.choices[0].message.content or ""


def picture_part(frame: UInt8[np.ndarray, "H W 3"]) -> dict[str, Any]:
    """A frame as a part of a chat message."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()}}
