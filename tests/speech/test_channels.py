"""Several channels: which is heard, and that none is missing in silence."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.errors import AudioError
from mondegreen.speech.audio import SAMPLE_RATE, load_audio, named_channels
from tests.speech.sound_files import (
    SECONDS,
    WAV,
    Said,
    encoded,
    speech_like,
)


def stereo(left: np.ndarray, right: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.stack([left, right], axis=1), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return stream.getvalue()


VOICE, OTHER, NOISE = (speech_like(2.0, seed=seed) for seed in (1, 2, 3))

CHANNELS: dict[str, tuple[np.ndarray, np.ndarray, bool]] = {  # left, right, whether they cancel each other
    "the same": (VOICE, VOICE, False),
    "one empty": (VOICE, 0 * VOICE, False),
    "two voices": (VOICE, OTHER, False),
    "upside down": (VOICE, -VOICE, True),
    "upside down and softer": (VOICE, -0.5 * VOICE, True),
    "upside down under noise of each": (VOICE + 0.3 * NOISE, -VOICE + 0.3 * OTHER, True),
    "upside down under common noise": (VOICE + 0.3 * NOISE, -VOICE + 0.3 * NOISE, True),
    "upside down and late": (VOICE, -np.roll(VOICE, 2), True),
    "a millisecond late": (VOICE, np.roll(VOICE, 16), True),
    "upside down from the middle on": (VOICE, np.concatenate([VOICE[:16_000], -VOICE[16_000:]]), True),
    "upside down in the first quarter": (VOICE, np.concatenate([-VOICE[:8_000], VOICE[8_000:]]), True),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_that_cancel_each_other_are_not_mixed(name: str) -> None:
    left, right, cancel = CHANNELS[name]
    content, said = stereo(left, right), {}
    waveform = load_audio(io.BytesIO(content), warn=lambda code, message: said.update({code: message}))
    assert set(said) == ({"cancelled"} if cancel else set())
    expected = [left, right] if cancel else [(left + right) / 2]
    assert any(np.allclose(waveform, one, atol=1e-6) for one in expected)


@pytest.mark.parametrize("first", [encoded(WAV), stereo(VOICE, VOICE)], ids=["mono", "stereo"])
def test_every_part_of_a_joined_recording_is_asked_whether_its_channels_cancel(first: bytes) -> None:
    said: Said = {}
    content = first + stereo(VOICE, -VOICE)
    waveform = load_audio(io.BytesIO(content), warn=lambda code, message: said.update({code: message}))
    assert np.allclose(waveform[-len(VOICE) :], VOICE, atol=1e-6) and "in a part of it (2.0 s)" in said["cancelled"]


def test_a_channel_that_a_recording_or_a_part_of_it_does_not_have_is_refused(tmp_path: Path) -> None:
    joined = tmp_path / "call.wav"
    joined.write_bytes(encoded(WAV) + stereo(VOICE, OTHER))
    assert [path.name for path in named_channels(joined, "split")] == ["call.wav#1", "call.wav#2"]
    assert len(load_audio(f"{joined}#1")) == (SECONDS + 2) * SAMPLE_RATE
    for name in ("#0", "#00", "#2", "#3"):
        with pytest.raises(AudioError) as caught:
            load_audio(f"{joined}{name}")
        assert caught.value.reason == "no_channel"
