"""The voice of talking characters: a real text-to-speech model that also tells when each phoneme is said.

Hibari (PyPI `hibari-tts`, Apache-2.0), distilled from Kokoro; its duration predictor is read out beside the sound. Any pitch and pace.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from kinema.errors import InputError, MissingExtraError
from kinema.media.packaged import Packed, located

MODEL = Packed("hibari-tts", "hibari", "assets/hibari.onnx", "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8", "avatar")
DURATIONS = "/Clip_output_0"  # in MODEL's graph: how many units each symbol lasts
RATE = 24_000  # samples a second
UNIT = 0.025  # seconds
PITCHES, PACES = (0.6, 1.5), (0.75, 1.35)  # what the voice still sounds well at


class Phoneme(NamedTuple):
    """One symbol of the voice's alphabet (misaki's), and when it sounds, in seconds."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class Spoken:
    """A sentence as sound."""

    sound: Float[np.ndarray, " n"]  # in [-1, 1], RATE samples a second
    phonemes: tuple[Phoneme, ...]


class Voice:
    """Speaks; the same words, pace, pitch and seed give the same samples."""

    def __init__(self) -> None:
        """Raises MissingExtraError without the extra `avatar`, WeightsError where the voice is another than the pinned one."""
        try:
            import onnx
            from hibari import Hibari
            from onnxruntime import InferenceSession
        except ImportError as error:
            raise MissingExtraError(error.name or "hibari-tts", "avatar") from error
        graph = onnx.load(str(located(MODEL)))
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
        self.session: Any = InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        self.reader = Hibari()

    def speak(self, text: str, pace: float = 1.0, pitch: float = 1.0, seed: int = 0) -> Spoken:
        """Say English text. pace: 1.2 is a fifth faster; pitch: 1.2 is a fifth higher.

        Raises InputError where nothing in the text can be said, or pace or pitch are out of range.
        """
        for name, value, (low, high) in (("pace", pace, PACES), ("pitch", pitch, PITCHES)):
            if not low <= value <= high:
                raise InputError(f"{name}={value} is out of range: use {low} to {high}")
        sentences = self.reader.phonemize(text)
        if not sentences:
            raise InputError(f"text={text!r} holds nothing to say: give English words")
        rng, sounds, phonemes, start = np.random.default_rng(seed), [], [], 0.0
        for symbols in sentences:
            sound, said = self.sentence(symbols, pace, pitch, rng, start)
            sounds.append(sound)
            phonemes += said
            start += len(sound) / RATE
        return Spoken(np.concatenate(sounds), tuple(phonemes))

    def sentence(
        self, symbols: str, pace: float, pitch: float, rng: np.random.Generator, start: float
    ) -> tuple[Float[np.ndarray, " n"], list[Phoneme]]:
        from hibari import dsp

        known = [symbol for symbol in symbols if symbol in self.reader.vocab]
        feed = {"ids": np.array([self.reader.ids(symbols)], np.int64), "speed": np.array([pace], np.float32)}
        *parts, f0, durations = self.session.run(None, feed)
        sound = dsp.synth(*(part[0] for part in parts), f0[0] * np.float32(pitch), rng)
        ends = start + durations.ravel().cumsum() * UNIT
        timed = zip(known, ends[:-2], ends[1:-1], strict=True)  # the first and the last id are silence
        return sound, [Phoneme(symbol, float(begin), float(end)) for symbol, begin, end in timed]


@lru_cache(maxsize=1)
def the_voice() -> Voice:
    """Loaded once."""
    return Voice()


class Mouth(NamedTuple):
    """A mouth's shape: opening in [0, 1]; width from -1, rounded, to 1, spread."""

    opening: float
    width: float


def shapes(opening: float, width: float, symbols: str) -> dict[str, Mouth]:
    return {symbol: Mouth(opening, width) for symbol in symbols}


MOUTHS = (
    shapes(0.95, 0.0, "ɑaA") | shapes(0.85, 0.3, "æI") | shapes(0.75, -0.2, "ʌWɒ") | shapes(0.7, -0.5, "ɔOQY") | shapes(0.6, 0.3, "ɛe")
    | shapes(0.5, 0.0, "əɐɜᵊɚ") | shapes(0.4, 0.6, "iɪ") | shapes(0.35, -0.9, "uʊ") | shapes(0.2, -0.8, "wɹ") | shapes(0.3, 0.2, "lhɾ")
    | shapes(0.25, 0.2, "tdnTðθ") | shapes(0.3, 0.0, "kɡŋj") | shapes(0.15, 0.3, "sz") | shapes(0.22, -0.5, "ʃʒʧʤ")
    | shapes(0.08, 0.1, "fv") | shapes(0.0, 0.0, "pbm")
)  # fmt: skip
"""What the mouth does for each sound: jaw and lips as a phonetician would put them, in steps an eye can tell."""
CLOSED = Mouth(0.0, 0.0)
SAMPLING = 200  # mouth shapes a second, before they are smoothed
INERTIA = 0.045  # seconds; lips and jaw run from sound to sound
EMPHASIS = 1.5  # characters speak clearly


def mouth_track(phonemes: tuple[Phoneme, ...], seconds: float, fps: float | int) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Opening and width of the mouth at the middle of each frame; closed where nothing is said."""
    moments = np.arange(int(np.ceil(seconds * SAMPLING)) + 1) / SAMPLING
    shape = np.zeros((len(moments), 2))
    for phoneme in phonemes:
        if phoneme.symbol in "ˈˌː":  # marks: the sound beside them goes on
            continue
        shape[(moments >= phoneme.start) & (moments < phoneme.end)] = MOUTHS.get(phoneme.symbol, CLOSED)
    reach = np.arange(-4 * INERTIA, 4 * INERTIA + 1e-9, 1 / SAMPLING)
    bell = np.exp(-0.5 * (reach / INERTIA) ** 2)
    smooth = [np.convolve(np.pad(values, len(reach) // 2, mode="edge"), bell / bell.sum(), mode="valid") for values in shape.T]
    middles = (np.arange(round(seconds * fps)) + 0.5) / fps
    opening, width = (np.interp(middles, moments, values) for values in smooth)
    return (EMPHASIS * opening).clip(0, 1), width
