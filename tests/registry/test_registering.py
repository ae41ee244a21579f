"""Registering: one version a candidate, stage and alias together, and no way to production without a pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mondegreen.config import Params
from mondegreen.db import open_database
from mondegreen.errors import RegistryError
from mondegreen.files import write_json, write_text
from mondegreen.records import Outcome, RegisteredVersion, RegressionResults, SuiteResult
from mondegreen.registry import aliases
from mondegreen.registry.deployer import ModelDeployer
from mondegreen.registry.doctor import examine
from mondegreen.registry.gate import DeploymentRefusedError
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.package import DIGEST_TAG
from mondegreen.registry.record import VerdictTags
from mondegreen.registry.register import is_worse, register
from mondegreen.registry.regression_runs import list_runs
from mondegreen.registry.resolving import lost, resolve_uri
from mondegreen.registry.runs import start_run

NAME = "fine-tuned-stt"
Candidate = Callable[..., RegisteredVersion]


@pytest.fixture
def candidate(project: Path, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """Registers a folder that stands for a model; `run` registers again in an earlier run."""
    # The code is the same in every package; copying it is tested once, with the real model.
    (project / "code").mkdir()
    monkeypatch.setattr("mondegreen.registry.package._CODE", project / "code")

    def make(
        digest: str,
        outcome: Outcome = "pass",
        suites: bool | None = True,
        promote: bool = False,
        run: str = "",
        heard: list[SuiteResult] | None = None,
        **verdict: Any,
    ) -> RegisteredVersion:
        folder = project / "build" / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(f'"{digest}"', encoding="utf-8")
        save_file({"weight": np.zeros(4, np.float32)}, folder / "model.safetensors")
        if not run:
            with start_run(Params()) as run:
                pass
        if promote:
            verdict = {"baseline_digest": champion_digest()} | verdict
        results = RegressionResults(
            passed=suites is True, reason="", model=digest, suites=heard or [], registered=suites is not None
        )
        return register(
            NAME,
            run,
            folder,
            digest=digest,
            verdict=VerdictTags(outcome, model_digest=digest, **verdict),
            results=results,
            promote=promote,
            card="# Card",
            tags={"p_value": "0.01"},
        )

    return make


def champion_digest() -> str:
    """What a candidate is compared with by the stage: the champion of now, if there is one."""
    held = aliases.holdings(NAME).aliases.get("champion")
    return aliases.tag_of(NAME, held, DIGEST_TAG) or "" if held else ""


def state() -> dict[int, tuple[str, list[str]]]:
    """Version to its stage and aliases."""
    client = connect()
    versions = [client.get_model_version(NAME, v.version) for v in client.search_model_versions(f"name = '{NAME}'")]
    return {int(v.version): (v.current_stage, list(v.aliases)) for v in versions}


def test_a_candidate_goes_to_staging_as_challenger(candidate: Candidate) -> None:
    made = candidate("d1")
    assert (made.version, made.stage, made.alias, made.uri) == (1, "Staging", "challenger", f"models:/{NAME}/1")
    assert state() == {1: ("Staging", ["challenger"])}
    version = connect().get_model_version(NAME, "1")
    assert version.description.startswith("# Card\n\n[run](#/experiments/") and version.run_id == made.run_id
    assert version.tags["outcome"] == "pass" and version.tags["digest"] == "d1" and version.tags["p_value"] == "0.01"


def test_a_new_challenger_archives_the_one_before(candidate: Candidate) -> None:
    candidate("d1")
    candidate("d2")
    assert state() == {1: ("Archived", []), 2: ("Staging", ["challenger"])}


JUDGED: dict[str, Any] = {"outcome": "pass", "wer_improvement": 0.05, "baseline_digest": "b", "reference_digest": "t"}


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        ({"wer_improvement": 0.06}, False),
        ({}, False),  # as good is enough
        ({"wer_improvement": 0.04}, True),
        ({"outcome": "inconclusive", "wer_improvement": 0.2}, True),
        ({"outcome": "fail"}, True),
        ({"suites": "fail", "wer_improvement": 0.2}, True),
        ({"wer_improvement": float("nan")}, True),
        ({"wer_improvement": None}, True),
        ({"outcome": "fail", "baseline_digest": "another"}, False),  # nobody knows which of the two is better
        ({"outcome": "fail", "reference_digest": "another"}, False),
        ({"outcome": "fail", "reference_digest": ""}, False),
    ],
)
def test_worse_is_what_the_same_model_and_test_set_show(change: dict[str, Any], worse: bool) -> None:
    def tags(suites: str = "pass", **verdict: Any) -> dict[str, str]:
        return {**VerdictTags(**verdict).tags(), "regression": suites}

    assert is_worse(tags(**JUDGED | change), tags(**JUDGED)) == worse


def test_a_worse_candidate_is_registered_without_an_alias(candidate: Candidate) -> None:
    candidate("d1", **JUDGED)
    made = candidate("d2", **JUDGED | {"wer_improvement": 0.01})
    assert (made.stage, made.alias) == ("None", "") and "version 1, is better" in made.reason
    assert state() == {1: ("Staging", ["challenger"]), 2: ("None", [])}
    assert candidate("d2", run=made.run_id, **JUDGED | {"wer_improvement": 0.01}) == made
    assert candidate("d2", run=made.run_id, **JUDGED).alias == "challenger"
    assert state() == {1: ("Archived", []), 2: ("Staging", ["challenger"])}


def test_a_project_without_suites_promotes_and_says_that_there_were_none(candidate: Candidate) -> None:
    assert candidate("aa", suites=None, promote=True).stage == "Production"
    assert connect().get_model_version(NAME, "1").tags["regression"] == "none"


def test_results_that_another_machine_made_are_put_on_record_once(candidate: Candidate, project: Path) -> None:
    """DVC's cache gave results.json back: nothing was run here, and the gate asks which suites were."""
    write_text(project / "data/regression/suites.yaml", "suites: [{name: core}]\n")
    core = SuiteResult(name="core", kind="critical", outcome="pass", reason="")
    made = candidate("d1", heard=[core], promote=True)
    assert made.alias == "champion"
    assert candidate("d1", heard=[core], run=made.run_id).version == made.version
    (run,) = list_runs(open_database(project / "var"))
    assert (run.model_digest, run.results.suites) == ("d1", [core])
    other = SuiteResult(name="other", kind="critical", outcome="pass", reason="")
    with pytest.raises(DeploymentRefusedError, match="without core"):
        candidate("d2", heard=[other], promote=True)


def test_a_pass_that_may_promote_takes_over_production(candidate: Candidate) -> None:
    candidate("d1", promote=True)
    candidate("d2", promote=True)
    assert state() == {1: ("Archived", ["previous"]), 2: ("Production", ["champion"])}
    candidate("d3", promote=True)
    assert state()[1] == ("Archived", []) and state()[2] == ("Archived", ["previous"])


def test_what_was_rolled_back_comes_back_by_a_person_and_not_by_itself(candidate: Candidate) -> None:
    """Registered again by an upgrade, or trained again of the same data, it has the same verdict as before."""
    candidate("d1", promote=True)
    made = candidate("d2", promote=True)
    ModelDeployer().rollback(reason="callers complain")
    again = candidate("d2", run=made.run_id, promote=True)
    assert (again.version, again.alias) == (2, "") and "it was rolled back from" in again.reason
    retrained = candidate("d2", promote=True)
    assert (retrained.version, retrained.alias) == (3, "") and "the bytes of version 2, which was" in retrained.reason
    assert state() == {1: ("Production", ["champion"]), 2: ("Archived", []), 3: ("None", [])}
    ModelDeployer().deploy_model("2", reason="it was right after all")
    assert candidate("d2", run=made.run_id, promote=True).alias == "champion"


def test_a_pass_against_another_model_than_the_champion_waits_for_a_person(candidate: Candidate) -> None:
    candidate("d1", promote=True, baseline_digest="starter")
    made = candidate("d2", promote=True, baseline_digest="starter")
    assert made.alias == "challenger" and "compares with model starter, not with champion version 1" in made.reason
    assert "@challenger: it is not promoted by itself" in str(made)
    assert state() == {1: ("Production", ["champion"]), 2: ("Staging", ["challenger"])}
    ModelDeployer().deploy_model("@challenger")
    assert candidate("d3", promote=True, baseline_digest="d2").alias == "champion"
    silent = candidate("d4", promote=True, baseline_digest="")
    assert silent.alias == "challenger" and "nothing shows that its verdict compares with champion" in silent.reason


def test_the_version_before_does_not_take_a_better_challengers_place(candidate: Candidate) -> None:
    """Registered again, as its verdict was written anew."""
    first = candidate("d1", promote=True, **JUDGED | {"wer_improvement": 0.01})
    candidate("d2", promote=True)
    candidate("d3", **JUDGED)
    again = candidate("d1", run=first.run_id, promote=True, **JUDGED | {"wer_improvement": 0.02})
    assert again.alias == "previous" and "the challenger, version 3, is better" in again.reason
    assert state() == {1: ("Archived", ["previous"]), 2: ("Production", ["champion"]), 3: ("Staging", ["challenger"])}


@pytest.mark.parametrize(
    ("outcome", "suites"), [("fail", True), ("inconclusive", True), ("pass", False), ("fail", False)]
)
def test_nothing_but_a_pass_is_promoted(candidate: Candidate, outcome: Outcome, suites: bool) -> None:
    candidate("d1", promote=True)
    made = candidate("d2", outcome, suites, promote=True)
    assert made.stage == "Staging" and made.outcome == outcome
    assert state() == {1: ("Production", ["champion"]), 2: ("Staging", ["challenger"])}


def test_registering_again_after_a_crash_gives_the_same_version(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> None:
        raise RuntimeError("power cut")

    with start_run(Params()) as run:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(aliases, "align_stages", crash)
        with pytest.raises(RuntimeError):
            candidate("d1", promote=True, run=run)
    made = candidate("d1", promote=True, run=run)
    assert made.version == 1 and state() == {1: ("Production", ["champion"])}


def test_a_challenger_can_be_promoted_later(candidate: Candidate) -> None:
    candidate("d0", promote=True)
    first = candidate("d1")
    assert candidate("d1", promote=True, run=first.run_id).version == first.version
    assert state() == {1: ("Archived", ["previous"]), 2: ("Production", ["champion"])}


def test_a_new_verdict_on_the_same_weights_replaces_the_old_one(candidate: Candidate) -> None:
    first = candidate("d1", "inconclusive")
    again = candidate("d1", "fail", run=first.run_id)
    assert again.version == first.version
    assert connect().get_model_version(NAME, str(again.version)).tags["outcome"] == "fail"


def test_registering_the_champion_again_does_not_demote_it(candidate: Candidate) -> None:
    first = candidate("d1", promote=True)
    again = candidate("d1", run=first.run_id)
    assert again == first and state() == {1: ("Production", ["champion"])}


def test_a_model_with_a_pickle_is_refused(candidate: Candidate, project: Path) -> None:
    pickle = project / "build" / "model" / "pytorch_model.bin"
    pickle.parent.mkdir(parents=True)
    pickle.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(RegistryError, match="only safetensors and JSON"):
        candidate("d1")
    assert not connect().search_registered_models()


def test_other_weights_of_the_same_run_are_another_version(candidate: Candidate) -> None:
    first = candidate("d1")
    assert candidate("d2", run=first.run_id).version == 2


def test_regression_results_of_another_model_are_refused(project: Path) -> None:
    results = RegressionResults(passed=True, reason="", model="other", suites=[])
    with pytest.raises(RegistryError, match="of model other"):
        register(NAME, "r", project, digest="d1", verdict=VerdictTags("pass"), results=results, promote=True)


def test_an_alias_resolves_to_the_model_folder(candidate: Candidate) -> None:
    candidate("d1")
    folder = resolve_uri(f"models:/{NAME}@challenger")
    assert (folder / "config.json").read_text(encoding="utf-8") == '"d1"'


def test_an_unknown_alias_says_where_to_look(candidate: Candidate) -> None:
    candidate("d1")
    with pytest.raises(RegistryError, match="models deploy @challenger"):
        resolve_uri(f"models:/{NAME}@champion")


def test_a_version_that_this_registry_lacks_is_noticed_and_registered_again(
    candidate: Candidate, project: Path
) -> None:
    """DVC's run cache gave back run.json and version.json, and the registry is empty or another one."""

    def warned() -> list[str]:
        return [found.text for found in examine(NAME, project / "var") if found.check == "candidate" and found.remedy]

    elsewhere = RegisteredVersion(
        name=NAME, version=7, stage="Staging", alias="challenger", reason="", outcome="pass", run_id="f" * 32,
        digest="d", uri=f"models:/{NAME}/7",
    )  # fmt: skip
    write_json(project / "build/register/version.json", elsewhere)
    assert f"does not have {NAME} version 7" in warned()[0]
    with pytest.raises(RegistryError, match=f"does not have {NAME} version 7.*dvc repro"):
        ModelDeployer(model_name=NAME).deploy_model("@challenger")
    with pytest.raises(RegistryError) as of_another:
        ModelDeployer(model_name="another").deploy_model("@challenger")
    assert "does not have" not in str(of_another.value), "the file is about a version of another model"
    again = candidate("d", run="f" * 32)
    assert (again.version, again.alias) == (1, "challenger") and again.run_id != "f" * 32
    write_json(project / "build/register/version.json", again)
    assert not warned() and lost(again.model_copy(update={"digest": "e"})).endswith("version 1.")
