"""Clips of faces that talk: real speech, a mouth that follows its phonemes, blinks, head motion, named expressions, and the truth of all.

A clip is a pure function of its seed, its split and its size. Sentences and looks are split by rule: what is held out is never trained on.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from kinema.world.faces import EXPRESSIONS, Look, Performance, boxes, draw_faces, draw_look
from kinema.world.voice import PACES, PITCHES, RATE, Phoneme, mouth_track, the_voice

FPS = 12
SILENT_SHARE, NEUTRAL_SHARE, HELD_OUT = 0.08, 0.3, 8  # every eighth sentence and look is held out
ONSET = 0.5  # seconds in which an expression comes up, from the first frame on

WHO = (
    "the old man", "a small dog", "my sister", "the captain", "our teacher", "a young girl", "the baker", "nobody", "every bird",
    "the tall woman", "your brother", "the king", "a quiet boy", "the doctor", "my best friend", "the farmer", "a blue robot",
    "the whole town"
)  # fmt: skip
DOES = (
    "walks to", "talks about", "looks for", "remembers", "paints", "always loved", "has never seen", "opens", "found",
    "brought us", "wants to buy", "jumps over", "laughs at", "is waiting for", "sold", "sings to", "asked about", "will build", "forgot",
    "climbs"
)  # fmt: skip
WHAT = (
    "the green house", "a bowl of soup", "five red apples", "the open window", "that strange story", "a wooden boat",
    "the mountain", "her birthday", "the broken clock", "an orange balloon", "the morning train", "his father's coat",
    "a piece of bread", "the moon", "some good music", "the empty room", "two happy cows", "a big yellow umbrella", "the long road home",
    "my favourite book"
)  # fmt: skip
WHEN = (
    "", " in the morning", " every day", " before the rain", " again and again", " with a smile", " on Monday",
    " far away from here", " at eight o'clock", " by the river", " all summer", " after the war", " for a while", " without a word"
)  # fmt: skip
OPENERS = ("", "", "", "Well, ", "Oh, ", "I think ", "Listen, ", "You know, ", "Maybe ", "They say that ", "Wow! ", "No, ")

Split = Literal["train", "heldout"]


@dataclass(frozen=True, kw_only=True)
class SpeechSpec:
    """One clip of a talking face: everything needed to make it again."""

    seed: int
    split: Split
    frames: int
    height: int
    width: int
    text: str  # empty: silence
    pace: float
    pitch: float
    start: float  # seconds of silence before the first word; below 0 the clip begins within the sentence
    expression: str
    first_expression: str  # of the first frame
    strength: float
    look: Look
    head_motion: float
    fps: int = FPS

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass(frozen=True)
class SpeechClip:
    """A clip with its voice and its truth."""

    frames: UInt8[np.ndarray, "T H W 3"]
    sound: Float[np.ndarray, " n"]  # RATE samples a second, as long as the frames
    truth: dict[str, Any]


def is_held_out(what: str) -> bool:
    return hashlib.sha256(what.encode()).digest()[0] % HELD_OUT == 0


def draw_sentence(rng: np.random.Generator) -> str:
    who, does, what, when, opener = (str(rng.choice(list(words))) for words in (WHO, DOES, WHAT, WHEN, OPENERS))
    text = f"{opener}{who} {does} {what}{when}"
    return text[0].upper() + text[1:] + str(rng.choice([".", ".", "!", "?"]))


def draw_split(rng: np.random.Generator, split: Split) -> tuple[str, Look]:
    """A sentence and a look of the split; a look's skin, hair and backdrop together decide which it is in."""
    while is_held_out(text := draw_sentence(rng)) != (split == "heldout"):
        pass
    while is_held_out(f"{(look := draw_look(rng)).skin} {look.hair} {look.hair_style} {look.backdrop}") != (split == "heldout"):
        pass
    return text, look


def sample_speech(seed: int, split: Split = "train", frames: int = 33, height: int = 64, width: int = 64) -> SpeechSpec:
    """The clip of a seed."""
    rng = np.random.default_rng((seed, 0 if split == "train" else 1, 77))
    text, look = draw_split(rng, split)
    names = list(EXPRESSIONS)
    expression, first = (names[0] if rng.random() < NEUTRAL_SHARE else str(rng.choice(names)) for _ in range(2))
    return SpeechSpec(
        seed=seed,
        split=split,
        frames=frames,
        height=height,
        width=width,
        text="" if rng.random() < SILENT_SHARE else text,
        pace=float(rng.uniform(*PACES)),
        pitch=float(rng.uniform(*PITCHES)),
        start=float(rng.uniform(-0.6, 0.7)),
        expression=expression,
        first_expression=first,
        strength=float(rng.uniform(0.75, 1.1)),
        look=look,
        head_motion=float(rng.uniform(0.2, 1.0)),
    )


def wander(rng: np.random.Generator, frames: int, fps: float | int, speed: float = 0.5) -> Float[np.ndarray, " T"]:
    """A smooth random path in about [-1, 1]: three slow waves."""
    t = np.arange(frames) / fps
    rates, phases, weights = speed * rng.uniform(0.3, 1.6, 3), rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.3, 1, 3)
    return (weights[:, None] * np.sin(2 * np.pi * rates[:, None] * t + phases[:, None])).sum(0) / weights.sum()


def blinks(rng: np.random.Generator, frames: int, fps: float | int) -> Float[np.ndarray, " T"]:
    """Lids shut for a fifth of a second every three seconds or so; never in the first frame."""
    moments = np.arange(frames) / fps
    shut, at = np.zeros(frames), rng.uniform(0.4, 3.5)
    while at < moments[-1]:
        shut = np.maximum(shut, np.clip(1.3 - np.abs(moments - at) / 0.1, 0, 1))
        at += rng.uniform(1.5, 5.0)
    return shut


def expressing(spec: SpeechSpec) -> Float[np.ndarray, "T 5"]:
    """From the first frame's expression to the clip's."""
    come = np.clip(np.arange(spec.frames) / (ONSET * spec.fps), 0, 1)
    come = come * come * (3 - 2 * come)
    rows = np.eye(len(EXPRESSIONS)) * spec.strength
    names = list(EXPRESSIONS)
    first, last = rows[names.index(spec.first_expression)], rows[names.index(spec.expression)]
    return first + come[:, None] * (last - first)


def voice_of(spec: SpeechSpec) -> tuple[Float[np.ndarray, " n"], tuple[Phoneme, ...]]:
    """The clip's sound, cut to its length, and its phonemes on the clip's clock."""
    sound = np.zeros(round(spec.seconds * RATE), np.float32)
    if not spec.text:
        return sound, ()
    spoken = the_voice().speak(spec.text, spec.pace, spec.pitch, spec.seed)
    offset = round(spec.start * RATE)
    said = spoken.sound[max(-offset, 0) :][: len(sound) - max(offset, 0)]
    sound[max(offset, 0) :][: len(said)] = said
    return sound, tuple(Phoneme(symbol, start + spec.start, end + spec.start) for symbol, start, end in spoken.phonemes)


def perform(spec: SpeechSpec, phonemes: tuple[Phoneme, ...]) -> Performance:
    """What the face does in the clip."""
    rng = np.random.default_rng((spec.seed, 78))
    opening, width = mouth_track(phonemes, spec.seconds, spec.fps)
    paths = [spec.head_motion * wander(rng, spec.frames, spec.fps) for _ in range(5)]
    center = np.array([rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06)]) + 0.05 * np.stack(paths[3:], 1)
    return Performance(
        opening=opening,
        width=width,
        blink=blinks(rng, spec.frames, spec.fps),
        expression=expressing(spec),
        yaw=14 * paths[0],
        pitch=9 * paths[1],
        roll=8 * paths[2],
        center=center,
        radius=float(rng.uniform(0.8, 0.98)),
    )


def truth_of(spec: SpeechSpec, acted: Performance, phonemes: tuple[Phoneme, ...]) -> dict[str, Any]:
    """All that is known of a clip, frame by frame."""
    face, mouth = boxes(acted, spec.look, spec.height, spec.width)
    tracks: dict[str, Any] = {name: getattr(acted, name) for name in ("opening", "width", "blink", "expression", "yaw", "pitch", "roll")}
    tracks |= {"x": acted.center[:, 0], "y": acted.center[:, 1]}
    return {
        "spec": asdict(spec),
        "caption": caption(spec),
        "phonemes": [[symbol, round(start, 3), round(end, 3)] for symbol, start, end in phonemes],
        **{name: np.round(values, 4).tolist() for name, values in tracks.items()},
        "face": np.round(face, 2).tolist(),
        "mouth": np.round(mouth, 2).tolist(),
    }


def caption(spec: SpeechSpec) -> str:
    """What a person would ask for."""
    mood = "" if spec.expression == "neutral" else f"{spec.expression} "
    what = "speaks" if spec.text else "is silent"
    return f"Close-up of {spec.look.words}. The {mood}face looks at the camera and {what}."


def render_speech(spec: SpeechSpec) -> SpeechClip:
    """A clip, its voice and its truth. Raises as `Voice` does."""
    sound, phonemes = voice_of(spec)
    acted = perform(spec, phonemes)
    return SpeechClip(draw_faces(spec.look, acted, spec.height, spec.width), sound, truth_of(spec, acted, phonemes))
