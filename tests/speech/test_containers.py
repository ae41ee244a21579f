"""wav, flac, mp3 and ogg as recorders, players and crashes leave them: heard whole, or with a warning, or refused."""

import io
import re
import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import AudioError
from mondegreen.speech.audio import SAMPLE_RATE, duration_of, load_audio
from mondegreen.speech.containers import inspect
from mondegreen.speech.ogg import page_checksum
from tests.speech.sound_files import (
    FLAC,
    ID3,
    MP3,
    OPUS,
    PCM,
    SECONDS,
    VORBIS,
    WAV,
    before_data,
    chunk,
    encoded,
    heard,
    holed,
    sized,
    spoilt,
    unmarked,
    without_count,
)


def long_form(magic: bytes, size: int, before: bytes = b"") -> bytes:
    """The wav as RF64 or BW64, with its size where those have it."""
    whole = encoded(WAV)
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, size, 0, 0))
    return magic + b"\xff" * 4 + b"WAVE" + before + sizes + whole[12:40] + b"\xff" * 4 + whole[44:]


def bos_damaged(content: bytes) -> bytes:
    return content[:30] + bytes([content[30] ^ 1]) + content[31:]


def renumbered(content: bytes, serial: int) -> list[bytes]:
    """The pages of an Ogg file, as those of another stream."""
    starts = [at for at in range(len(content)) if content[at : at + 5] == b"OggS\0"]
    pages = []
    for begin, end in pairwise([*starts, len(content)]):
        page = bytearray(content[begin:end])
        page[14:18] = struct.pack("<I", serial)
        page[22:26] = page_checksum(bytes(page))
        pages.append(bytes(page))
    return pages


def two_tracks() -> bytes:
    first, second = renumbered(encoded(OPUS), 1), renumbered(encoded(OPUS, seed=1), 2)
    return b"".join(page for pair in zip(first, second, strict=True) for page in pair)


def bare_flac(content: bytes) -> bytes:
    """Without the blocks of tags that may stand behind STREAMINFO."""
    frames = 4
    while content[frames] < 0x80:
        frames += 4 + int.from_bytes(content[frames + 1 : frames + 4], "big")
    frames += 4 + int.from_bytes(content[frames + 1 : frames + 4], "big")
    return b"fLaC\x80" + content[5:42] + content[frames:]


TAGS = chunk(b"LIST", b"INFOISFT\x04\0\0\0abc\0")

WHOLE: dict[str, tuple[Callable[[], bytes], float, str]] = {  # the file, how long it is, what is said about it
    "plain": (lambda: encoded(WAV), SECONDS, ""),
    "data says the rest of the file": (lambda: sized(PCM + 36), SECONDS, "incomplete"),
    "data says the whole file": (lambda: sized(PCM + 44), SECONDS, "incomplete"),
    "data some bytes too large": (lambda: sized(PCM + 8), SECONDS, "incomplete"),
    "data one byte too large": (lambda: sized(PCM + 1), SECONDS, "incomplete"),
    "data a second short": (lambda: sized(PCM - 32_000), SECONDS, "header"),
    "data wrapped at 4 GiB": (lambda: sized(PCM % 70_000), SECONDS, "header"),
    "data left at 0": (lambda: sized(0), SECONDS, ""),
    "data near 2^31": (lambda: sized(0x7FFE_FFFF), SECONDS, ""),
    "data left at 2^32 - 1": (lambda: sized(-1), SECONDS, ""),
    "riff left at 0": (lambda: sized(PCM, 0), SECONDS, ""),
    "riff too small": (lambda: sized(PCM, 100), SECONDS, ""),
    "tags behind the audio": (lambda: encoded(WAV) + chunk(b"LIST", b"INFOISFT\x04\0\0\0abc\0"), SECONDS, ""),
    "an ID3 tag behind the audio": (lambda: encoded(WAV) + chunk(b"id3 ", ID3), SECONDS, ""),
    "a cut tag behind the audio": (lambda: encoded(WAV) + chunk(b"LIST", bytes(600))[:300], SECONDS, ""),
    "an odd tag before it": (lambda: before_data(chunk(b"LIST", b"INFO" + bytes(9))), SECONDS, ""),
    "an odd tag without its pad": (lambda: before_data(chunk(b"LIST", b"INFO" + bytes(9), pad=False)), SECONDS, ""),
    "wav after wav": (lambda: encoded(WAV) + encoded(WAV, 2.0), SECONDS + 2, ""),
    "wav behind a tag": (lambda: ID3 + encoded(WAV), SECONDS, ""),
    "wav behind zeros": (lambda: bytes(512) + encoded(WAV), SECONDS, ""),
    "flac after flac": (lambda: encoded(FLAC) + encoded(FLAC, 2.0), SECONDS + 2, ""),
    "flac cut": (lambda: encoded(FLAC)[: -len(encoded(FLAC)) // 20], 0.9 * SECONDS, "incomplete"),
    "mp3": (lambda: encoded(MP3), SECONDS, ""),
    "mp3 after mp3": (lambda: encoded(MP3) + encoded(MP3, 2.0), SECONDS + 2, ""),
    "mp3 after mp3 of another rate": (lambda: encoded(MP3) + encoded(MP3, 2.0, 44_100), SECONDS + 2, ""),
    "mp3 after mp3, a tag between": (lambda: encoded(MP3) + ID3 + encoded(MP3, 2.0), SECONDS + 2, ""),
    "mp3 without counts": (lambda: without_count(encoded(MP3)) + ID3 + without_count(encoded(MP3, 2.0)), 5.0, ""),
    "mp3 that lacks its second count": (lambda: encoded(MP3) + without_count(encoded(MP3, 2.0)), 5.0, "header"),
    "mp3 behind other things": (lambda: b"Dear reader!" * 9 + encoded(MP3), SECONDS, "incomplete"),
    "mp3 with a hole": (lambda: holed(without_count(encoded(MP3))), 0.95 * SECONDS, "incomplete"),
    "mp3 with its last frame cut": (lambda: encoded(MP3)[:-20], SECONDS - 0.04, "incomplete"),
    "opus": (lambda: encoded(OPUS), SECONDS, ""),
    "opus after vorbis": (lambda: encoded(VORBIS) + encoded(OPUS, 2.0), SECONDS + 2, ""),
    "opus after opus": (lambda: encoded(OPUS) + encoded(OPUS, 2.0), SECONDS + 2, ""),
    "opus without an end": (lambda: unmarked(encoded(OPUS)), SECONDS, "incomplete"),
    "vorbis without an end": (lambda: unmarked(encoded(VORBIS)), SECONDS, "incomplete"),
    "a second data chunk": (lambda: encoded(WAV) + chunk(b"data", encoded(WAV)[44:]), 2 * SECONDS, ""),
    "data, tags, data": (lambda: encoded(WAV) + TAGS + chunk(b"data", encoded(WAV)[44:]), 2 * SECONDS, ""),
    "wav, tags, wav": (lambda: encoded(WAV) + TAGS + encoded(WAV, 2.0), SECONDS + 2, ""),
    "rf64": (lambda: long_form(b"RF64", PCM), SECONDS, ""),
    "bw64": (lambda: long_form(b"BW64", PCM), SECONDS, ""),
    "bw64 after bw64": (lambda: long_form(b"BW64", PCM) * 2, 2 * SECONDS, ""),
    "bw64 a second short": (lambda: long_form(b"BW64", PCM - 32_000), SECONDS, "header"),
    "bw64 whose size is left at 0": (lambda: long_form(b"BW64", 0), SECONDS, ""),
    "rf64 whose size is left at 0": (lambda: long_form(b"RF64", 0), SECONDS, ""),
    "bw64 whose sizes come late": (lambda: long_form(b"BW64", PCM, chunk(b"JUNK", bytes(28))), SECONDS, ""),
    "rf64 whose sizes come late": (lambda: long_form(b"RF64", PCM, chunk(b"JUNK", bytes(28))), SECONDS, ""),
    "flac after wav": (lambda: encoded(WAV) + encoded(FLAC, 2.0), SECONDS + 2, ""),
    "mp3 after wav": (lambda: encoded(WAV) + encoded(MP3, 2.0), SECONDS + 2, ""),
    "mp3 after opus": (lambda: encoded(OPUS) + encoded(MP3, 2.0), SECONDS + 2, ""),
    "vorbis, its second link without a beginning": (
        lambda: encoded(VORBIS) + bos_damaged(encoded(VORBIS, 2.0)), SECONDS, "incomplete"),
    "vorbis, its first link without a beginning": (
        lambda: bos_damaged(encoded(VORBIS, 2.0)) + encoded(VORBIS), SECONDS, "incomplete"),
    "two opus tracks at once": (two_tracks, SECONDS, "incomplete"),
    "opus with junk behind": (lambda: encoded(OPUS) + b"junk" * 30, SECONDS, ""),
    "flac with its frames right behind its rate": (lambda: bare_flac(encoded(FLAC)), SECONDS, ""),
    "flac after such a flac": (lambda: bare_flac(encoded(FLAC)) + encoded(FLAC, 2.0), SECONDS + 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_there_is_heard_and_the_rest_is_said(name: str) -> None:
    make, seconds, code = WHOLE[name]
    content = make()
    found, said = heard(content)
    # What an mp3 encoder puts before and after the sound is left in where no header says how much it is.
    slack = 0.2 if name.startswith("mp3") else SECONDS - seconds if name == "flac cut" else 0.001
    assert seconds - 0.001 <= found <= seconds + slack
    assert set(said) == ({code} if code else set())
    assert duration_of(io.BytesIO(content)) == pytest.approx(found, abs=0.2 if slack > 0.01 else 0.001)


@pytest.mark.parametrize("kind", [WAV, MP3, OPUS, FLAC])
def test_above_the_share_a_cut_file_is_refused_with_its_seconds(kind: str) -> None:
    half = encoded(kind)[: len(encoded(kind)) // 2]
    if kind == OPUS:  # an Ogg file does not say how long it should be
        assert "incomplete" in heard(half)[1]
        return
    with pytest.raises(AudioError, match=r"of [23]\.\d\d s are missing") as caught:
        heard(half)
    assert caught.value.reason == "truncated"
    taken = load_audio(io.BytesIO(half), max_missing_share=0.6, warn=lambda code, message: None)
    assert len(taken) >= 1.2 * SAMPLE_RATE


def test_a_lost_page_is_said_with_its_place_and_seconds() -> None:
    whole = encoded(OPUS, 12.0)
    pages = [at for at in range(len(whole)) if whole[at : at + 5] == b"OggS\0"]
    for damaged in (whole[: pages[5]] + whole[pages[6] :], whole[: pages[5] + 99] + b"\xff" + whole[pages[5] + 100 :]):
        found, said = heard(damaged)
        assert found == pytest.approx(11.0, abs=0.05)
        assert re.search(r"1 pages at 2\.9\d s are .* \((0\.9|1\.0)\d* s\)", said["incomplete"])


def test_a_wav_beyond_4_gib_is_as_long_as_the_file() -> None:
    class Sparse(io.RawIOBase):
        """A wav of five gibibytes, of which only the header is written down."""

        head, size, place = sized(5 * 2**30, 100)[:44], 44 + 5 * 2**30, 0

        def readable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.place = offset + (0, self.place, self.size)[whence]
            return self.place

        def read(self, size: int = -1) -> bytes:
            part = self.head[self.place : self.place + size].ljust(max(0, min(size, self.size - self.place)), b"\1")
            self.place += len(part)
            return part

    layout = inspect(Sparse())  # type: ignore[arg-type]
    assert layout and layout.notes and sum(map(len, layout.parts[0].pieces)) > 5 * 2**30
    assert isinstance(layout.parts[0].pieces[0], bytes) and layout.parts[0].pieces[0].startswith(b"RF64")


@given(draw=st.data(), kind=st.sampled_from([WAV, MP3, OPUS, VORBIS, FLAC]))
@settings(max_examples=100, deadline=None)
def test_no_damage_shortens_a_recording_in_silence(draw: st.DataObject, kind: str) -> None:
    content = spoilt(encoded(kind), draw, 0 if kind in (OPUS, VORBIS) else 60)
    try:
        found, said = heard(content)
    except AudioError:
        return
    assert said or found > SECONDS - 0.05
