import io
import os
import struct
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import AudioError
from mondegreen.speech.audio import (
    SAMPLE_RATE,
    audio_warnings,
    channels_of,
    duration_of,
    load_audio,
    stream_windows,
)

KINDS = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
EDGE = 800  # samples at each end where resamplers and lossy codecs ring


def sine(seconds: float = 1.0, rate: int = SAMPLE_RATE, hertz: float = 440.0, channels: int = 1) -> np.ndarray:
    tone = 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(tone.astype(np.float32)[:, None], channels, axis=1)


@cache
def encoded(kind: tuple[str, str], rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    return encode(sine(rate=rate, channels=channels), rate, kind)


def encode(samples: np.ndarray, rate: int = SAMPLE_RATE, kind: tuple[str, str] = ("WAV", "PCM_16")) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind[0], subtype=kind[1])
    return stream.getvalue()


def loaded(content: bytes) -> np.ndarray:
    return load_audio(io.BytesIO(content))


def refused(content: bytes) -> str:
    with pytest.raises(AudioError) as caught:
        loaded(content)
    return caught.value.reason


def heard(content: bytes) -> tuple[np.ndarray, dict[str, str]]:
    """The waveform, and what was said about it by code."""
    said: dict[str, str] = {}
    return load_audio(io.BytesIO(content), warn=lambda code, message: said.update({code: message})), said


def peak_hertz(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform)).argmax() * SAMPLE_RATE / len(waveform))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_any_format_and_rate_becomes_the_same_16_khz_tone(kind: tuple[str, str], rate: int) -> None:
    if kind[1] == "OPUS" and rate == 44_100:
        pytest.skip("Opus has no 44.1 kHz")
    waveform = loaded(encoded(kind, rate))
    assert waveform.dtype == np.float32 and waveform.shape == (SAMPLE_RATE,)
    assert abs(peak_hertz(waveform) - 440) <= 1
    assert np.abs(waveform[EDGE:-EDGE]).max() == pytest.approx(0.4, rel=0.2)  # lossy codecs overshoot


@given(rate=st.integers(4_000, 96_000), hertz=st.integers(100, 1_500))
@settings(max_examples=25, deadline=None)
def test_resampling_keeps_frequency_level_and_length(rate: int, hertz: int) -> None:
    waveform = loaded(encode(sine(rate=rate, hertz=hertz), rate))
    assert abs(len(waveform) - SAMPLE_RATE) <= 1
    expected = sine(hertz=hertz)[EDGE:-EDGE, 0]
    assert np.abs(waveform[EDGE : EDGE + len(expected)] - expected).max() < 2e-3


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_averaged(channels: int) -> None:
    samples = sine(channels=channels) * np.arange(1, channels + 1) / channels
    waveform = loaded(encode(samples, kind=("WAV", "FLOAT")))
    assert np.allclose(waveform, samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_in_blocks_changes_no_sample(kind: tuple[str, str]) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 25 * SAMPLE_RATE)
    content = encode(noise, kind=kind)
    at_once, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert np.allclose(loaded(content), at_once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_truncation_passes_as_shorter_audio(kind: tuple[str, str]) -> None:
    whole = encoded(kind)
    places = {*range(0, 200, 3), *range(200, len(whole), len(whole) // 60), *range(len(whole) - 12, len(whole))}
    for place in sorted(places):
        try:
            waveform, said = heard(whole[:place])
        except AudioError as error:
            assert error.reason in ("truncated", "empty", "not_audio", "too_short"), f"{kind} cut at {place}"
        else:
            assert "incomplete" in said, f"{kind} cut at {place}"
            assert kind[0] in ("OGG", "FLAC", "MP3") or len(waveform) >= 0.9 * SAMPLE_RATE


@given(data=st.data(), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_damage_gives_audio_or_an_audio_error(data: st.DataObject, kind: tuple[str, str]) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert np.isfinite(loaded(bytes(content))).all()
    except AudioError as error:
        assert error.reason != "missing"


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(content: bytes) -> None:
    assert refused(content) in ("empty", "not_audio", "truncated", "zero_length")


def test_every_refusal_names_the_file_and_a_reason(tmp_path: Path) -> None:
    holed = sine()
    holed[5000] = np.nan
    infinite = sine()
    infinite[5000] = np.inf
    damaged = sine()
    damaged[5000] = 3e38  # one such sample and the normalised rest is silence
    bad = {
        "empty": b"",
        "not_audio": b"Dear reader, this is a letter.\n" * 20,
        "zero_length": encode(sine(0.0)),
        "too_short": encode(sine(0.024)),
        "nan": encode(holed, kind=("WAV", "FLOAT")),
        "truncated": encoded(("WAV", "PCM_16"))[:-4000],
    }
    for reason, content in [
        *bad.items(),
        ("nan", encode(infinite, kind=("WAV", "DOUBLE"))),
        ("nan", encode(damaged, kind=("WAV", "FLOAT"))),
    ]:
        path = tmp_path / f"{reason}.wav"
        path.write_bytes(content)
        with pytest.raises(AudioError, match=f"{reason}.wav") as caught:
            load_audio(path)
        assert caught.value.reason == reason and caught.value.next_step
    for path, reason in [(tmp_path / "nowhere.wav", "missing"), (tmp_path, "unreadable")]:
        with pytest.raises(AudioError) as caught:
            load_audio(path)
        assert caught.value.reason == reason and str(path) in str(caught.value)


def test_a_path_that_nobody_may_look_at_or_no_disk_can_hold_is_unreadable(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    user = os.geteuid()
    locked.chmod(0)
    names = [locked / "a.wav", tmp_path / f"{'x' * 300}.wav"]
    try:
        os.seteuid(user or 65534)  # permissions stop nobody who is root
        for path in [*names, *(Path(f"{name}#1") for name in names)]:
            for ask in (load_audio, duration_of):
                with pytest.raises(
                    AudioError, match=r"cannot be read: (Permission denied|File name too long)"
                ) as caught:
                    ask(path)
                assert caught.value.reason == "unreadable" and "name and permissions" in caught.value.next_step
    finally:
        os.seteuid(user)
        locked.chmod(0o700)


def test_25_ms_is_long_enough() -> None:
    assert len(loaded(encode(sine(0.025)))) == 400


def test_too_long_is_seen_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, sine(2.0), SAMPLE_RATE)
    assert len(load_audio(path, max_duration=2.0)) == 2 * SAMPLE_RATE
    with pytest.raises(AudioError, match=r"long\.wav is longer than 1\.5 s") as caught:
        load_audio(path, max_duration=1.5)
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize(("rate", "seconds"), [(8000, 240), (16_000, 300)])
def test_as_long_as_is_allowed_is_not_too_long(tmp_path: Path, rate: int, seconds: int) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(sine(1.0, rate=rate), (seconds, 1)), rate)
    assert len(load_audio(path, max_duration=seconds)) == seconds * SAMPLE_RATE
    with pytest.raises(AudioError, match="is longer than"):
        load_audio(path, max_duration=seconds - 0.001)


@pytest.mark.parametrize("kind", ["AU", "AIFF", "WAV"])
@pytest.mark.parametrize("rate", [10, 500])
def test_a_rate_that_no_recording_has_is_refused(tmp_path: Path, kind: str, rate: int) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, (4 * rate, 2)), rate, format=kind)
    for heard in (load_audio, channels_of):
        with pytest.raises(AudioError, match=rf"says that its rate is {rate} Hz"):
            heard(path)


def test_other_containers_need_an_extra_that_the_refusal_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mondegreen.speech.foreign.installed", lambda: False)
    with pytest.raises(AudioError) as caught:
        loaded(b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50)
    assert "mondegreen[av]" in caught.value.next_step and "ffmpeg" in caught.value.next_step


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_wav_from_a_pipe_is_read_to_its_end(size: int) -> None:
    whole = encoded(("WAV", "PCM_16"))
    unknown = struct.pack("<I", size)
    piped = whole[:4] + unknown + whole[8:40] + unknown + whole[44:]
    assert np.array_equal(loaded(piped), loaded(whole))
    assert duration_of(io.BytesIO(piped)) == 1.0


def test_mp3_without_a_length_header_is_read_to_its_end() -> None:
    whole = encode(sine(3.0), kind=("MP3", "MPEG_LAYER_III"))
    second_frame = whole.index(whole[:2], 4)
    waveform = loaded(whole[second_frame:])
    assert 3.0 <= len(waveform) / SAMPLE_RATE < 3.2
    assert abs(peak_hertz(waveform) - 440) <= 1
    assert "incomplete" in heard(whole[second_frame:-5])[1]


@pytest.mark.parametrize("before, after", [(b"ID3\x04\0\0\0\0\x08\0" + bytes(1024), b""), (b"", b"TAG" + bytes(125))])
def test_mp3_tags_are_stepped_over(before: bytes, after: bytes) -> None:
    whole = encoded(("MP3", "MPEG_LAYER_III"))
    assert np.array_equal(loaded(before + whole + after), loaded(whole))


def test_silence_and_clipping_are_warnings() -> None:
    assert audio_warnings(np.zeros(SAMPLE_RATE, np.float32))[0][0] == "silent"
    assert audio_warnings(np.full(SAMPLE_RATE, 5e-5, np.float32))[0][0] == "silent"
    assert audio_warnings(np.sign(sine()[:, 0]))[0][0] == "clipped"
    assert audio_warnings(sine()[:, 0]) == []


@given(seconds=st.floats(0.05, 5.0), window=st.floats(0.3, 2.0), overlap=st.floats(0.0, 0.25))
@settings(max_examples=30, deadline=None)
def test_windows_cover_the_recording_exactly(seconds: float, window: float, overlap: float) -> None:
    content = encode(np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * 22_050)), 22_050)
    whole = loaded(content)
    shared, covered = round(overlap * SAMPLE_RATE), 0
    for start, samples in stream_windows(io.BytesIO(content), window, overlap):
        begin = round(start * SAMPLE_RATE)
        assert np.array_equal(samples, whole[begin : begin + len(samples)])
        assert begin == max(0, covered - shared)
        assert len(samples) <= round(window * SAMPLE_RATE) and begin + len(samples) > covered
        covered = begin + len(samples)
    assert covered == len(whole)


def test_an_hour_is_windowed_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    frames = 3600 * SAMPLE_RATE
    header = bytearray(encode(np.zeros(1)))[:44]
    header[4:8], header[40:44] = struct.pack("<I", 36 + 2 * frames), struct.pack("<I", 2 * frames)
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(44 + 2 * frames)  # sparse: an hour of silence without the disk space
    assert duration_of(path) == 3600
    tracemalloc.start()
    windows = sum(1 for _ in stream_windows(path, window=30.0, overlap=4.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert windows == 139
    assert peak < 20e6, f"{peak / 1e6:.0f} MB; the recording has 230 MB"


def test_flac_from_a_pipe_is_read_to_its_end() -> None:
    whole = encoded(("FLAC", "PCM_16"))
    piped = bytearray(whole)
    piped[21] &= 0xF0
    piped[22:26] = bytes(4)
    assert np.array_equal(loaded(bytes(piped)), loaded(whole))
    assert duration_of(io.BytesIO(bytes(piped))) == 1.0
    assert "incomplete" in heard(bytes(piped[:-1]))[1]
