"""Suites from JSON lines: the names that people give to path and text, and rows that cannot judge."""

import json
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import UsageError
from mondegreen.regression.suites import load_index
from tests.regression.regression_project import SENTENCES, ToneModel, regression_tester, write_tone

INDEX = Path("data/regression/suites.yaml")
SOURCE = Path("data/evaluation/test.jsonl")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MONDEGREEN_DATABASE_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    for place in ("data/evaluation/audio", "recordings"):
        Path(place).mkdir(parents=True)
    for number in range(3):
        write_tone(SOURCE.parent / f"audio/{number}.wav", number)
    write_tone(Path("recordings/3.wav"), 3)


def write(*rows: dict[str, Any] | str) -> Path:
    SOURCE.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return SOURCE


def register(name: str = "Critical Benchmark", **more: Any) -> str:
    return regression_tester().register_test(
        test_name=name, test_type="benchmark", test_data_path="data/evaluation/test.jsonl",
        baseline_wer=0.15, baseline_cer=0.08, baseline_version="baseline_v1", **more,
    )  # fmt: skip


def test_the_usual_names_and_every_kind_of_path_are_taken_and_the_copy_needs_nothing_else() -> None:
    write(
        {"audio_path": "audio/0.wav", "reference": SENTENCES[0], "speaker": "Ada"},
        {"audio_filepath": "data/evaluation/audio/1.wav", "text": SENTENCES[1], "duration": 9.0},
        {"file": str(Path("data/evaluation/audio/2.wav").resolve()), "transcript": SENTENCES[2]},
        {"audio": "recordings/3.wav", "sentence": SENTENCES[3]},  # not below the file's folder: from where we are
    )
    assert register() == "Critical Benchmark"
    (suite,) = load_index(INDEX)
    assert (suite.name, suite.baseline_wer, suite.baseline_version) == ("Critical Benchmark", 0.15, "baseline_v1")
    assert register() == "Critical Benchmark" and load_index(INDEX) == [suite]  # again: nothing new
    for path in SOURCE.parent.rglob("*.*"):
        path.unlink()
    results = regression_tester().run_test_suite("finetuned_v1", ToneModel().transcribe)
    assert results.passed and len(results.suites) == 1
    copied = list(INDEX.parent.rglob("*.wav"))
    assert len(copied) == 4 and not any(path.is_symlink() for path in copied)


GOOD = {"audio_path": "audio/0.wav", "reference": SENTENCES[0]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"audio_path": "audio/9.wav", "reference": "x"}, "test.jsonl:2: there is no recording audio/9.wav"),
        ({"audio_path": "audio/1.wav"}, "test.jsonl:2: field text: it is empty or missing"),
        ({"audio_path": "audio/1.wav", "reference": " "}, "test.jsonl:2: field text"),
        ({"audio_path": "audio/1.wav", "reference": 3}, "test.jsonl:2: its text is no text"),
        ({"reference": "x"}, "test.jsonl:2: it names no recording"),
        ({"audio_path": "audio/1.wav", "reference": "x", "source": "llm: llama"}, "test.jsonl:2: .*a machine wrote it"),
        ({"audio_path": "test.jsonl", "reference": "x"}, "test.jsonl:2: "),
        (GOOD, "test.jsonl:2: .*is that of .*test.jsonl:1 already"),
        ("{audio_path: audio/1.wav}", "test.jsonl:2: it is not JSON"),
        (
            '{"audio_path": "audio/1.wav", "reference": "x", "reference": "y"}',
            "jsonl:2: .*reference stands twice",
        ),
        ("[1]", "test.jsonl:2: it is no JSON object"),
    ],
)
def test_a_row_that_cannot_judge_is_named_and_nothing_is_imported(row: dict[str, Any] | str, problem: str) -> None:
    write(GOOD, row)
    with pytest.raises(UsageError, match=problem):
        register()
    assert not INDEX.parent.exists()


def test_no_rows_and_no_file_are_errors() -> None:
    write()
    with pytest.raises(UsageError, match="has no rows"):
        register()
    SOURCE.unlink()
    with pytest.raises(UsageError, match=r"test\.jsonl does not exist"):
        register()
