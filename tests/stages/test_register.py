"""The register stage: what it checks, and what it hands to the registry."""

from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import RegistryError
from mondegreen.files import read_json, write_json, write_text
from mondegreen.records import (
    NotRegistered,
    Rate,
    RegisteredVersion,
    Registration,
    RegressionResults,
    RunInfo,
    SliceMetrics,
)
from mondegreen.registry.ledger import Ledger
from mondegreen.registry.resolving import lost_candidate
from mondegreen.scoring.verdict import Retention, Verdict
from mondegreen.speech.model_folder import model_digest
from mondegreen.stages import register

RATE = Rate(errors=1, reference_length=8, rate=0.125, substitutions=1, deletions=0, insertions=0)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A build folder, and the arguments that the registry got."""
    monkeypatch.chdir(tmp_path)
    write_text(Path("params.yaml"), "register: {model_name: stt, auto_promote: true}\n")
    write_text(Path("build/train/model/config.json"), "{}")
    digest = model_digest(Path("build/train/model"))
    run = RunInfo(
        run_id="run", base="starter/model", base_digest="base", model_digest=digest, method="lora", merge_weight=1.0,
        best_epoch=1, dev_wer=0.1, data={"git.commit": "abc"},
    )  # fmt: skip
    write_json(Path("build/train/run.json"), run)
    results = RegressionResults(passed=True, reason="", model=digest, suites=[])
    write_json(Path("build/regress/results.json"), results)
    write_json(Path("build/validate/verdict.json"), verdict(digest))
    arguments: dict[str, Any] = {}

    def fake(name: str, run_id: str, folder: Path, **others: Any) -> RegisteredVersion:
        arguments.update(others, name=name, run_id=run_id, folder=folder)
        return RegisteredVersion(
            name=name, version=1, stage="Production", alias="champion", outcome="pass", run_id=run_id, digest=digest,
            uri="models:/stt/1",
        )  # fmt: skip

    monkeypatch.setattr("mondegreen.loop.candidate.register", fake)
    return arguments


def verdict(digest: str) -> Verdict:
    rates = SliceMetrics(utterances=1, wer=RATE, cer=RATE)
    return Verdict(
        outcome="pass", passed=True, reason="better.", claim="it holds", unit="speaker", clusters=12, utterances=12,
        words=300, speakers=12, without_reference=0, baseline=rates, candidate=rates, slices={}, wer_improvement=0.02,
        min_wer_improvement=0.0, interval=None, p_value=0.0123456, alpha=0.05, mapsswe=None,
        minimum_detectable_effect=None, retention=Retention(outcome="pass", reason="kept", margin=0.02), notes=(),
        baseline_model="base", candidate_model=digest, normalizer="spoken-1", reference_digest="r",
    ).sealed()  # fmt: skip


def test_it_registers_the_model_with_verdict_lineage_and_card(given: dict[str, Any]) -> None:
    register.main()
    assert (given["name"], given["run_id"], given["promote"]) == ("stt", "run", True)
    assert given["verdict"].outcome == "pass" and given["results"].passed
    assert given["facts"] == {
        "git.commit": "abc",
        "p_value": "0.01235",
        "wer_before": "0.125",
        "wer_after": "0.125",
        "wer_improvement": "0.02",
    }
    assert given["card"].startswith("# stt\n") and given["told"].lower().count("pass") == 1, given["told"]
    assert read_json(Path("build/register/version.json"), RegisteredVersion).alias == "champion"


def test_it_registers_again_what_the_registry_lost_and_nothing_else(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def registers(digest: str | None) -> bool:
        given.clear()
        monkeypatch.setattr("mondegreen.registry.resolving.tag_of", lambda *_: digest)
        register.main()
        return bool(given)

    digest = model_digest(Path("build/train/model"))
    assert registers(None) and not registers(digest)
    assert registers(None), "DVC gave version.json back, or the registry is another one"
    assert registers("of another model")
    write_text(Path("build/validate/report.html"), "something that the stage reads")
    assert registers(digest) and not registers(digest)
    monkeypatch.setattr("mondegreen.registry.resolving.tag_of", lambda *_: None)
    assert lost_candidate("stt")[1] and lost_candidate("another") == ("", "")
    Ledger.open(Path("var"), "stt").note("delete", 1, digest=digest, details={})
    assert not registers(None) and lost_candidate("stt") == ("", ""), "nobody misses what somebody deleted"


def test_a_verdict_on_another_model_is_refused(given: dict[str, Any]) -> None:
    write_json(Path("build/validate/verdict.json"), verdict("0" * 64))
    with pytest.raises(RegistryError, match="dvc repro"):
        register.main()
    assert not given and not Path("build/register/version.json").exists()


def test_a_trial_is_not_registered(given: dict[str, Any]) -> None:
    tried = verdict(model_digest(Path("build/train/model"))).model_copy(update={"outcome": "trial", "passed": False})
    write_json(Path("build/validate/verdict.json"), tried.sealed())
    register.main()
    assert not given and isinstance(read_json(Path("build/register/version.json"), Registration).root, NotRegistered)


def test_a_verdict_that_was_edited_by_hand_is_refused(given: dict[str, Any]) -> None:
    path = Path("build/validate/verdict.json")
    path.write_text(path.read_text().replace('"words": 300', '"words": 3000'))
    with pytest.raises(RegistryError, match="not as it was written"):
        register.main()
    assert not given
