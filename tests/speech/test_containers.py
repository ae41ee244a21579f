"""Files as recorders, players and crashes leave them: heard whole, or with a warning, or refused with a reason."""

import io
import re
import struct
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import AudioError
from mondegreen.speech.audio import SAMPLE_RATE, duration_of, load_audio, named_channels
from mondegreen.speech.containers import inspect
from mondegreen.speech.ogg import page_checksum

Said = dict[str, str]
SECONDS = 3.0
ID3 = b"ID3\x04\0\0\0\0\x00\x14" + bytes(20)


def speech_like(seconds: float, rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    """Noise in syllables: encoders cannot make nothing of it, and every frame of it is unlike the others."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    return (noise * (0.2 + np.sin(2 * np.pi * 3 * time) ** 2)).astype(np.float32)


@cache
def encoded(kind: str, seconds: float = SECONDS, rate: int = SAMPLE_RATE, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    container, subtype = kind.split()
    soundfile.write(stream, speech_like(seconds, rate, seed), rate, format=container, subtype=subtype)
    return stream.getvalue()


WAV, FLAC, MP3 = "WAV PCM_16", "FLAC PCM_16", "MP3 MPEG_LAYER_III"
OPUS, VORBIS = "OGG OPUS", "OGG VORBIS"


def heard(content: bytes) -> tuple[float, Said]:
    said: Said = {}
    waveform = load_audio(io.BytesIO(content), warn=lambda code, message: said.update({code: message}))
    assert np.isfinite(waveform).all()
    return len(waveform) / SAMPLE_RATE, said


def sized(data: int, riff: int | None = None) -> bytes:
    """The wav with another size in its header."""
    whole = encoded(WAV)
    return whole[:4] + struct.pack("<I", (data if riff is None else riff) & 0xFFFFFFFF) + whole[8:40] + struct.pack(
        "<I", data & 0xFFFFFFFF
    ) + whole[44:]  # fmt: skip


def chunk(name: bytes, content: bytes, pad: bool = True) -> bytes:
    return name + struct.pack("<I", len(content)) + content + (b"\0" if len(content) % 2 and pad else b"")


def before_data(more: bytes) -> bytes:
    whole = encoded(WAV)
    return whole[:36] + more + whole[36:]


def without_count(content: bytes) -> bytes:
    return content[content.index(content[:2], 4) :]


def unmarked(content: bytes) -> bytes:
    """An Ogg file whose last page is not marked as the end."""
    at = content.rindex(b"OggS")
    page = bytearray(content[at:])
    page[5] &= ~4 & 0xFF
    page[22:26] = page_checksum(bytes(page))
    return content[:at] + bytes(page)


def holed(content: bytes, size: int = 40, at: float = 0.5) -> bytes:
    place = int(len(content) * at)
    return content[:place] + bytes(size) + content[place + size :]


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


PCM = len(encoded(WAV)) - 44
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


# What phones, browsers, dictaphones and Windows write.
ELSEWHERE = [
    (kind, codec, int(rate))
    for kind, codec, rate in map(
        str.split,
        """
        mp4 aac 44100
        ipod aac 16000
        mov aac 48000
        adts aac 22050
        mpegts aac 44100
        webm libopus 48000
        ogg libopus 48000
        matroska pcm_s16le 16000
        asf wmav2 44100
        amr libopencore_amrnb 8000
        mp3 libmp3lame 44100
        mp2 mp2 44100
        aiff pcm_s16be 44100
        au pcm_s16be 8000
        caf pcm_s16be 16000
        w64 pcm_s16le 16000
        flac flac 16000
        wav pcm_s24le 48000
        wav pcm_alaw 8000
        wav adpcm_ima_wav 22050
        avi pcm_s16le 16000
        flv aac 44100
        tta tta 16000
        voc pcm_s16le 16000
        sox pcm_s32le 16000
        wv wavpack 16000
        nut pcm_s16le 16000
        """.strip().splitlines(),
    )
]


@cache
def encoded_by_ffmpeg(kind: str, codec: str, rate: int, seconds: float = 2.5) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=kind) as out:
        track = out.add_stream(codec, rate=rate, layout="mono")
        samples = (speech_like(seconds, rate) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        if kind == "oga":  # its last packet needs a time
            frame.pts = 0
        track.bit_rate = 48_000 if codec != "libopencore_amrnb" else 12_200
        wanted = track.codec_context.format
        resampler = av.AudioResampler(wanted, "mono", rate, frame_size=track.codec_context.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(track.encode(piece))
        out.mux(track.encode(None))
    return stream.getvalue()


def ffmpeg_seconds(content: bytes) -> float:
    with av.open(io.BytesIO(content)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


@pytest.mark.parametrize("kind, codec, rate", ELSEWHERE)
def test_a_file_is_as_long_as_ffmpeg_finds_it(kind: str, codec: str, rate: int) -> None:
    content = encoded_by_ffmpeg(kind, codec, rate)
    found, said = heard(content)
    assert not said
    assert abs(found - ffmpeg_seconds(content)) < 0.05 and abs(found - 2.5) < 0.15


@pytest.mark.parametrize(
    "kind, codec, rate", [("mp4", "aac", 44_100), ("webm", "libopus", 48_000), ("aiff", "pcm_s16be", 44_100)]
)
def test_other_containers_that_are_cut_are_refused_or_said(kind: str, codec: str, rate: int) -> None:
    content = encoded_by_ffmpeg(kind, codec, rate)
    for share in (0.5, 0.93, 0.99):
        try:
            found, said = heard(content[: int(share * len(content))])
        except AudioError as error:
            assert error.reason in ("truncated", "not_audio")
        else:
            assert "incomplete" in said or abs(found - ffmpeg_seconds(content)) < 0.05


def sphere(seconds: float) -> bytes:
    samples = encoded(WAV, seconds)[44:]
    head = f"NIST_1A\n   1024\nsample_count -i {len(samples) // 2}\nsample_rate -i 16000\nchannel_count -i 1\n"
    head += "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s3 pcm\nend_head\n"
    return head.encode().ljust(1024) + samples


def of_kind(kind: str, seconds: float = 2.5) -> bytes:
    if kind == "sphere":
        return sphere(seconds)
    own = {"wav": WAV, "flac": FLAC, "mp3": MP3, "opus": OPUS}
    if kind in own:
        return encoded(own[kind], seconds)
    return encoded_by_ffmpeg(*next(one for one in ELSEWHERE if one[0] == kind), seconds)


OTHERS = ("mp4", "mov", "aiff", "asf", "caf", "w64", "amr", "webm", "au", "sphere")
OTHERS += ("avi", "flv", "tta", "voc", "sox", "wv", "nut")


@pytest.mark.parametrize(
    "kinds",
    [*((kind, kind) for kind in OTHERS), *((kind, "mp4") for kind in ("wav", "mp3", "opus")),
     *(("mp4", kind) for kind in ("wav", "mp3", "opus", "flac")), ("wav", "amr"), ("aiff", "mp4", "wav")],
    ids="+".join,
)  # fmt: skip
def test_files_of_any_kind_one_after_the_other_are_all_heard(kinds: tuple[str, ...]) -> None:
    files = [of_kind(kind, 2.5 - 0.5 * number) for number, kind in enumerate(kinds)]
    found, said = heard(b"".join(files))
    assert not said and found == pytest.approx(sum(heard(file)[0] for file in files), abs=0.01)
    assert duration_of(io.BytesIO(b"".join(files))) == pytest.approx(found, abs=0.01)


@pytest.mark.parametrize("kind", ["aiff", "au", "caf", "w64", "sphere"])
def test_whether_the_extra_is_installed_changes_nothing_that_is_heard_without_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = of_kind(kind)
    files = [content, content + of_kind(kind, 2.0), content + BEHIND["ID3v1"], of_kind("wav") + content]
    with_it = [load_audio(io.BytesIO(file)) for file in files]
    monkeypatch.setattr("mondegreen.speech.foreign.installed", lambda: False)
    for waveform, file in zip(with_it, files, strict=True):
        assert np.array_equal(load_audio(io.BytesIO(file)), waveform)


def test_the_last_chunk_of_a_wave64_file_may_lack_its_padding() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, speech_like(2001 / SAMPLE_RATE), SAMPLE_RATE, format="W64", subtype="PCM_16")
    assert len(stream.getvalue()) % 8 and heard(stream.getvalue()) == (2001 / SAMPLE_RATE, {})


def test_what_stands_behind_a_file_and_is_no_sound_is_said() -> None:
    assert "5000 bytes behind its end" in heard(of_kind("aiff") + b"\1" * 5_000)[1]["incomplete"]
    found, said = heard(of_kind("wav") + of_kind("mp4")[:500])
    assert found == 2.5 and "a part at 2.50 s cannot be decoded" in said["incomplete"]


@pytest.mark.parametrize(
    ("kind", "at", "size"), [("aiff", 4, 4), ("w64", 16, 8), ("asf", 16, 8), ("caf", 12, 8), ("mp4", 0, 4)]
)
@pytest.mark.parametrize("value", [0, 1, 25, 2**31 - 1])
def test_a_size_that_is_wrong_ends_no_search_and_loses_nothing_in_silence(
    kind: str, at: int, size: int, value: int
) -> None:
    content = of_kind(kind)
    spoilt = content[:at] + value.to_bytes(size, "little" if kind in ("w64", "asf") else "big") + content[at + size :]
    try:
        found, said = heard(spoilt)
    except AudioError:
        return
    assert said or found > 2.45


@pytest.mark.parametrize("kind", ["caf", "w64", "aiff", "au", "webm", "avi", "flv", "voc", "sox", "sphere"])
def test_an_end_that_is_missing_is_said_and_above_the_share_refused(kind: str) -> None:
    content = of_kind(kind)
    found, said = heard(content[: -len(content) // 20])
    assert 2.3 < found < 2.45 and re.search(r"\(0\.[01]\d\d s\)", said["incomplete"])
    if kind != "voc":  # of which each block says its own length alone
        with pytest.raises(AudioError, match=r"of 2\.\d\d s are missing"):
            heard(content[: len(content) * 6 // 10])


def test_a_codec_whose_header_has_no_bytes_a_second_is_refused_above_the_share_all_the_same() -> None:
    content = encoded_by_ffmpeg("wav", "adpcm_ima_wav", 22_050)
    silent = content[:28] + bytes(4) + content[32:]
    with pytest.raises(AudioError, match="are missing"):
        heard(silent[: len(silent) // 2])


def test_damage_of_flac_in_ogg_has_its_place_and_seconds() -> None:
    content = encoded_by_ffmpeg("oga", "flac", 16_000)
    said = heard(content[: len(content) * 95 // 100])[1]["incomplete"]
    assert "it breaks off at 2.02 s" in said


def ape(version: int, header: bool) -> bytes:
    items = struct.pack("<II", 20, 0) + b"Artist\0" + b"a" * 20
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", version, len(items) + 32, 1, flags) + bytes(8)
        for flags in (0xA000_0000, 0x8000_0000 * header)
    )
    return head * header + items + foot


LYRICS = b"LYRICSBEGINLYR00010hello word"
BEHIND: dict[str, bytes] = {
    "ID3v1": b"TAG" + b"x" * 125,
    "ID3v1 and its enhancement": b"TAG+" + b"y" * 223 + b"TAG" + b"x" * 125,
    "ID3v2 with a footer": b"ID3\x04\0\x10\0\0\0\x14" + bytes(20) + b"3DI\x04\0\x10\0\0\0\x14",
    "APE 1": ape(1000, header=False),
    "APE 2": ape(2000, header=True),
    "APE 2 whose footer promises a header": ape(2000, header=True)[32:],
    "APE 2 without a header, ID3v1": ape(2000, header=False) + b"TAG" + b"x" * 125,
    "Lyrics3": LYRICS + b"%06dLYRICS200" % len(LYRICS),
}


@pytest.mark.parametrize("tag", BEHIND)
@pytest.mark.parametrize("kind", ["mp3", "wav", "opus", "flac", "mp2", "adts", "mp4"])
def test_a_players_tags_behind_a_file_are_neither_sound_nor_damage(kind: str, tag: str) -> None:
    assert heard(of_kind(kind) + BEHIND[tag]) == heard(of_kind(kind))


def spoilt(content: bytes, draw: st.DataObject, header: int) -> bytes:
    """Bytes changed, zeroed, taken out or put in, behind the header (which says rate and channels: nobody can know)."""
    spoilt = bytearray(content)
    for _ in range(draw.draw(st.integers(1, 3))):
        place, length = draw.draw(st.integers(header, len(spoilt) - 1)), draw.draw(st.integers(1, 3_000))
        match draw.draw(st.sampled_from(["flip", "zero", "cut", "end", "insert"])):
            case "flip":
                spoilt[place] ^= 1 << draw.draw(st.integers(0, 7))
            case "zero":
                spoilt[place : place + length] = bytes(len(spoilt[place : place + length]))
            case "cut":
                del spoilt[place : place + length]
            case "end":
                del spoilt[max(place, len(spoilt) - length) :]
            case "insert":
                spoilt[place:place] = draw.draw(st.binary(min_size=1, max_size=50))
    return bytes(spoilt)


@given(draw=st.data(), kind=st.sampled_from([WAV, MP3, OPUS, VORBIS, FLAC]))
@settings(max_examples=100, deadline=None)
def test_no_damage_shortens_a_recording_in_silence(draw: st.DataObject, kind: str) -> None:
    content = spoilt(encoded(kind), draw, 0 if kind in (OPUS, VORBIS) else 60)
    try:
        found, said = heard(content)
    except AudioError:
        return
    assert said or found > SECONDS - 0.05


@given(draw=st.data(), one=st.sampled_from(ELSEWHERE))
@settings(max_examples=100, deadline=None, derandomize=True)  # one in thousands changes the rate
def test_no_damage_of_other_containers_shortens_them_in_silence(draw: st.DataObject, one: tuple[str, str, int]) -> None:
    whole = encoded_by_ffmpeg(*one)
    content = spoilt(whole, draw, 0)
    try:
        found, said = heard(content)
    except AudioError as error:
        assert error.next_step
        return
    aligned = one[0] == "amr" and (len(whole) - len(content)) % 32 == 0  # frames are alike: nobody can know
    assert said or aligned or found > heard(whole)[0] - 0.05


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


def test_a_hole_in_bare_frames_is_said_though_ffmpeg_steps_over_it() -> None:
    found, said = heard(holed(encoded_by_ffmpeg("adts", "aac", 22_050), 900))
    assert found < 2.5 and "are no frame of it" in said["incomplete"]
