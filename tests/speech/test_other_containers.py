"""Files of other kinds, several in one, tags behind them: heard whole, or with a warning, or refused with a reason."""

import io
import re

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import AudioError
from mondegreen.speech.audio import SAMPLE_RATE, duration_of, load_audio
from tests.speech.sound_files import (
    BEHIND,
    ELSEWHERE,
    encoded,
    encoded_by_ffmpeg,
    heard,
    holed,
    of_kind,
    speech_like,
    spoilt,
)


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


@pytest.mark.parametrize(("seconds", "rate"), [(2.003, 16_000), (2.003, 8_000), (0.3, 8_000)])
def test_the_last_packet_of_alac_in_caf_is_heard_whole(seconds: float, rate: int) -> None:
    found, said = heard(encoded("CAF ALAC_16", seconds, rate))
    assert not said and found == pytest.approx(seconds, abs=0.001)


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


@pytest.mark.parametrize("tag", BEHIND)
@pytest.mark.parametrize("kind", ["mp3", "wav", "opus", "flac", "mp2", "adts", "mp4"])
def test_a_players_tags_behind_a_file_are_neither_sound_nor_damage(kind: str, tag: str) -> None:
    assert heard(of_kind(kind) + BEHIND[tag]) == heard(of_kind(kind))


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


def test_a_hole_in_bare_frames_is_said_though_ffmpeg_steps_over_it() -> None:
    found, said = heard(holed(encoded_by_ffmpeg("adts", "aac", 22_050), 900))
    assert found < 2.5 and "are no frame of it" in said["incomplete"]
