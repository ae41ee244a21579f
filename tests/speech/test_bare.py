"""Frames without a container, and containers that do not say how long they are: what is not there is said."""

import random
from collections.abc import Callable
from functools import cache
from io import BytesIO

import pytest

from mondegreen.errors import AudioError
from mondegreen.speech.audio import channels_of, described, duration_of, load_audio
from mondegreen.speech.bare import unheard
from tests.speech.sound_files import encoded_by_ffmpeg, heard

KINDS: list[tuple[str, str, int, int]] = [  # container, codec, rate, bytes that frames are a multiple of (0: of none)
    ("adts", "aac", 22_050, 0),
    ("latm", "aac", 16_000, 0),
    ("ac3", "ac3", 48_000, 192),
    ("eac3", "eac3", 48_000, 192),
    ("mp2", "mp2", 16_000, 432),
    ("amr", "libopencore_amrnb", 8_000, 32),
    ("mpegts", "aac", 44_100, 188),
    ("mpegts", "mp2", 16_000, 188),
    ("mpeg", "mp2", 16_000, 0),
    ("mpeg", "pcm_s16be", 48_000, 0),
    ("vob", "ac3", 48_000, 0),
    ("nut", "mp2", 16_000, 0),
    ("nut", "pcm_s16le", 16_000, 0),
]
IDS = [f"{kind}-{codec}" for kind, codec, *_ in KINDS]


@cache
def whole(kind: str, codec: str, rate: int) -> tuple[bytes, float]:
    content = encoded_by_ffmpeg(kind, codec, rate)
    found, said = heard(content)
    assert not said and found == pytest.approx(2.5, abs=0.15)
    return content, found


def is_short_in_silence(content: bytes, seconds: float) -> bool:
    try:
        found, said = heard(content)
    except AudioError as error:
        assert error.next_step
        return False
    return not said and found < seconds - 0.05


@pytest.mark.parametrize(("kind", "codec", "rate", "step"), KINDS, ids=IDS)
def test_what_is_cut_taken_out_zeroed_or_written_over_is_said(kind: str, codec: str, rate: int, step: int) -> None:
    """But what is as long as some frames, where all of them are alike, or ends with one: nobody can know of those."""
    content, seconds = whole(kind, codec, rate)
    draw = random.Random(2)
    for _ in range(3):
        place = draw.randrange(len(content) // 10, len(content) - 300)
        length = draw.randrange(200, len(content) // 6)
        others = (b"", bytes(length), draw.randbytes(length))
        damaged = [(content[:place] + other + content[place + length :])[: len(content)] for other in others]
        damaged.append(content[:place])
        for one in damaged:
            aligned = step and len(one) < len(content) and (len(content) - len(one)) % step == 0
            assert aligned or not is_short_in_silence(one, seconds), (place, length, damaged.index(one))


@pytest.mark.parametrize(("kind", "codec", "rate", "step"), KINDS, ids=IDS)
def test_of_two_that_were_joined_both_are_heard_and_what_lies_between_is_said(
    kind: str, codec: str, rate: int, step: int
) -> None:
    content, seconds = whole(kind, codec, rate)
    found, said = heard(content * 2)
    assert not said and found == pytest.approx(2 * seconds, abs=0.1)
    for between in (bytes(700), random.Random(2).randbytes(900)):
        assert not is_short_in_silence(content + between + content, 2 * seconds)


def test_damage_between_frames_has_its_place_and_its_seconds() -> None:
    content, _ = whole("mp2", "mp2", 16_000)
    damaged = content[: 10 * 432] + b"\1" * 300 + content[10 * 432 :]
    assert "300 bytes at 0.70 s are no frame of it" in heard(damaged)[1]["incomplete"]


def test_damage_is_read_once_however_long_it_is() -> None:
    class Counting(BytesIO):
        bytes_read = 0

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            self.bytes_read += len(found)
            return found

    content = b"#!AMR\n" + b"\x04" + bytes(12) + b"\x80" * 20_000
    stream = Counting(content)
    assert unheard(stream, len(content), "amr", 0, 0.02, 0) and stream.bytes_read < 3 * len(content)


def test_frames_of_wideband_amr_are_followed() -> None:
    frames = b"#!AMR-WB\n" + (b"\x44" + bytes(60)) * 50
    assert unheard(BytesIO(frames), len(frames), "amr", 0, 1.0, 0) == []
    cut = frames[:-30]
    assert "no frame of it" in (unheard(BytesIO(cut), len(cut), "amr", 0, 1.0, 0) or [])[0].message


@pytest.mark.parametrize("kinds", [("wtv", "mp2", 16_000), ("wav", "ac3", 48_000)], ids=lambda one: one[0])
def test_joined_files_whose_end_nothing_says_are_both_heard(kinds: tuple[str, str, int]) -> None:
    content = encoded_by_ffmpeg(*kinds)
    found, said = heard(content + content)
    assert not said and found == pytest.approx(2 * heard(content)[0], abs=0.01)


def test_a_kind_of_which_nobody_can_tell_is_named() -> None:
    content = encoded_by_ffmpeg("ircam", "pcm_s16le", 16_000)
    found, said = heard(content)
    assert found == 2.5 and "whether all of a file is there cannot be told of the kind ircam" in said["incomplete"]


def test_mpeg_audio_in_a_program_stream_is_not_taken_for_damaged_mp3() -> None:
    found, said = heard(encoded_by_ffmpeg("mpeg", "libmp3lame", 16_000))
    assert not said and found > 2.5


@pytest.mark.parametrize("ask", [load_audio, duration_of, described, channels_of])
def test_a_codec_that_ffmpeg_does_not_know_is_refused_whatever_is_asked(ask: Callable[[BytesIO], object]) -> None:
    content = encoded_by_ffmpeg("caf", "pcm_s16be", 16_000).replace(b"lpcm", b"zzzz")
    with pytest.raises(AudioError) as caught:
        ask(BytesIO(content))
    assert caught.value.reason == "not_audio"


def test_what_only_looks_like_a_chunk_hides_no_file_behind_it() -> None:
    content = encoded_by_ffmpeg("caf", "pcm_s16be", 16_000)
    found, said = heard(content + b"junk\xff\xff\xff\xff\xff\xff\xff\xf0" + bytes(40) + content)
    assert said or found == 5.0
