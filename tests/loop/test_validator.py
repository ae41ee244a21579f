"""ModelValidator on models of every kind of rubbish, data of every shape, and as the layer over one rule that it is."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondegreen.errors import UsageError
from mondegreen.files import write_jsonl
from mondegreen.loop.alpha_ledger import open_ledger
from mondegreen.loop.evaluation_data import read_evaluation_data
from mondegreen.loop.validator import ModelValidator, ValidationConfig
from mondegreen.speech.transcriber import Transcription
from tests.scoring.verdict_corpus import WORDS, corpus, hyps, params, verdict_on

Model = Callable[[str], Any]
RULES = ValidationConfig(bootstrap_samples=1000, permutations=1000)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


def says(misheard: int) -> Model:
    return lambda path: " ".join(["eleven"] * misheard + WORDS[misheard:])


def rows(count: int = 40, prefix: str = "a") -> list[tuple[str, str, str]]:
    return [(f"{prefix}{number}.wav", " ".join(WORDS), f"s{number}") for number in range(count)]


def validate(model: Model, baseline: Model | None = None, rules: ValidationConfig = RULES, **more: Any) -> Any:
    data = {"evaluation_data": rows(), "retention_data": rows(20, "r")} | more
    return ModelValidator(rules).validate_model("new", model, "old", baseline or says(3), **data)


def test_it_is_a_thin_layer_over_the_one_rule() -> None:
    test, guard = corpus(40), corpus(20, "r", domain="retention")
    misheard = {row.path: number % 4 for number, row in enumerate(test + guard)}
    result = validate(lambda path: says(misheard[path])(path), says(2), evaluation_data=test, retention_data=guard)
    texts = lambda count, model: hyps(test + guard, count, model)  # noqa: E731
    direct = verdict_on(
        test + guard, texts(lambda number: 2, ""), texts(lambda number: number % 4, ""),
        params(bootstrap_samples=1000, permutations=1000), result.verdict.look,
    )  # fmt: skip
    assert result.verdict == direct


@pytest.mark.parametrize(
    ("rubbish", "named"),
    [(None, "NoneType"), (math.nan, "float"), (b"one two", "bytes"), (["one"], "list"), ("\ud800", "Unicode")],
)
def test_rubbish_counts_as_fully_wrong_and_the_clip_is_named(rubbish: Any, named: str) -> None:
    result = validate(lambda path: rubbish if path == "a7.wav" else says(1)(path))
    (failed,) = result.failed_samples
    assert (failed.path, failed.model) == ("a7.wav", "candidate") and named in failed.error
    (sample,) = [one for one in result.per_sample_results if one.path == "a7.wav"]
    assert sample.candidate_wer == 1.0 and sample.candidate == "" and sample.degraded
    assert any("1 candidate hypotheses have errors" in note for note in result.verdict.notes)
    assert result.to_dict()["failed_samples"][0]["path"] == "a7.wav"


def test_a_model_that_raises_everywhere_fails_and_its_clips_are_named() -> None:
    def broken(path: str) -> str:
        raise RuntimeError("CUDA out of memory")

    result = validate(broken)
    assert result.outcome == "fail" and len(result.failed_samples) == 60
    assert "Without a transcript of the candidate, and counted as fully wrong: a0.wav, a1.wav" in result.failure_reason
    assert result.failed_samples[0].error == "RuntimeError: CUDA out of memory"


def test_a_baseline_that_raises_makes_nobody_better() -> None:
    def broken(path: str) -> str:
        raise ValueError(path)

    result = validate(says(0), broken)
    assert result.outcome == "inconclusive" and "the baseline failed on 40 test utterances" in result.failure_reason


def test_empty_hypotheses_are_transcripts() -> None:
    result = validate(lambda path: "")
    assert result.outcome == "fail" and result.failed_samples == ()
    assert {one.candidate_wer for one in result.per_sample_results} == {1.0}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), st.text(), st.floats(), st.binary(), st.booleans()), min_size=1, max_size=5))
def test_nothing_that_a_model_returns_is_an_exception(answers: list[Any]) -> None:
    result = validate(lambda path: answers[len(path) * 7 % len(answers)], evaluation_data=rows(8), retention_data=[])
    assert result.outcome in ("fail", "inconclusive") and result.failure_reason


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: {"text": text},
        lambda text: SimpleNamespace(text=text),
        lambda text: Transcription(
            path="", text=text, confidence=1, duration=1, words=[], nbest=[], real_time_factor=1, model="m"
        ),
    ],
)
def test_a_text_may_come_in_any_of_the_usual_shapes(wrap: Callable[[str], Any]) -> None:
    assert validate(lambda path: wrap(says(1)(path))).passed


class Heard:
    """A model with an identity, as BaselineSTTModel has one."""

    def __init__(self, digest: str, misheard: int) -> None:
        self.digest, self.misheard = digest, misheard

    def transcribe(self, path: str) -> str:
        return str(says(self.misheard)(path))


def test_digests_come_from_the_models_of_bound_methods() -> None:
    result = validate(Heard("d" * 64, 1).transcribe, Heard("b" * 64, 3).transcribe)
    assert (result.model_digest, result.baseline_digest) == ("d" * 64, "b" * 64)
    assert (validate(says(1)).model_digest, validate(says(1)).baseline_digest) == ("", "")


def test_a_digest_may_be_that_of_a_folder(tmp_path: Path) -> None:
    from mondegreen.speech.model_folder import model_digest

    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    result = validate(says(1), model_path=tmp_path / "model")
    assert result.model_digest == model_digest(tmp_path / "model") and result.baseline_digest == ""


def test_each_validation_is_a_look() -> None:
    looks = [validate(says(misheard)).verdict.look.number for misheard in (1, 2, 1)]
    assert looks == [1, 2, 1]
    with open_ledger() as ledger:
        assert len(ledger.history()) == 2


@pytest.mark.parametrize("data", [[], [{"path": "a.wav", "reference": ""}], [("a.wav", "?!")]])
def test_no_data_is_inconclusive_also_without_significance(data: list[Any]) -> None:
    rules = RULES.model_copy(update={"require_significance": False, "require_retention": False})
    result = validate(says(0), rules=rules, evaluation_data=data, retention_data=[])
    assert result.outcome == "inconclusive" and not result.passed and "nothing can be judged" in result.failure_reason
    assert result.wer_improvement is None


def test_data_may_be_a_csv_whose_paths_are_relative_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    lines = ["path,text,speaker,source"]
    for number in range(40):
        (folder / f"{number}.wav").write_bytes(bytes([number]))
        lines.append(f"{number}.wav,{' '.join(WORDS)},s{number},tape {number // 2}")
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    heard: list[str] = []

    def model(path: str) -> str:
        heard.append(path)
        return str(says(1)(path))

    result = validate(model, evaluation_data=folder / "test.csv")
    assert result.passed and result.verdict.speakers == 40 and result.verdict.unit == "speaker"
    assert Path(heard[0]) == folder / "0.wav"
    assert validate(model, evaluation_data=str(folder / "test.csv")).verdict.look == result.verdict.look


@pytest.mark.parametrize(
    "names",
    [
        {"recording": "call {}"}, {"recording_id": "call {}"}, {"source": "call {}; cut by hand"},
        {"recording": "call {}", "source": "a corpus"}, {"recording": "", "source": "call {}"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_pieces_of_few_calls_are_few_recordings_whatever_names_the_call(names: dict[str, str], suffix: str) -> None:
    rows = [
        {"path": f"{number}.wav", "text": " ".join(WORDS)}
        | {key: name.format(number % 3) for key, name in names.items()}
        for number in range(24)
    ]
    table = Path("set" + suffix)
    if suffix == ".csv":
        table.write_text("\n".join(",".join(line) for line in (rows[0], *(row.values() for row in rows))) + "\n")
        for row in rows:
            Path(row["path"]).write_bytes(row["path"].encode())
    else:
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len({row.recording for row in read_evaluation_data(table, "target")}) == 3
    result = validate(says(1), evaluation_data=table)
    assert result.outcome == "inconclusive" and result.verdict.unit == "recording"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.wav", "row 2: str is no row"),
        (("a.wav",), "row 2: tuple is no row"),
        ({"reference": "one"}, "row 2: field path"),
        ({"path": "a.wav", "reference": math.nan}, "row 2: field reference: float is no text"),
        (None, "row 2: NoneType is no row"),
    ],
)
def test_a_wrong_row_is_named(row: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        validate(says(1), evaluation_data=[("b.wav", "one"), row])


def test_data_may_be_json_lines_with_the_usual_names(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    names = ("audio_path", "path", "audio_filepath", "file"), ("reference", "text", "transcript", "sentence")
    lines = [
        json.dumps({names[0][number % 4]: f"{number}.wav", names[1][number % 4]: " ".join(WORDS), "speaker": number})
        for number in range(40)
    ]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    result = validate(says(1), evaluation_data=folder / "test.jsonl")
    assert result.passed and result.verdict.speakers == 40
    assert {Path(one.path).parent for one in result.per_sample_results if one.domain == "target"} == {folder}
    (folder / "test.jsonl").write_text(lines[0] + '\n{"audio_path": "b.wav", "reference": 7}\n')
    with pytest.raises(UsageError, match=r"test\.jsonl:2: field reference: int is no text"):
        validate(says(1), evaluation_data=folder / "test.jsonl")
    (folder / "test.jsonl").write_text(lines[0] + "\n{path: b.wav}\n")
    with pytest.raises(UsageError, match=r"test\.jsonl:2: it is not JSON"):
        validate(says(1), evaluation_data=folder / "test.jsonl")


def test_data_of_ones_own_spend_no_look_at_the_projects_test_set() -> None:
    """Unless they are it: under another name it would judge any number of candidates at the whole alpha."""
    own = corpus(60)
    write_jsonl(Path("build/prepare/manifest.jsonl"), own + corpus(20, "r", domain="retention"))

    def look(misheard: int, data: Any) -> int:
        return int(validate(says(misheard), evaluation_data=data, retention_data=None).verdict.look.number)

    assert [look(misheard, rows()) for misheard in (0, 1, 2)] == [1, 2, 3]
    assert look(0, None) == 1  # nobody has looked at it so far
    assert look(4, rows()) == 4
    assert look(1, None) == 2
    assert look(2, own[:40]) == 3


def test_what_the_guide_reads_of_a_result() -> None:
    better, worse = validate(says(1)), validate(says(3), says(1))
    assert better.cer_improvement == better.verdict.baseline.cer.rate - better.verdict.candidate.cer.rate > 0
    assert worse.cer_improvement < 0 < better.p_value < worse.p_value
    assert (better.is_significant, worse.is_significant) == (True, False)
    facts = better.to_dict()
    assert {name: facts[name] for name in ("cer_improvement", "p_value", "is_significant")} == {
        "cer_improvement": better.cer_improvement, "p_value": better.p_value, "is_significant": True,
    }  # fmt: skip
    assert validate(says(0), evaluation_data=[], retention_data=[]).cer_improvement is None


def test_a_missing_csv_and_a_missing_recording_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv does not exist"):
        validate(says(1), evaluation_data="none.csv")
    Path("list.csv").write_text("path,text\ngone.wav,one two\n")
    with pytest.raises(UsageError, match=r"list\.csv:2: field path: there is no recording gone\.wav"):
        validate(says(1), evaluation_data="list.csv")


@pytest.mark.parametrize("column", ["source", "method", "reference_source"])
def test_references_of_a_machine_are_refused_in_rows_and_in_csvs(column: str) -> None:
    data = [{"path": path, "text": text, "speaker": speaker} for path, text, speaker in rows()]
    data[5][column] = "llm: llama3.2:3b"
    with pytest.raises(UsageError, match=r"1 of 60 references that would judge were written by a machine: a5\.wav"):
        validate(says(1), evaluation_data=data)
    Path("a.wav").write_bytes(b"a")
    Path("list.csv").write_text(f"path,text,{column}\na.wav,one two,LLM\n")
    with pytest.raises(UsageError, match="written by a machine"):
        validate(says(1), evaluation_data="list.csv")
    allowed = RULES.model_copy(update={"allow_llm_references": True})
    result = validate(says(1), rules=allowed, evaluation_data=data)
    assert result.passed and result.llm_references == 1 and "A MACHINE WROTE" in result.verdict.claim


def test_the_projects_retention_set_guards_data_of_ones_own() -> None:
    write_jsonl(Path("build/prepare/manifest.jsonl"), corpus(20, "r", domain="retention") + corpus(9, "t"))

    def forgetful(path: str) -> str:
        return str(says(9 if path.startswith("data/r") else 0)(path))

    result = validate(forgetful, retention_data=None)
    assert result.outcome == "fail" and "retention: WER rose" in result.failure_reason
    assert {one.domain for one in result.per_sample_results} == {"target", "retention"}
    assert len(result.per_sample_results) == 60


def test_a_recording_twice_is_one_recording() -> None:
    data = [(f"a{number % 6}.wav", " ".join(WORDS)) for number in range(60)]
    result = validate(says(0), evaluation_data=data)
    assert result.verdict.clusters == 6 and result.outcome == "inconclusive"


def test_progress_counts_both_models() -> None:
    done: list[int] = []
    validate(says(1), on_progress=done.append)
    assert done == list(range(1, 121))


def test_a_model_that_breaks_when_it_takes_many_is_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from mondegreen.speech import corpus_transcription
    from mondegreen.speech.transcriber import BaselineSTTModel

    def broken(*arguments: Any, **others: Any) -> Any:
        raise RuntimeError("the batch does not fit")

    monkeypatch.setattr(corpus_transcription, "transcribe_corpus", broken)
    model = BaselineSTTModel.__new__(BaselineSTTModel)
    monkeypatch.setattr(BaselineSTTModel, "digest", "d" * 64)
    monkeypatch.setattr(BaselineSTTModel, "transcribe", lambda self, path: says(1)(path))
    monkeypatch.setattr(BaselineSTTModel.transcribe, "__name__", "transcribe")
    result = validate(model.transcribe)
    assert result.passed and result.model_digest == "d" * 64
