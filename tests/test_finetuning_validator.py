"""The fine-tuning guide's validation, as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import UsageError
from mondegreen.files import write_jsonl
from tests.scoring.verdict_corpus import WORDS, corpus


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose manifest is there, as after `dvc repro prepare`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    rows = corpus(60) + corpus(20, "r", domain="retention") + corpus(5, "d", split="train")
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)


def old_model(path: str) -> str:
    return " ".join(["eleven"] * 3 + WORDS[3:])


def new_model(path: str) -> str:
    """Hears one word more than the old one, and in every third recording two."""
    misheard = 1 + int(Path(path).stem[1:]) % 3 // 2
    return " ".join(["eleven"] * misheard + WORDS[misheard:])


def test_the_guides_call() -> None:
    from mondegreen import ModelValidator, ValidationConfig

    validator = ModelValidator(config=ValidationConfig(min_wer_improvement=0.0, require_significance=True))
    result = validator.validate_model(
        model_id="fine-tuned", model_transcribe_fn=new_model, baseline_id="base", baseline_transcribe_fn=old_model
    )
    assert result.outcome == "pass" and result.passed is True and result.failure_reason is None
    assert result.wer_improvement == pytest.approx(0.3 - 8 / 60)
    assert result.failed_samples == () and len(result.per_sample_results) == 80
    facts = result.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["passed"], facts["model_id"], facts["wer_improvement"]) == (
        True,
        "fine-tuned",
        result.wer_improvement,
    )
    assert validator.config.to_dict()["require_significance"] is True


def test_a_model_that_is_not_better_fails_with_a_sentence_that_holds_the_numbers() -> None:
    from mondegreen import ModelValidator

    result = ModelValidator().validate_model(
        model_id="fine-tuned", model_transcribe_fn=old_model, baseline_id="base", baseline_transcribe_fn=new_model
    )
    assert result.outcome == "fail" and result.passed is False and result.failure_reason
    assert result.failure_reason.startswith("Corpus WER 13.3 % -> 30.0 %, improvement -16.67 points")
    assert "significantly worse" in result.failure_reason


def test_the_guides_report() -> None:
    from mondegreen import ModelValidator

    validator = ModelValidator()
    assert "nothing passed" in validator.generate_validation_report()
    validator.validate_model("fine|tuned", new_model, "base", old_model)
    report = validator.generate_validation_report("report.md")
    assert "## fine&#124;tuned against base: pass" in report and "| all | 60 | 30.0 % | 13.3 % |" in report
    assert "Most improved" in report and "Most damaged" not in report
    assert Path("report.md").read_text() == report


def test_the_rules_are_those_of_params_yaml_when_nothing_is_given() -> None:
    from mondegreen import ModelValidator

    Path("params.yaml").write_text("validate: {min_wer_improvement: 0.5, bootstrap_samples: 1000}\n")
    validator = ModelValidator()
    assert validator.config.min_wer_improvement == 0.5
    result = validator.validate_model("new", new_model, "base", old_model)
    assert result.outcome == "fail" and "no improvement of 50.00 points" in str(result.failure_reason)


def test_without_a_manifest_it_says_what_to_run() -> None:
    from mondegreen import ModelValidator

    Path("build/prepare/manifest.jsonl").unlink()
    with pytest.raises(UsageError, match="dvc repro"):
        ModelValidator().validate_model("new", new_model, "base", old_model)


def test_a_misspelt_rule_is_an_error() -> None:
    from mondegreen import ValidationConfig

    wrong: dict[str, Any] = {"min_wer_improvment": 0.1}
    with pytest.raises(ValueError, match="min_wer_improvment"):
        ValidationConfig(**wrong)


def test_the_coordinators_validator() -> None:
    from mondegreen import DataManager, FinetuningCoordinator

    Path("params.yaml").write_text("validate: {min_wer_improvement: 0.25, bootstrap_samples: 1000}\n")
    validator = FinetuningCoordinator(data_manager=DataManager(local_storage_dir="var", use_gcs=False)).validator
    result = validator.validate_model("new", new_model, "base", old_model)
    assert result.outcome == "fail" and "no improvement of 25.00 points" in str(result.failure_reason)
    assert result.verdict.look is not None and Path("var/mondegreen.db").is_file()
