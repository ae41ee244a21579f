"""Recordings with two channels over HTTP: `audio.channel` says what is heard, as for `mondegreen transcribe`."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from mondegreen.config import AudioParams, AuditParams, Channel, Params
from mondegreen.db import open_database, reading
from mondegreen.speech.audio import named_channels
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.tables import CaseRow
from tests.serving.conftest import noise, running, settings, until
from tests.serving.test_serving import post, stored

WORDS = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}


def stereo() -> bytes:
    """Two noises, the second one later and longer."""
    first, second = (soundfile.read(io.BytesIO(noise(2.0, seed)))[0] for seed in (1, 2))
    stream = io.BytesIO()
    soundfile.write(stream, np.stack([first, second], axis=1), 16_000, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def hears(channel: Channel) -> Params:
    return settings().model_copy(update={"audio": AudioParams(channel=channel)})


def alone(model: Path, channel: Channel, folder: Path) -> list[Any]:
    path = folder / "call.wav"
    path.write_bytes(stereo())
    return [BaselineSTTModel(str(model)).transcribe(name) for name in named_channels(path, channel)]


@pytest.mark.parametrize("channel", ["mix", "first", "second"])
def test_one_channel_or_the_mix_is_heard_as_transcribe_hears_it(
    deployed: Path, models: list[Path], tmp_path: Path, channel: Channel
) -> None:
    (expected,) = alone(models[0], channel, tmp_path)
    with running(hears(channel)) as url:
        answer = post(url, stereo(), fields={**WORDS, "channel": "agent"}).json()
        assert post(url, noise(0.5)).status_code == 200  # one channel is heard as it is
    assert answer["text"] == expected.text and "channels" not in answer and "channel" not in answer["words"][0]
    (row,) = [row for row in stored() if row.channel]
    digest = hashlib.sha256(stereo()).hexdigest()
    assert (row.channel, row.recording) == ("agent", None if channel == "mix" else digest)


def test_each_channel_is_heard_by_itself_and_is_an_inference_of_its_own(
    deployed: Path, models: list[Path], tmp_path: Path
) -> None:
    expected = alone(models[0], "split", tmp_path)
    params = hears("split").model_copy(update={"audit": AuditParams(rate=1, factors=(1, 1, 1, 1))})
    with running(params) as url:
        answer = post(url, stereo(), fields=WORDS)
        srt = post(url, stereo(), fields={"response_format": "srt"}).text
        refused = post(url, stereo(), fields={"channel": "agent"})
        mono = post(url, noise(0.5), fields={"channel": "agent"})
        until(lambda: len(stored()) == 5)
    found = answer.json()
    assert found["text"] == "\n".join(one.text for one in expected)
    assert [(one["channel"], one["text"]) for one in found["channels"]] == [
        (number, one.text) for number, one in enumerate(expected, 1)
    ]
    for number, one in enumerate(expected, 1):
        assert [word["word"] for word in found["words"] if word["channel"] == number] == one.text.split()
    assert [word["start"] for word in found["words"]] == sorted(word["start"] for word in found["words"])
    assert "\n[1] " in srt and "\n[2] " in srt
    assert refused.status_code == 400 and "has 2, and each is heard by itself" in refused.json()["error"]["message"]
    assert mono.json()["text"] and "channels" not in mono.json()
    request, digest = answer.headers["x-request-id"], hashlib.sha256(stereo()).hexdigest()
    mine = {row.request_id: row for row in stored() if row.request_id.startswith(request)}
    assert sorted(mine) == [request, f"{request}#2"]
    for number, row in enumerate((mine[request], mine[f"{request}#2"]), 1):
        assert (row.channel, row.recording) == (str(number), digest)
        assert row.audio_sha256 == hashlib.sha256(f"{digest}#{number}".encode()).hexdigest()
    with reading(open_database(Path("var"))) as session:  # what is kept for people is the channel that was heard
        case = session.scalars(select(CaseRow).where(CaseRow.id == mine[f"{request}#2"].audit_id)).one()
    assert case.original_transcript == expected[1].text
    assert not list(Path("var/serve").rglob("*.wav"))
