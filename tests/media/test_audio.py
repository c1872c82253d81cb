"""Sound in and out: what is written is read, whatever its rate and channels; what is no sound is refused."""

import wave

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from kinema.errors import InputError
from kinema.media.audio import RATE, log_mel, mux, read_audio, resample
from kinema.media.video import probe, read_metadata, read_video, write_video


def write_wav(path, sound, rate):
    """16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, len(sound), "NONE", ""))
        file.writeframes((np.asarray(sound).clip(-1, 1) * 32767).round().astype("<i2").tobytes())


def tone(seconds, rate, hertz=220.0):
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_what_is_written_is_read(tmp_path):
    write_wav(tmp_path / "tone.wav", tone(0.5, RATE), RATE)
    assert read_audio(tmp_path / "tone.wav").numpy() == pytest.approx(tone(0.5, RATE), abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_any_rate_becomes_sixteen_thousand(tmp_path, rate):
    write_wav(tmp_path / "tone.wav", tone(1.0, rate), rate)
    heard = read_audio(tmp_path / "tone.wav").numpy()
    assert len(heard) == pytest.approx(RATE, abs=RATE * 0.01)
    assert np.abs(np.fft.rfft(heard)).argmax() == pytest.approx(220 * len(heard) / RATE, abs=2)


def test_stereo_is_averaged(tmp_path):
    with wave.open(str(tmp_path / "two.wav"), "wb") as file:
        file.setparams((2, 2, RATE, RATE, "NONE", ""))
        sides = np.stack([tone(1.0, RATE), np.zeros(RATE, np.float32)], 1)
        file.writeframes((sides * 32767).astype("<i2").tobytes())
    loudest = read_audio(tmp_path / "two.wav").abs().max()
    assert 0.15 < loudest < 0.35


def test_nothing_and_no_sound_and_too_much_are_refused(tmp_path):
    write_wav(tmp_path / "empty.wav", np.zeros(0, np.float32), RATE)
    write_wav(tmp_path / "long.wav", tone(3.0, RATE), RATE)
    (tmp_path / "text.wav").write_text("not sound at all")
    write_video(tmp_path / "silent.mp4", np.zeros((5, 16, 16, 3), np.uint8), 12)
    for name, word in (("empty.wav", "0 s"), ("text.wav", "cannot read"), ("silent.mp4", "no sound"), ("absent.wav", "cannot read")):
        with pytest.raises(InputError, match=word):
            read_audio(tmp_path / name)
    with pytest.raises(InputError, match="longer than 2 s"):
        read_audio(tmp_path / "long.wav", longest=2)


def test_a_voice_is_put_beside_the_frames_which_stay(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 255, (13, 32, 32, 3)).astype(np.uint8), 12, {"who": "me"})
    before = read_video(path)[0]
    mux(path, tone(13 / 12, RATE), RATE)
    assert torch.equal(read_video(path)[0], before)
    assert read_metadata(path) == {"who": "me"}
    assert probe(path).frames == 13
    assert len(read_audio(path)) == pytest.approx(13 / 12 * RATE, abs=3000)


def test_the_spectrogram_is_whispers():
    sound = torch.from_numpy(tone(30.0, RATE) + 0.05 * np.random.default_rng(0).standard_normal(30 * RATE).astype(np.float32))
    theirs = WhisperFeatureExtractor()(sound.numpy(), sampling_rate=RATE, return_tensors="pt").input_features[0]
    torch.testing.assert_close(log_mel(sound), theirs, rtol=1e-4, atol=1e-4)


def test_resampling_keeps_length_and_pitch():
    slow = resample(tone(1.0, 24_000), 24_000, RATE)
    assert len(slow) == pytest.approx(RATE, abs=10)
