"""What a run may add to a video's text, and by which of the transformer's four doors it enters.

A condition is three things: fields of a `Request` (paths and places, with the SHA-256 of what they hold), a file here that turns them
into tensors, and a door of `DiT.forward`:

    tokens           latent frames that are given clean (`given`), or states beside the text's: absence changes nothing
    channels         `Added.channels`: added to the video's tokens where they enter, or stacked under the latents (33 channels)
    modulation       `Added.modulation`: added to the vector that shifts, scales and gates every block
    cross-attention  `Added.cross`: after chosen blocks, added to the video's tokens

What enters by the last three comes out of a layer that starts at zero, so a fresh condition leaves every old output as it was, to the bit.
The names are what `ModelConfig.conditions` lists: what a model was trained to take.
"""

from dataclasses import dataclass
from typing import Literal

Door = Literal["tokens", "channels", "modulation", "cross-attention"]


@dataclass(frozen=True)
class Condition:
    """One line of the table."""

    door: Door
    what: str


CONDITIONS: dict[str, Condition] = {
    "frames": Condition("tokens", "any pictures or video at any place, as clean latent frames (conditioning/frames.py)"),
    "reference": Condition("tokens", "a picture of the subject, before the video in time; given or recalled (conditioning/reference.py)"),
    "first_frame": Condition("tokens", "one picture, as the clean first latent frame: published token replacement"),
    "first_frame_channels": Condition("channels", "one picture under the noise, with a mask: the published 33 channels"),
    "image_states": Condition("tokens", "what a multimodal language model sees in the picture, before the text (text/llava.py)"),
    "voice": Condition("cross-attention", "speech, as Whisper hears it, for the tokens of a face (conditioning/audio.py)"),
    "expression": Condition("channels", "what a face shows, frame by frame: named or driven (conditioning/expression.py)"),
    "pose": Condition("channels", "how a head is turned, frame by frame (conditioning/pose.py)"),
    "identity": Condition("channels", "the picture's own latent at every frame (conditioning/avatar.py)"),
}
