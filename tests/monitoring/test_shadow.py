"""Two models over the same recordings: what is counted as disagreement, and which recordings there are."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.monitoring.shadow import kept_recordings, newest, shadow
from mondegreen.monitoring.tracker import Inference, MetadataTracker
from mondegreen.records import Word
from mondegreen.scoring.wer import count_words
from mondegreen.speech.transcriber import Failure, Transcription

TEXTS = {
    "a": ("PLEASE HOLD THE LINE", "please hold the line"),  # only spelling
    "b": ("PLEASE HOLD THE LINE", "please old line"),
    "c": ("", ""),
    "d": ("THANK YOU", ""),
    "e": (None, "hello"),
}


class Model:
    """Hears what TEXTS say, faster when it is the candidate."""

    def __init__(self, name: str) -> None:
        self.side = 0 if name == "old" else 1
        self.digest = name * 16

    def transcribe_many(self, paths: Iterable[str | Path]) -> Iterator[Transcription | Failure]:
        for path in map(Path, paths):
            text = TEXTS[path.stem][self.side]
            if text is None:
                yield Failure(path=str(path), error="damaged", reason="damaged")
                continue
            words = [Word(text=word, start=n, end=n + 0.4, confidence=0.9) for n, word in enumerate(text.split())]
            yield Transcription(
                path=str(path), text=text, confidence=0.9, duration=4.0, words=words, nbest=[],
                real_time_factor=(0.2, 0.1)[self.side], model=self.digest,
            )  # fmt: skip


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    draw = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.wav" for name in TEXTS]
    for path in paths:
        soundfile.write(path, draw.normal(0, 0.1, 16_000), 16_000)
    return paths


def compare(recordings: list[Path], folder: Path, **more: object):  # type: ignore[no-untyped-def]
    strict = Params.model_validate({"detector": {"threshold": 1.0}})  # only what is empty is misheard
    return shadow(recordings, "old", "new", Model, strict, folder / "detector", **more)  # type: ignore[arg-type]


def test_disagreement_is_counted_over_normalised_words_of_the_champion(recordings: list[Path], tmp_path: Path) -> None:
    done: list[int] = []
    found = compare(recordings, tmp_path, missing=3, on_progress=done.append)
    assert (found.recordings, found.failed, found.missing, found.audio_seconds) == (4, 1, 3, 16.0)
    assert found.disagreement is not None
    assert found.disagreement.errors == 4 and found.disagreement.reference_length == 10
    assert (found.changed, found.share_changed) == (2, 0.5)
    assert found.changed_interval is not None and found.changed_interval.low < 0.5 < found.changed_interval.high
    assert [Path(example.path).stem for example in found.examples] == ["b", "d"]
    assert found.examples[0].errors == count_words("please hold the line", "please old line").errors
    assert (found.champion.heard, found.candidate.heard) == (4, 5)
    assert (found.champion.empty, found.candidate.empty) == (1, 2)
    assert found.champion.real_time_factor == pytest.approx(0.2)
    assert found.candidate.real_time_factor == pytest.approx(0.1)
    assert (found.champion.errors, found.candidate.errors) == (1, 2)
    assert (found.only_champion_misheard, found.only_candidate_misheard) == (0, 1)
    # Neither detector knows its model: what they flag is a number of transcripts, and no share of misheard ones.
    assert found.p_value is found.champion.error_rate is found.candidate.error_rate is None
    assert "not calibrated for old and new" in found.notes[-1]
    assert done == list(range(1, 11))


def test_a_model_agrees_with_itself(recordings: list[Path], tmp_path: Path) -> None:
    found = shadow(recordings[:3], "old", "old", Model, Params(), tmp_path / "detector")  # type: ignore[arg-type]
    assert found.changed == 0 and found.p_value is None and found.examples == ()
    assert found.disagreement is not None and found.disagreement.errors == 0


def test_where_the_champion_hears_no_word_there_is_no_rate(recordings: list[Path], tmp_path: Path) -> None:
    found = compare([recordings[2]], tmp_path)
    assert found.disagreement is None and found.share_changed == 0.0


def test_without_recordings_it_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="transcribe --log"):
        compare([], tmp_path)


def test_of_recordings_that_are_named_the_newest_are_those_that_were_written_last(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.wav" for name in "abc"]
    for age, file in zip((9, 1, 5), files, strict=True):
        file.write_bytes(b"")
        os.utime(file, (1e9 - age, 1e9 - age))
    a, b, c = files
    assert newest(iter(files), 2) == [b, c] and newest(files, 9) == [b, c, a] and newest(files, None) == files
    gone = tmp_path / "gone.wav"
    assert newest([*files, gone], 2) == [gone, b]  # who hears it says that it is not there


def test_the_audio_that_the_service_kept_is_found_newest_first(recordings: list[Path], tmp_path: Path) -> None:
    manager = DataManager(tmp_path / "var")
    now = datetime.now(UTC)
    heard = [
        Inference(
            audio_path=path, transcript="x", model_version="m", duration=1.0, latency=0.1, is_error=index != 3,
            at=now - timedelta(days=index * 3),
        )
        for index, path in enumerate(recordings)
    ]  # fmt: skip
    MetadataTracker(data_manager=manager).log_inferences(heard)
    with_cases = {manager.audio_path(case).read_bytes() for case in manager.find_cases().cases}
    assert len(with_cases) == 4
    found, missing = kept_recordings(manager.engine, manager.blobs, None)
    assert missing == 1 and {path.read_bytes() for path in found} == with_cases
    # Cases were first seen just now, whatever an inference's clock said.
    assert len(kept_recordings(manager.engine, manager.blobs, now - timedelta(minutes=5))[0]) == 4
    assert len(kept_recordings(manager.engine, manager.blobs, None, limit=2)[0]) == 2
    assert kept_recordings(manager.engine, manager.blobs, now + timedelta(days=1)) == ([], 0)
    manager.close()
