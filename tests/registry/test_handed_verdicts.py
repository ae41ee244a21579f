"""A verdict as a dict, as a user hands it over: what it proves when a model is registered with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import RegistryError
from mondegreen.loop.validator import ModelValidator, ValidationConfig, ValidationResult
from mondegreen.registry.deployer import ModelDeployer, verdict_of
from mondegreen.registry.gate import DeploymentRefusedError
from mondegreen.registry.mlflow_store import connect
from tests.registry.registered import NAME, save_folder
from tests.scoring.verdict_corpus import WORDS

RULES = ValidationConfig(bootstrap_samples=1000, permutations=1000, require_retention=False)


def judged(folder: Path | None) -> ValidationResult:
    rows = [(f"{number}.wav", " ".join(WORDS), f"s{number}") for number in range(40)]
    return ModelValidator(RULES).validate_model(
        "new", lambda path: " ".join(WORDS), "old", lambda path: " ".join(WORDS[3:]), rows,
        retention_data=[], model_path=folder,
    )  # fmt: skip


@pytest.mark.parametrize(
    "handed",
    [
        lambda result: result.to_dict(),
        lambda result: json.loads(json.dumps(result.to_dict())),
        lambda result: result.verdict.to_dict(),
        lambda result: result.model_dump(),
        lambda result: result,
    ],
)
def test_a_result_proves_the_same_as_a_dict(light: Path, handed: Any) -> None:
    folder = save_folder(light / "model")
    version = ModelDeployer().register_model(NAME, folder, handed(judged(folder)))
    assert ModelDeployer().deploy_model(version).action == "deploy"


def test_a_dict_that_somebody_made_up_proves_nothing_and_that_is_said(
    light: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployer = ModelDeployer()
    version = deployer.register_model(NAME, save_folder(light / "model"), {"passed": True, "wer_improvement": 0.2})
    assert "is no verdict of mondegreen's" in caplog.text and caplog.messages[-1] in deployer.notes
    assert "proves nothing" in str(connect().get_model_version(NAME, "1").description)
    with pytest.raises(DeploymentRefusedError, match="no verdict"):
        deployer.deploy_model(version)


def test_a_verdict_that_names_no_model_proves_nothing_of_any_folder(light: Path) -> None:
    nameless, folder = judged(None), save_folder(light / "model")
    assert nameless.passed and not nameless.model_digest
    version = ModelDeployer().register_model(NAME, folder, nameless)
    said = "(?s)does not say which model it is about.*model_path"
    with pytest.raises(DeploymentRefusedError, match=said) as refused:
        ModelDeployer().deploy_model(version)
    assert [refusal.code for refusal in refused.value.refusals] == ["digest"]
    ModelDeployer().deploy_model(version, override=["verdict"], reason="heard by a service of ours")


def edit_inside(facts: dict[str, Any]) -> None:
    facts["verdict"]["wer_improvement"] = 0.9


def edit_outside(facts: dict[str, Any]) -> None:
    facts["passed"] = not facts["passed"]


def unseal(facts: dict[str, Any]) -> None:
    facts["verdict"]["seal"] = ""


@pytest.mark.parametrize("edit", [edit_inside, edit_outside, unseal])
def test_an_edited_result_is_refused(light: Path, edit: Any) -> None:
    folder = save_folder(light / "model")
    facts = judged(folder).to_dict()
    edit(facts)
    with pytest.raises(RegistryError, match=r"not as it was written|something else than the verdict"):
        ModelDeployer().register_model(NAME, folder, facts)
    assert ModelDeployer().list_versions() == []
    with pytest.raises(RegistryError, match="not as it was written"):
        verdict_of(judged(folder).model_copy(update={"wer_improvement": 0.9}))


def test_nothing_is_no_verdict_and_needs_no_note() -> None:
    assert verdict_of(None) == (None, "")
    for made_up in ({}, {"verdict": "pass"}, {"verdict": None, "passed": True}, {"outcome": "pass", "passed": True}):
        verdict, note = verdict_of(made_up)
        assert verdict is None and "proves nothing" in note
