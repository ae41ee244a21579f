"""What stages do with many recordings: the same by this process and by a Ray of two workers."""

from pathlib import Path

import pytest

from mondegreen.config import ComputeParams, Params
from mondegreen.errors import MondegreenError
from mondegreen.records import Utterance
from mondegreen.speech import corpus_transcription
from mondegreen.speech.channels import content_digest
from mondegreen.speech.corpus_transcription import ClusterModel, load_for_many, transcribe_corpus
from mondegreen.speech.examining import examine_all, processes

pytestmark = pytest.mark.xdist_group("ray")
ENGINES = ("local", "ray")


def params(engine: str) -> Params:
    return Params.model_validate({"compute": {"engine": engine, "workers": 1}})


def utterances(folder: Path) -> list[Utterance]:
    common = {"duration": 1.0, "condition": "", "speaker": "", "reference": "", "split": "test", "domain": "target"}
    return [
        Utterance(id=path.name, path=str(path), sha256=content_digest(path), recording=path.stem, **common)  # type: ignore[arg-type]
        for path in sorted(folder.iterdir())
    ]


def test_prepare_and_evaluate_find_the_same(ray_of_two: str, calls: Path, model: Path, tmp_path: Path) -> None:
    found = {}
    for engine in ENGINES:
        settings = params(engine)
        paths = sorted(calls.iterdir())
        examined = list(examine_all(paths, settings.audio, processes(settings.compute)))
        stt = load_for_many(str(model), settings)
        assert isinstance(stt, ClusterModel) == (engine == "ray")
        heard = transcribe_corpus(utterances(calls), stt, tmp_path / engine)
        assert list(transcribe_corpus(utterances(calls)[:2], stt, tmp_path / engine)) == heard[:2]
        found[engine] = ([one.model_dump() for one in examined], [one.model_dump() for one in heard])
    assert found["local"] == found["ray"]
    assert sum(bool(row["error"]) for row in found["ray"][1]) == 2
    assert (Path("var") / "features").is_dir()  # of the workers


def test_recordings_keep_their_order_whoever_is_done_first(
    calls: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(calls.iterdir())
    monkeypatch.setattr(corpus_transcription, "PART", 2)
    stt = ClusterModel(str(model), Params(), cached=False)
    backwards = corpus_transcription.map_shards
    monkeypatch.setattr(corpus_transcription, "map_shards", lambda *given, **more: [*backwards(*given, **more)][::-1])
    assert [result.path for result in stt.transcribe_many(paths)] == [str(path) for path in paths]


def test_a_part_that_is_not_done_ends_the_stage_with_its_reason(
    calls: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stt = ClusterModel(str(model), Params(compute=ComputeParams()))  # the workers of this process
    monkeypatch.setattr(corpus_transcription.BaselineSTTModel, "transcribe_many", lambda *_: 1 / 0)
    with pytest.raises(MondegreenError, match=r"7 recordings from .*a\.wav on were not transcribed: ZeroDivisionError"):
        list(stt.transcribe_many(sorted(calls.iterdir())))
