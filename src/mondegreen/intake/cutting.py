"""Segments of longer recordings as files of their own, cut at the sample."""

from functools import lru_cache
from pathlib import Path

import soundfile

from mondegreen.config import Seconds
from mondegreen.errors import AudioError
from mondegreen.speech.audio import SAMPLE_RATE, SHORTEST, Waveform, duration_of, load_audio
from mondegreen.speech.channels import named_channel

_SLACK: Seconds = 0.05  # by which a segment may end after its recording: tables round
_LOSSLESS = ("WAV", "WAVEX", "RF64", "FLAC", "AIFF")
# How samples are read so that writing them again gives the same ones; anything else decodes to 16 bit.
_EXACT = {"PCM_24": "int32", "PCM_32": "int32", "FLOAT": "float32", "DOUBLE": "float64"}


def cut(audio: Path, target: Path, start: Seconds, end: Seconds | None, channel: int | None) -> None:
    """Writes samples round(start * rate) to round(end * rate) of a recording as a wav.

    What is stored without loss keeps its rate, its depth and its channels (or the one that is chosen), bit for bit.
    Other codecs, and files whose header is wrong, are decoded as the models hear them: 16 kHz, one channel, 16 bit.

    Raises:
        AudioError: the recording cannot be decoded, ends before the segment does, or lacks the channel.
    """
    length = duration_of(audio)
    if start >= length or (end is not None and end > length + _SLACK):
        span = f"{start:g} to {'its end' if end is None else f'{end:g} s'}"
        raise AudioError(f"{audio} is {length:.3f} s long, the segment is {span}.", "Correct its times.", "beyond_end")
    stop = length if end is None else min(end, length)
    if stop - start < SHORTEST:
        raise AudioError(f"{audio}: a segment of {1000 * (stop - start):.1f} ms; 25 ms is the least.", "", "too_short")
    if not _cut_exactly(audio, target, start, stop, channel):
        samples = _decoded(audio, channel)[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)]
        soundfile.write(target, samples, SAMPLE_RATE, "PCM_16", format="WAV")


def _cut_exactly(audio: Path, target: Path, start: Seconds, stop: Seconds, channel: int | None) -> bool:
    """Cuts without decoding to another form; False where that cannot be."""
    with audio.open("rb") as stream:  # libsndfile opens no names that are not UTF-8
        try:
            file = soundfile.SoundFile(stream)
        except soundfile.LibsndfileError:
            return False
        if file.format not in _LOSSLESS or abs(file.frames / file.samplerate - duration_of(audio)) > 1e-6:
            return False
        if channel is not None and channel >= file.channels:
            problem = f"{audio} has {file.channels} channel(s), the segment is of channel {channel + 1}."
            raise AudioError(problem, "Correct the channel.", "no_channel")
        first = round(start * file.samplerate)
        file.seek(first)
        kind = _EXACT.get(file.subtype, "int16")
        samples = file.read(round(stop * file.samplerate) - first, dtype=kind, always_2d=True)  # (frames, channels)
        kept = samples if channel is None else samples[:, channel]
        subtype = file.subtype if file.subtype in _EXACT else "PCM_16"
        soundfile.write(target, kept, file.samplerate, subtype, format="WAV")
    return True


@lru_cache(maxsize=1)  # many segments of one recording follow each other
def _decoded(audio: Path, channel: int | None) -> Waveform:
    return load_audio(named_channel(audio, None if channel is None else channel + 1))
