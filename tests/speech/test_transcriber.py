"""BaselineSTTModel: one way in, the same text by every door."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.errors import AudioError, UsageError
from mondegreen.scoring.phrases import PHRASES_FILE, PhraseList, list_of, write_phrases
from mondegreen.speech.audio import load_audio
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription, load
from tests.tiny import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> BaselineSTTModel:
    return BaselineSTTModel(str(folder))


def _noise(path: Path, seconds: float, seed: int, rate: int = 16_000) -> Path:
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.uniform(0, 0.5, int(seconds * 10) + 1), rate // 10)[: int(seconds * rate)]
    soundfile.write(path, envelope * rng.standard_normal(len(envelope)), rate)
    return path


def test_a_result_has_everything_the_guide_names(model: BaselineSTTModel, tmp_path: Path) -> None:
    result = model.transcribe(_noise(tmp_path / "a.wav", 2.5, 1))
    assert result.duration == pytest.approx(2.5)
    assert result.text == " ".join(word.text for word in result.words) and result.text
    assert all(0 <= word.start < word.end <= 2.5 and 0 <= word.confidence <= 1 for word in result.words)
    assert 1 <= len(result.nbest) <= 5 and result.nbest == sorted(result.nbest, key=lambda item: -item.score)
    assert 0 < result.confidence <= 1 and result.real_time_factor > 0 and len(result.model) == 64


def test_every_door_gives_the_same_text(folder: Path, model: BaselineSTTModel, tmp_path: Path) -> None:
    paths = [_noise(tmp_path / f"{i}.wav", 0.6 + i / 3, i) for i in range(6)]
    alone = [model.transcribe(path).text for path in paths]
    assert [item.text for item in model.transcribe_many(paths)] == alone
    assert [item.text for item in model.transcribe_waveforms([load_audio(path) for path in paths])] == alone
    assert [model.transcribe_bytes(path.read_bytes()).text for path in paths] == alone
    assert [load(str(folder)).transcribe(path).text for path in paths] == alone
    assert [item.text for item in BaselineSTTModel(str(folder), batch_seconds=1.0).transcribe_many(paths)] == alone


def test_a_bad_file_is_named_and_the_rest_go_on_in_order(model: BaselineSTTModel, tmp_path: Path) -> None:
    good = [_noise(tmp_path / f"{i}.wav", 1.0, i) for i in range(2)]
    (tmp_path / "bad.wav").write_text("not audio")
    paths = [good[0], tmp_path / "bad.wav", tmp_path / "gone.wav", good[1]]
    results = list(model.transcribe_many(paths))
    assert [item.path for item in results] == [str(path) for path in paths]
    assert [getattr(item, "reason", "") for item in results] == ["", "not_audio", "missing", ""]
    assert isinstance(results[1], Failure) and "bad.wav" in results[1].error
    with pytest.raises(AudioError, match=r"gone\.wav"):
        model.transcribe(tmp_path / "gone.wav")


def test_a_long_recording_is_taken_in_windows(folder: Path, tmp_path: Path) -> None:
    long = _noise(tmp_path / "long.wav", 70, 3, rate=8_000)
    result = BaselineSTTModel(str(folder), max_duration=30.0).transcribe(long)
    assert result.duration == pytest.approx(70)
    starts = [word.start for word in result.words]
    assert starts == sorted(starts) and max(word.end for word in result.words) > 60
    assert result.nbest == []


def test_a_long_recording_without_gaps_between_words_has_none_at_its_joins(folder: Path, tmp_path: Path) -> None:
    model = BaselineSTTModel(str(folder), max_duration=30.0, runtime="torch")
    model.model = replace(model.model, vocabulary=replace(model.model.vocabulary, delimiter=""))
    result = model.transcribe(_noise(tmp_path / "long.wav", 70, 3, rate=8_000))
    assert result.text and " " not in result.text
    assert "".join(word.text for word in result.words) == result.text
    assert len(result.words) > 1 and all(word.end - word.start <= 24 for word in result.words)


def test_a_long_recording_ends_at_the_next_window_when_it_is_told_so(folder: Path, tmp_path: Path) -> None:
    starts: list[float] = []

    def enough(start: float, length: float) -> None:
        assert length == 70
        starts.append(start)
        if start >= 20:
            raise InterruptedError

    model = BaselineSTTModel(str(folder), max_duration=30.0)
    long = _noise(tmp_path / "long.wav", 70, 3, rate=8_000)
    with pytest.raises(InterruptedError):
        model.telling(enough).transcribe(long)
    assert starts == [0, 20]
    assert model.transcribe(long).text


def test_long_recordings_are_given_one_by_one(folder: Path, tmp_path: Path) -> None:
    begun: list[float] = []
    model = BaselineSTTModel(str(folder), max_duration=5.0).telling(lambda start, length: begun.append(length))
    lengths = (6, 7, 1, 8, 2)
    results = model.transcribe_many([_noise(tmp_path / f"{n}.wav", n, n, rate=8_000) for n in lengths])
    assert next(results).duration == 6 and begun == [6]  # type: ignore[union-attr]
    assert next(results).duration == 7 and begun == [6, 7]  # type: ignore[union-attr]
    assert [Path(result.path).stem for result in results] == ["1", "8", "2"]


def test_cached_features_change_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [_noise(tmp_path / f"{i}.wav", 1.0 + i / 2, i) for i in range(3)]
    fresh = [
        item.model_dump(exclude={"real_time_factor"}) for item in BaselineSTTModel(str(folder)).transcribe_many(paths)
    ]
    for expected_hits in (0, 3):
        model = BaselineSTTModel(str(folder), cached=True)
        results = [item for item in model.transcribe_many(paths) if isinstance(item, Transcription)]
        assert [item.model_dump(exclude={"real_time_factor"}) for item in results] == fresh
        assert model.cache.hits == expected_hits


def test_of_a_damaged_recording_cached_features_hide_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = _noise(tmp_path / "whole.flac", 5.0, 1, rate=22_050).read_bytes()
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole[: int(len(whole) * 0.96)])

    def hears(**settings: float) -> Transcription | Failure:
        model = BaselineSTTModel(str(folder), cached=True, runtime="torch", **settings)
        return next(model.transcribe_many([cut]))

    cold, warm = hears(), hears()
    assert isinstance(cold, Transcription) and cold.warnings and cold.duration < 4.9
    assert warm.model_dump(exclude={"real_time_factor"}) == cold.model_dump(exclude={"real_time_factor"})
    refused = hears(max_missing_share=0.01)
    assert isinstance(refused, Failure) and refused.reason == "truncated"


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "/no/where", "a/b/c"])
def test_a_wrong_name_says_what_a_name_may_be(name: str) -> None:
    with pytest.raises(UsageError, match="hub name"):
        BaselineSTTModel(name)


def test_a_pretrained_model_without_a_head_is_refused(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Model

    folder = save_model(tmp_path / "headless")
    Wav2Vec2Model.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(UsageError, match="CTC head"):
        BaselineSTTModel(str(folder))


def test_phrases_are_heard_by_every_door_in_any_batch_and_in_windows(
    folder: Path, model: BaselineSTTModel, tmp_path: Path
) -> None:
    paths = [_noise(tmp_path / f"{i}.wav", 0.6 + i / 3, i) for i in range(5)]
    first = model.transcribe(paths[2]).text.split()[0]
    listed = list_of([{"phrase": "what he said", "sounds_like": first, "case": "keep"}], "the test", 0.5)
    alone = BaselineSTTModel(str(folder), phrases=listed)
    one_by_one = [alone.transcribe(path) for path in paths]
    assert one_by_one[2].text.startswith("what he said") and one_by_one[2].words[0].text == "what"
    for seconds in (1.0, 60.0):
        together = BaselineSTTModel(str(folder), batch_seconds=seconds, phrases=listed).transcribe_many(paths)
        for found, expected in zip(together, one_by_one, strict=True):
            assert isinstance(found, Transcription) and found.text == expected.text
    no_list = BaselineSTTModel(str(folder), nbest=0, phrases=listed).transcribe(paths[2])
    assert no_list.text == one_by_one[2].text and no_list.nbest == []
    windows = BaselineSTTModel(str(folder), max_duration=1.0, phrases=listed).transcribe(paths[2])
    assert "what he said" in windows.text


def test_a_list_in_the_folder_is_a_part_of_the_model_and_of_its_digest(
    folder: Path, model: BaselineSTTModel, tmp_path: Path
) -> None:
    listed = list_of(["Zustand"], "the test")
    named = BaselineSTTModel(str(folder), phrases=listed)
    with_list = shutil.copytree(folder, tmp_path / "with")
    write_phrases(with_list / PHRASES_FILE, listed)
    own = BaselineSTTModel(str(with_list))
    assert own.phrases == listed and own.boost
    assert own.digest == named.digest == model_digest(with_list) != model.digest == model_digest(folder)
    assert own.model.weights == model.model.weights
    for nothing in (PhraseList(), listed.at(0.0)):
        off = BaselineSTTModel(str(with_list), phrases=nothing)
        assert off.boost is None and off.digest == model.digest
    (with_list / PHRASES_FILE).write_text("phrases: [1]\n")
    with pytest.raises(UsageError, match=r"phrases.yaml:1: phrase 1"):
        BaselineSTTModel(str(with_list))
