"""Language models that rewrite prompts: SmolLM2 on this machine, or any chat model behind an endpoint. See `rewrite.Writer`."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kinema.caption.endpoint import Endpoint, EndpointConfig
from kinema.caption.facts import facts, lost
from kinema.caption.rewrite import USUAL, Mode, joined
from kinema.caption.schema import mended, parse
from kinema.errors import WeightsError
from kinema.world.grammar import sentence
from kinema.world.light import LIGHTS

OPEN_FIELDS = {"lighting": "Light", "atmosphere": "Mood"}
"""What SmolLM2 chooses, and how it is asked."""


def options(field: str) -> list[str]:
    """Sentences that the world's captions have for a field."""
    said = {text for light in LIGHTS.values() for text in (light.lighting if field == "lighting" else light.atmosphere)}
    return sorted(sentence(text if field == "lighting" else f"{text} atmosphere") for text in said)


class SmolWriter:
    """SmolLM2-135M, held to the schema: for each field that `master` leaves open it chooses the likeliest of a list.

    So small a model invents when it writes freely (light through a window, on the moon); of a list it chooses passably. What the
    person said it never touches.
    """

    name = "smollm2"

    def __init__(self, folder: Path | None = None):
        """folder: of a causal language model; None finds SmolLM2 as the text encoder does."""
        self.folder = folder

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        from tokenizers import Tokenizer
        from transformers import LlamaForCausalLM
        from transformers.utils import logging

        from kinema.text.smollm2 import find

        folder = find(self.folder)
        logging.disable_progress_bar()
        try:
            model = LlamaForCausalLM.from_pretrained(folder, tie_word_embeddings=True, dtype="float32")
            return Tokenizer.from_file(str(folder / "tokenizer.json")), model.eval()
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder} holds no language model that can write: {error}") from error

    def write(self, prompt: str, fields: Mapping[str, str], mode: Mode) -> str:
        found = dict(fields)
        for name, label in OPEN_FIELDS.items():
            if mode == "master" and fields.get(name, "") in ("", USUAL.get(name, ("",))[0]) and not said_elsewhere(name, fields):
                found[name] = self.likeliest(f"Video: {fields['short']}\n{label}:", f"Video:\n{label}:", options(name))
        return joined(found)

    def likeliest(self, scene: str, nothing: str, texts: Sequence[str]) -> str:
        """The text that the scene makes more likely, in bits a word, than no scene does."""
        gains = [with_scene - without for with_scene, without in zip(self.scores(scene, texts), self.scores(nothing, texts), strict=True)]
        return texts[max(range(len(texts)), key=gains.__getitem__)]

    def scores(self, start: str, texts: Sequence[str]) -> list[float]:
        """Mean log-probability of each text's tokens after `start`."""
        tokenizer, model = self.parts
        head = tokenizer.encode(start).ids
        tails = [tokenizer.encode(f" {text}").ids for text in texts]
        length = max(map(len, tails))
        rows = torch.tensor([head + tail + [0] * (length - len(tail)) for tail in tails])  # padded behind: nothing before it sees it
        with torch.inference_mode():
            logs = model(rows).logits[:, len(head) - 1 : -1].log_softmax(-1)
        found = logs.gather(2, rows[:, len(head) :, None])[..., 0]
        return [float(found[index, : len(tail)].mean()) for index, tail in enumerate(tails)]


def said_elsewhere(field: str, fields: Mapping[str, str]) -> bool:
    """Whether the prompt speaks of it in another field, such as of the night in what happens."""
    return field in USUAL and bool(re.search(USUAL[field][1], " ".join(fields[name] for name in fields if name != field).lower()))


RULES = """You prepare prompts for a text-to-video model. Rewrite the user's prompt as a structured description in plain English.
Keep every fact: each subject, number, colour, action, direction, place, time, style and camera movement, in the same words where they are
English. Translate other languages. Add no second subject, no plot and no text on screen. The short field says who does what, where.
Leave a field empty where the prompt and good sense say nothing. camera_movement is one of the words allowed, or empty; another camera
wish goes into dense. Answer with one JSON object: short, dense, background, style, shot_type, lighting, atmosphere, camera_movement."""
HOW = {
    "normal": "Only put in order what the prompt says; add nothing.",
    "master": "Keep what the prompt says, and choose framing, light, mood and camera as a good film maker would where it leaves them open.",
}
REVISE = """Compare your answer with the prompt, fact by fact. Missing so far: {missing}. Give the whole JSON object again with every fact
in it, and without anything that contradicts the prompt."""
EXAMPLE = (
    "Prompt: two dogs on beach, sunset",
    '{"short": "Two dogs run on the beach at sunset.", "dense": "", "background": "Sea and wet sand.", "style": "", "shot_type": "", '
    '"lighting": "Warm light of the sunset.", "atmosphere": "", "camera_movement": ""}',
)


class EndpointWriter:
    """A chat model with our instructions; it reads its own answer against the prompt once more before it is taken."""

    def __init__(self, config: EndpointConfig):
        self.endpoint, self.name = Endpoint(config), f"endpoint:{config.model}"

    def write(self, prompt: str, fields: Mapping[str, str], mode: Mode) -> str:
        """Raises EndpointError where nobody answers, InputError where the answers are no JSON of captions."""
        asked: list[dict[str, str]] = [
            {"role": "system", "content": f"{RULES}\n{HOW[mode]}"},
            {"role": "user", "content": EXAMPLE[0]},
            {"role": "assistant", "content": EXAMPLE[1]},
            {"role": "user", "content": f"Prompt: {prompt}"},
        ]
        draft = self.endpoint.chat(asked)
        missing = ", ".join(sorted(lost(facts(joined(fields)), draft))) or "nothing that a list of words shows"
        again = [{"role": "assistant", "content": draft}, {"role": "user", "content": REVISE.format(missing=missing)}]
        return spoken(self.endpoint.chat([*asked, *again]))


def spoken(answer: str) -> str:
    """A caption as prose."""
    said = parse(mended(answer)).to_json()
    camera = said.pop("camera_movement")
    movement = f"The camera moves: {camera}." if camera and not said["dense"].lower().count("camera") else ""
    return " ".join(part if part.endswith(".") else f"{part}." for part in [*said.values(), movement] if part)
