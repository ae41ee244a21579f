"""Every kind of recording that once failed, by name: heard whole, or with a warning, or refused with a reason."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.errors import AudioError
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from tests.speech.sound_files import (
    BEHIND,
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
    holed,
    of_kind,
    sized,
    speech_like,
    unmarked,
    without_count,
)

SHORT = 1.8
Make = Callable[[], bytes]


def pcm(container: str, subtype: str, *channels: np.ndarray, rate: int = SAMPLE_RATE, **more: str) -> bytes:
    stream = io.BytesIO()
    samples = np.stack(channels or (speech_like(SECONDS, rate),), axis=1)
    soundfile.write(stream, samples, rate, format=container, subtype=subtype, **more)
    return stream.getvalue()


def sphere() -> bytes:
    head = b"NIST_1A\n   1024\nsample_count -i 48000\nsample_rate -i 16000\nchannel_count -i 1\nsample_n_bytes -i 2\n"
    head += b"sample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s3 pcm\nend_head\n"
    return head.ljust(1024) + encoded(WAV)[44:]


def flac_of_unknown_length() -> bytes:
    whole = bytearray(encoded(FLAC))
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    return bytes(whole)


def counting_itself() -> bytes:
    """The count of an mp3 one too large."""
    whole = bytearray(encoded(MP3))
    at = max(whole.find(b"Xing"), whole.find(b"Info")) + 8
    whole[at : at + 4] = (int.from_bytes(whole[at : at + 4], "big") + 1).to_bytes(4, "big")
    return bytes(whole)


SUBTYPES = ("ALAW", "DOUBLE", "FLOAT", "G721_32", "GSM610", "IMA_ADPCM", "MS_ADPCM")
SUBTYPES += ("PCM_24", "PCM_32", "PCM_U8", "ULAW")
VOICE, OTHER = speech_like(SECONDS), speech_like(SECONDS, seed=1)
LIST = chunk(b"LIST", b"INFO" + bytes(9))
NO_M4A = b"\0\0\0\x1cftypM4A " + bytes(4) + b"\x01" * 4_000
HEARD: dict[str, tuple[Make, float, str]] = {  # how it is made, its seconds, what is said
    "00_plain.wav": (lambda: encoded(WAV), SECONDS, ""),
    "aiff.aiff": (lambda: pcm("AIFF", "PCM_16"), SECONDS, ""),
    "aiff_named.wav": (lambda: pcm("AIFF", "PCM_16"), SECONDS, ""),
    "amr.amr": (lambda: b"#!AMR\n" + (b"\x3c" + bytes(31)) * 125, 2.5, ""),
    "ape_tag.mp3": (lambda: encoded(MP3) + BEHIND["APE 2"], SECONDS, ""),
    "au.au": (lambda: pcm("AU", "PCM_16"), SECONDS, ""),
    "b.mp3": (lambda: encoded(MP3, SHORT), SHORT, ""),
    "caf.caf": (lambda: pcm("CAF", "PCM_16"), SECONDS, ""),
    "cbr.mp3": (lambda: encoded(MP3), SECONDS, ""),
    "chained_opus.ogg": (lambda: encoded(OPUS) + encoded(OPUS, SHORT), SECONDS + SHORT, ""),
    "concat.mp3": (lambda: encoded(MP3) + encoded(MP3, SHORT), SECONDS + SHORT, ""),
    "cut_last_frame.mp3": (lambda: encoded(MP3)[:-20], SECONDS, "incomplete"),
    "dc_offset.wav": (lambda: pcm("WAV", "PCM_16", VOICE + 0.3), SECONDS, ""),
    **{
        f"enc_{subtype}.wav": (lambda subtype=subtype: pcm("WAV", subtype), SECONDS, "")
        for subtype in [
            "ALAW",
            "DOUBLE",
            "FLOAT",
            "G721_32",
            "GSM610",
            "IMA_ADPCM",
            "MS_ADPCM",
            "PCM_24",
            "PCM_32",
            "PCM_U8",
            "ULAW",
        ]
    },
    "enc_NMS_ADPCM_16.wav": (lambda: pcm("WAV", "NMS_ADPCM_16", speech_like(SECONDS, 8_000), rate=8_000), SECONDS, ""),
    "flac.flac": (lambda: encoded(FLAC), SECONDS, ""),
    "flac_concat.flac": (lambda: encoded(FLAC) * 2, 2 * SECONDS, ""),
    "flac_cut.flac": (lambda: encoded(FLAC)[: -len(encoded(FLAC)) // 25], 0.93 * SECONDS, "incomplete"),
    "flac_id3.flac": (lambda: ID3 + encoded(FLAC), SECONDS, ""),
    "flac_named.wav": (lambda: encoded(FLAC), SECONDS, ""),
    "flac_total0.flac": (flac_of_unknown_length, SECONDS, ""),
    "float_int16scale.wav": (lambda: pcm("WAV", "FLOAT", 32_768 * VOICE), SECONDS, ""),
    "hdr_7ffff000_minus.wav": (lambda: sized(0x7FFF_F000 - 36), SECONDS, ""),
    "hdr_7fffffff.wav": (lambda: sized(0x7FFF_FFFF), SECONDS, ""),
    "hdr_80000000.wav": (lambda: sized(0x8000_0000), SECONDS, ""),
    "hdr_data_eq_riff.wav": (lambda: sized(PCM + 36), SECONDS, "incomplete"),
    "hdr_data_off_by_44.wav": (lambda: sized(PCM + 44), SECONDS, "incomplete"),
    "hdr_data_plus8.wav": (lambda: sized(PCM + 8), SECONDS, "incomplete"),
    "hdr_ffffffff.wav": (lambda: sized(-1), SECONDS, ""),
    "hdr_odd_list_nopad.wav": (lambda: before_data(chunk(b"LIST", b"INFO" + bytes(9), pad=False)), SECONDS, ""),
    "hdr_odd_list_pad.wav": (lambda: before_data(LIST), SECONDS, ""),
    "hdr_post_list.wav": (lambda: encoded(WAV) + LIST, SECONDS, ""),
    "hdr_riff0_dataok.wav": (lambda: sized(PCM, 0), SECONDS, ""),
    "hdr_short_1s.wav": (lambda: sized(32_000), SECONDS, "header"),
    "hdr_zero.wav": (lambda: sized(0, 0), SECONDS, ""),
    "id3_before.wav": (lambda: ID3 + encoded(WAV), SECONDS, ""),
    "id3_in_between.mp3": (lambda: encoded(MP3) + ID3 + encoded(MP3, SHORT), SECONDS + SHORT, ""),
    "id3v1.mp3": (lambda: encoded(MP3) + BEHIND["ID3v1"], SECONDS, ""),
    "id3v2_pad.mp3": (lambda: b"ID3\x04\0\0\0\0\x08\0" + bytes(1_024) + encoded(MP3), SECONDS, ""),
    "leading_garbage.mp3": (lambda: b"Dear reader!" * 3 + encoded(MP3), SECONDS, "incomplete"),
    "leading_zero.wav": (lambda: bytes(16) + encoded(WAV), SECONDS, ""),
    "noeos_live_opus.ogg": (lambda: unmarked(encoded(OPUS, 2.97)), 2.97, "incomplete"),
    "noeos_opus.ogg": (lambda: unmarked(encoded(OPUS)), SECONDS, "incomplete"),
    "noeos_untrimmed_opus.ogg": (lambda: unmarked(encoded(OPUS)), SECONDS, "incomplete"),
    "noxing.mp3": (lambda: without_count(encoded(MP3)), SECONDS, ""),
    "noxing_concat.mp3": (lambda: without_count(encoded(MP3)) * 2, 2 * SECONDS, ""),
    "noxing_concat_id3.mp3": (lambda: without_count(encoded(MP3)) + ID3 + without_count(encoded(MP3)), 2 * SECONDS, ""),
    "noxing_damaged_mid.mp3": (lambda: holed(without_count(encoded(MP3))), 0.95 * SECONDS, "incomplete"),
    "opus.ogg": (lambda: encoded(OPUS), SECONDS, ""),
    "opus.opus": (lambda: encoded(OPUS), SECONDS, ""),
    "opus2.ogg": (lambda: encoded(OPUS, SHORT), SHORT, ""),
    "quiet_1e-3.wav": (lambda: pcm("WAV", "PCM_16", 1e-3 * VOICE), SECONDS, ""),
    "quiet_float_1e-5.wav": (lambda: pcm("WAV", "FLOAT", 1e-5 * VOICE), SECONDS, ""),
    "r96k.wav": (lambda: encoded(WAV, rate=96_000), SECONDS, ""),
    "rf64.wav": (lambda: pcm("RF64", "PCM_16"), SECONDS, ""),
    "rifx_lower.WAV": (lambda: pcm("WAV", "PCM_16", endian="BIG"), SECONDS, ""),
    "sphere.wav": (sphere, SECONDS, ""),
    "stereo_left_only.wav": (lambda: pcm("WAV", "PCM_16", VOICE, 0 * VOICE), SECONDS, ""),
    "stereo_outofphase.wav": (lambda: pcm("WAV", "PCM_16", VOICE, -VOICE), SECONDS, "cancelled"),
    "stereo_outofphase_95.wav": (lambda: pcm("WAV", "PCM_16", VOICE, -0.95 * VOICE), SECONDS, "cancelled"),
    "stereo_outofphase_delay.wav": (lambda: pcm("WAV", "PCM_16", VOICE, -np.roll(VOICE, 1)), SECONDS, "cancelled"),
    "stereo_swb.wav": (lambda: pcm("WAV", "PCM_16", VOICE, VOICE), SECONDS, ""),
    "stereo_two_speakers.wav": (lambda: pcm("WAV", "PCM_16", VOICE, OTHER), SECONDS, ""),
    "surround51.wav": (lambda: pcm("WAV", "PCM_16", *(VOICE for _ in range(6))), SECONDS, ""),
    "trailing_junk_opus.ogg": (lambda: encoded(OPUS) + BEHIND["ID3v1"], SECONDS, ""),
    "trailing_junk_vorbis.ogg": (lambda: encoded(VORBIS) + BEHIND["ID3v1"], SECONDS, ""),
    "two_id3.mp3": (lambda: ID3 + ID3 + encoded(MP3), SECONDS, ""),
    "vorbis.ogg": (lambda: encoded(VORBIS), SECONDS, ""),
    "vorbis2.ogg": (lambda: encoded(VORBIS, SHORT), SHORT, ""),
    "w64.w64": (lambda: pcm("W64", "PCM_16"), SECONDS, ""),
    "wav_concat.wav": (lambda: encoded(WAV) * 2, 2 * SECONDS, ""),
    "wavex_24.wav": (lambda: pcm("WAVEX", "PCM_24"), SECONDS, ""),
    "xing_counts_itself.mp3": (counting_itself, SECONDS, ""),
    "whole.m4a": (lambda: of_kind("mp4"), 2.53, ""),
    "whole.webm": (lambda: of_kind("webm"), 2.5, ""),
    "whole.aac": (lambda: of_kind("adts"), 2.55, ""),
}
REFUSED: dict[str, tuple[bytes, str, str]] = {  # its bytes, the reason, what stands in the message
    "adts.aac": (bytes.fromhex("fff15080") + b"\x11" * 4_000, "truncated", "cannot be decoded"),
    "m4a.m4a": (NO_M4A, "not_audio", "ffmpeg -i"),
    "m4a_named.mp3": (NO_M4A, "not_audio", "ffmpeg -i"),
    "mp3_in_wav.wav": (b"", "empty", "0 bytes"),
    "webm.webm": (b"\x1aE\xdf\xa3" + b"\x01" * 4_000, "not_audio", "ffmpeg -i"),
}


@pytest.mark.parametrize("name", HEARD)
def test_a_recording_is_heard_whole_or_its_loss_is_said(name: str, tmp_path: Path) -> None:
    make, seconds, code = HEARD[name]
    (tmp_path / name).write_bytes(make())
    said: dict[str, str] = {}
    waveform = load_audio(tmp_path / name, warn=lambda code, message: said.update({code: message}))
    slack = 0.2 if "mp3" in name or "ADPCM" in name or "G721" in name or "GSM" in name or "cut" in name else 0.02
    assert len(waveform) / SAMPLE_RATE == pytest.approx(seconds, abs=slack)
    assert (set(said) == ({code} if code else set()) and np.abs(waveform).max() > 0) or name == "amr.amr"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_recording_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    content, reason, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError) as caught:
        load_audio(tmp_path / name)
    assert caught.value.reason == reason and message in str(caught.value) and name in str(caught.value)
