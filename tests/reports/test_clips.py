"""Recordings inside a page: bounded, the same bytes each time, and never another recording than the one judged."""

import base64
import io
from pathlib import Path

import pytest
import soundfile

from mondegreen.files import sha256_file
from mondegreen.records import Utterance
from mondegreen.reports.page import embed, noise
from tests.reports.conftest import utterance, write_tone


@pytest.fixture
def three(tmp_path: Path) -> list[Utterance]:
    spoken = [utterance(number).model_copy(update={"path": f"data/a #{number}.wav"}) for number in range(3)]
    return [item.model_copy(update={"sha256": write_tone(tmp_path / item.path, 2.0)}) for item in spoken]


def test_what_is_embedded_is_the_recording(three: list[Utterance], tmp_path: Path) -> None:
    clip = embed(three, tmp_path, tmp_path, limit=1)[three[0].id]
    waveform, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.data.split(",", 1)[1])))
    assert rate == 16_000 and abs(len(waveform) / rate - 2.0) < 0.1
    assert abs(waveform).max() == pytest.approx(0.3, abs=0.03)


def test_it_is_encoded_to_the_same_bytes(three: list[Utterance], tmp_path: Path) -> None:
    assert embed(three, tmp_path, tmp_path, limit=3) == embed(three, tmp_path, tmp_path, limit=3)


def test_after_the_bound_on_bytes_come_links_that_lead_from_the_page(three: list[Utterance], tmp_path: Path) -> None:
    size = len(embed(three, tmp_path, tmp_path, limit=1)[three[0].id].data)
    clips = embed(three, tmp_path, tmp_path / "build" / "validate", limit=20, most_bytes=2 * size)
    assert [bool(clip.data) for clip in clips.values()] == [True, True, False]
    assert clips[three[2].id].link == "../../data/a%20%232.wav"


def test_a_recording_that_is_damaged_changed_or_gone_says_so(three: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / three[0].path).unlink()
    write_tone(tmp_path / three[1].path, 1.0)
    (tmp_path / three[2].path).write_bytes(b"RIFF")
    three[2] = three[2].model_copy(update={"sha256": sha256_file(tmp_path / three[2].path)})
    clips = [embed(three, tmp_path, tmp_path, limit=3)[item.id] for item in three]
    assert not any(clip.data or clip.link for clip in clips)
    assert "not there any more" in clips[0].problem and "changed since" in clips[1].problem and clips[2].problem


def test_noise_is_measured_where_it_can_be(three: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / three[0].path).unlink()
    assert list(noise(three, tmp_path)) == [three[1].id, three[2].id]
    assert noise(three * 200, tmp_path) == {}
