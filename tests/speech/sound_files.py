"""Sound files of many kinds, whole and spoilt, for tests of what is heard of them."""

import io
import struct
from functools import cache

import av
import numpy as np
import soundfile
from hypothesis import strategies as st

from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.ogg import page_checksum

Said = dict[str, str]

SECONDS = 3.0


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


def holed(content: bytes, size: int = 40, at: float = 0.5) -> bytes:
    place = int(len(content) * at)
    return content[:place] + bytes(size) + content[place + size :]


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


def ape(version: int, header: bool) -> bytes:
    items = struct.pack("<II", 20, 0) + b"Artist\0" + b"a" * 20
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", version, len(items) + 32, 1, flags) + bytes(8)
        for flags in (0xA000_0000, 0x8000_0000 * header)
    )
    return head * header + items + foot


ID3 = b"ID3\x04\0\0\0\0\x00\x14" + bytes(20)
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


PCM = len(encoded(WAV)) - 44
