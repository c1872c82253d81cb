"""Sound: read from any file, resampled, turned into Whisper's log-mel spectrogram, and put beside the frames of a video."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinema.errors import InputError
from kinema.media.files import whole_file

RATE = 16_000  # samples a second, of Whisper
MELS, HOP, WINDOW = 80, 160, 400  # bands; samples from frame to frame, and of a frame
FLOOR_DB = 8.0  # how many decades below the loudest band the rest is cut
AAC_BITS = 96_000


def read_audio(path: Path | str, rate: int = RATE, longest: float | int | None = None) -> Float[Tensor, " n"]:
    """The first sound track of a file as mono float32 in [-1, 1], `rate` samples a second; channels are averaged.

    longest: seconds; a longer file is refused, not cut.
    Raises InputError where the file is missing, holds no sound, is empty, or is too long.
    """
    try:
        with av.open(str(path)) as container:
            return sound_of(container, str(path), rate, longest)
    except (av.FFmpegError, FileNotFoundError) as error:
        raise InputError(f"cannot read {path} as sound: {error.strerror or error}") from error


def sound_of(container: Any, name: str, rate: int = RATE, longest: float | int | None = None) -> Float[Tensor, " n"]:
    """The same of an open PyAV container, which `name` stands for in what is refused."""
    if not container.streams.audio:
        raise InputError(f"{name} holds no sound: give a sound file such as .wav, .mp3 or .flac")
    pieces, samples = [], 0
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            pieces.append(part.to_ndarray().reshape(-1))
            samples += len(pieces[-1])
        if longest is not None and samples > longest * rate:
            raise InputError(f"{name} is longer than {longest:g} s, the most that is taken at once: cut it into parts")
    with suppress(ValueError):  # nothing came in, so nothing is left
        pieces += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
    if not samples:
        raise InputError(f"{name} holds 0 s of sound: give one that lasts")
    return torch.from_numpy(np.concatenate(pieces))


def resample(sound: Float[np.ndarray, " n"] | Float[Tensor, " n"], rate: int, to: int) -> Float[Tensor, " m"]:
    """To another number of samples a second."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, dtype=np.float32)[None], format="flt", layout="mono")
    frame.sample_rate = rate
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return torch.from_numpy(np.concatenate([part.to_ndarray().reshape(-1) for part in parts]))


def mux(video: Path, sound: Float[np.ndarray, " n"] | Float[Tensor, " n"], rate: int) -> None:
    """Give a finished MP4 a voice: its frames are copied, the sound becomes AAC; the file is replaced when it is whole."""
    with (
        whole_file(video) as draft,
        av.open(str(video)) as original,
        av.open(draft, "w", options={"movflags": "+faststart"}) as container,
    ):
        container.metadata.update(original.metadata)
        pictures = container.add_stream_from_template(original.streams.video[0])
        voice = container.add_stream("aac", rate=rate, layout="mono")
        voice.codec_context.bit_rate = AAC_BITS
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.asarray(sound, np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*voice.encode(frame), *voice.encode(None)]:
            container.mux(packet)


@lru_cache(maxsize=1)
def mel_filters() -> Float[Tensor, "80 201"]:
    """Triangles on Slaney's mel scale (linear to 1 kHz, logarithmic above), each of area 1: what Whisper was trained with."""
    break_hz, break_mel, step = 1000.0, 15.0, np.log(6.4) / 27

    def to_hz(mel: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return np.where(mel < break_mel, mel * 200 / 3, break_hz * np.exp(step * (mel - break_mel)))

    top = break_mel + np.log(RATE / 2 / break_hz) / step
    corners = to_hz(np.linspace(0, top, MELS + 2))
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    triangles = np.minimum(rising, falling).clip(0) * (2 / (corners[2:] - corners[:-2]))[:, None]
    return torch.from_numpy(triangles.astype(np.float32))


def log_mel(sound: Float[Tensor, " n"]) -> Float[Tensor, "80 T"]:
    """Whisper's input, 100 frames a second. sound: RATE samples a second; silence gives a constant.

    Source: Radford et al. 2022 (arXiv 2212.04356), section 2.2.
    """
    padded = torch.nn.functional.pad(sound, (0, max(WINDOW - len(sound), 0)))
    spectrum = torch.stft(padded, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)[:, :-1]
    bands = (mel_filters() @ spectrum.abs().square()).clamp(min=1e-10).log10()
    return (bands.maximum(bands.max() - FLOOR_DB) + 4) / 4
